"""Compile a graph for OpenCL, run it on the first device here (PoCL in CI) and compare it with the interpreter in float64."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from backend_run import arrays_for, reference

import tersor
from tersor.backend.emit.device import nvcc
from tersor.backend.runtime.device.opencl import device
from tersor.backend.runtime.model import CompiledModel
from tersor.ir.errors import TersorError
from tersor.ir.graph import Graph


@functools.cache
def missing() -> str:
    """Why no OpenCL code can run here; empty where it can."""
    try:
        device()
    except TersorError as error:
        return str(error)
    return ""


needs_nvcc = pytest.mark.skipif(nvcc() is None, reason="nvcc is not installed")
needs_opencl = pytest.mark.skipif(bool(missing()), reason=missing() or "an OpenCL device is here")


def close(got: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-4) -> None:
    """Equal integers and bools; floats within `tolerance` of the largest value, and NaN and infinity where they are."""
    assert got.shape == wanted.shape
    if got.dtype.kind != "f":
        np.testing.assert_array_equal(got, wanted.astype(got.dtype))
        return
    scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-30)
    np.testing.assert_allclose(got.astype(np.float64), wanted, rtol=0, atol=tolerance * scale)


def compiled(graph: Graph) -> CompiledModel:
    return tersor.compile(graph, target="opencl")


def check(graph: Graph, arrays: list[np.ndarray] | None = None, tolerance: float = 1e-4) -> CompiledModel:
    """The compiled model, after its results were compared."""
    arrays = arrays_for(graph) if arrays is None else arrays
    model = compiled(graph)
    program = model.program(model.entry_for(arrays))
    for got, want in zip(program.run(arrays), reference(graph, arrays)):
        close(got, want, tolerance)
    return model
