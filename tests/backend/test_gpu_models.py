"""Models compiled for GPUs: called, measured, saved and loaded; what is missing is one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo
from end_to_end import check as end_to_end
from opencl_run import needs_nvcc, needs_opencl
from runtime_models import TwoHeads, traced

import tersor
from tersor import transform
from tersor.backend.intermediates import kernel_values
from tersor.backend.runtime.device import opencl
from tersor.backend.runtime.device.compiled import DeviceModel
from tersor.ir.evaluate import evaluate, to_numpy

#: Networks that `make test` runs; `test_gpu_networks` has full sizes.
SMALL = ("detector", "super_resolution", "text")


@needs_opencl
@pytest.mark.parametrize("name", SMALL)
def test_small_networks_at_two_batches(name: str) -> None:
    end_to_end(*zoo.built(name), target="opencl", limit=1e-4)


@needs_opencl
def test_saved_loaded_measured(tmp_path: Path) -> None:
    _, inputs = zoo.built("conv_add_relu")
    model = tersor.compile(zoo.traced("conv_add_relu"), target="opencl")
    model.save(tmp_path / "m.tso")
    again = tersor.load_compiled(tmp_path / "m.tso")
    assert isinstance(again, DeviceModel) and again.manifest == model.manifest
    for y, z in zip(_leaves(model(*inputs)), _leaves(again(*inputs)), strict=True):
        assert torch.equal(y, z)
    profile = again.profile(rounds=1)
    assert len(profile.rows) == len(again.entries[0].steps) and profile.peak_gflops == 0 and "GFLOP/s (1 thread, opencl)" in str(profile)
    assert again.benchmark(repeat=2, warmup=0).target == "opencl" and "weights" in str(again.report)


@needs_opencl
def test_the_device_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tersor.compile(traced(TwoHeads), target="opencl")
    monkeypatch.setenv(opencl.CHOICE, "a card that nobody has")
    with pytest.raises(tersor.TersorError, match="names no OpenCL device; here are"):
        model.program(model.entry())


def test_pyopencl_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyopencl", None)
    with pytest.raises(tersor.TersorError, match=r"needs pyopencl: pip install 'tersor\[opencl\]'"):
        opencl.device()


def test_cuda_source_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    model = tersor.compile(traced(TwoHeads), target="cuda:sm_90")
    assert isinstance(model, DeviceModel) and 'extern "C" __global__' in model.source
    model.save(tmp_path / "m.tso")
    loaded = tersor.load_compiled(tmp_path / "m.tso")
    with pytest.raises(tersor.TersorError, match="nvcc was missing where it was compiled"):
        loaded.program(loaded.entry())
    with pytest.raises(tersor.TersorError, match="export_c writes code for CPUs"):
        loaded.export_c(tmp_path)


@needs_nvcc
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU here")
def test_a_cubin_needs_a_driver() -> None:
    model = tersor.compile(tersor.trace(torch.nn.ReLU(), (torch.zeros(2, 3),)), target="cuda:sm_90")
    with pytest.raises(tersor.TersorError, match="has no CUDA driver"):
        model(np.zeros((2, 3), np.float32))
    with pytest.raises(tersor.TersorError, match="nvcc cannot compile for cuda:sm_11"):
        tersor.compile(tersor.trace(torch.nn.ReLU(), (torch.zeros(2, 3),)), target="cuda:sm_11")


@needs_opencl
def test_kernel_values_are_those_of_the_interpreter() -> None:
    """What `tersor diff` looks at."""
    graph = zoo.traced("conv_add_relu")
    array = np.random.default_rng(0).standard_normal(graph.inputs[0].shape).astype(np.float32)
    seen: dict[str, np.ndarray] = {}
    evaluate(transform(graph, "default"), [torch.from_numpy(array)], observe=lambda op, y: seen.update({op.out.name: to_numpy(y)}))
    values = kernel_values(graph, [array], "opencl")
    assert values
    for name, (_, _, result) in values.items():
        np.testing.assert_allclose(result, seen[name], atol=1e-4)


def test_choices_of_cpu_kernels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(tersor.TersorError, match="tuned choices are those of CPU kernels"):
        tersor.compile(traced(TwoHeads), target="opencl", tuned=str(tmp_path / "tuned.json"))
    with pytest.raises(tersor.TersorError, match="tune measures kernels of CPUs, got target 'opencl'"):
        tersor.tune(traced(TwoHeads), target="opencl")


def _leaves(result: object) -> list[torch.Tensor]:
    return list(result) if isinstance(result, (tuple, list)) else [result]  # type: ignore[list-item]
