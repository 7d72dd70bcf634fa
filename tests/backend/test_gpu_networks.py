"""The networks of bench/architectures.py at full size for GPUs: on OpenCL against float64 torch, and as CUDA through nvcc without spills."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import pytest
from opencl_run import needs_nvcc, needs_opencl

import tersor
from tersor.backend.emit.device import DeviceEmitter, cubin, nvcc
from tersor.backend.emit.module import Weights
from tersor.backend.pipelines import lower
from tersor.backend.target import resolve
from tersor.bench.architectures import ARCHITECTURES, check

#: Kernels of one call of nvcc.
PART = 150


def has_modules(name: str) -> None:
    if name.startswith("transformers"):
        pytest.importorskip("transformers")


@needs_opencl
@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_opencl_agrees_with_float64(name: str, batch: int) -> None:
    has_modules(name)
    row = check(name, "opencl", batches=[batch], measure=False)
    assert row.passed, f"{row.failure} error {row.error:.1e}, signal {row.signal:.1e}"


@functools.cache
def kernels() -> DeviceEmitter:
    """The distinct kernels of all networks at batch 1."""
    emitter = DeviceEmitter(resolve("cuda:sm_80"))
    for name in ARCHITECTURES:
        has_modules(name)
        module, example = ARCHITECTURES[name]()
        graph = tersor.trace(module, example)
        emitter.add(lower(graph.at(1) if graph.batched else graph, emitter.target, tuned=False))
        # the weights are not needed
        emitter.weights = Weights()
    return emitter


def sources() -> Iterator[str]:
    """CUDA source of `PART` kernels each."""
    functions = list(kernels().functions.items())
    for i in range(0, len(functions), PART):
        yield DeviceEmitter(kernels().target, functions=dict(functions[i : i + PART])).source()


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize("capability", ["sm_80", "sm_90"])
def test_cuda_compiles_without_spills(capability: str) -> None:
    compiler = nvcc()
    assert compiler is not None
    seen, spilled = 0, []
    for source in sources():
        said: list[str] = []
        cubin(source, resolve(f"cuda:{capability}"), compiler, "-Xptxas", "-v", said=said.append)
        found = re.findall(r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads", said[0], re.S)
        seen += len(found)
        spilled += [kernel for kernel, *nbytes in found if "conv" in kernel and nbytes != ["0", "0"]]
    assert seen == len(kernels().functions)
    assert not spilled
