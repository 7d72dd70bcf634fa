"""The networks of bench/architectures.py at full size for GPUs: on OpenCL against float64 torch, and as CUDA through nvcc without spills."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from opencl_run import needs_nvcc, needs_opencl

import tersor
from tersor.backend.emit.device import DeviceEmitter, cubin, nvcc
from tersor.backend.emit.module import Weights
from tersor.backend.pipelines import lower
from tersor.backend.target import resolve
from tersor.bench.architectures import ARCHITECTURES, check

#: The kernels of the networks so far, by dtype.
EMITTERS: dict[str, DeviceEmitter] = {}


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


def new_kernels(name: str, dtype: str) -> DeviceEmitter:
    """The kernels of a network at batch 1 that no network before had."""
    has_modules(name)
    emitter = EMITTERS.setdefault(dtype, DeviceEmitter(replace(resolve("cuda:sm_80"), elem=dtype)))
    before = {*emitter.functions}
    module, example = ARCHITECTURES[name]()
    graph = tersor.trace(module, example)
    emitter.add(lower(graph.at(1) if graph.batched else graph, emitter.target, tuned=False))
    # the weights are not needed
    emitter.weights = Weights()
    return DeviceEmitter(emitter.target, functions={var: f for var, f in emitter.functions.items() if var not in before})


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f32", "f16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_cuda_compiles_without_spills(name: str, dtype: str) -> None:
    """ptxas reports what each kernel needs, on sm_80 and sm_90."""
    compiler, made = nvcc(), new_kernels(name, dtype)
    assert compiler is not None
    for capability in ("sm_80", "sm_90") if made.functions else ():
        said: list[str] = []
        cubin(made.source(), resolve(f"cuda:{capability}"), compiler, "-Xptxas", "-v", said=said.append)
        found = re.findall(r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads", said[0], re.S)
        assert len(found) == len(made.functions)
        assert not [kernel for kernel, *nbytes in found if "conv" in kernel and nbytes != ["0", "0"]]
