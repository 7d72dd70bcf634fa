"""Models compiled for GPUs: called, measured, saved and loaded; what is missing is one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import zoo
from cuda_emulator import Emulator, emulated, needs_compiler
from end_to_end import check as end_to_end
from opencl_run import needs_nvcc, needs_opencl
from runtime_models import TwoHeads, traced
from typer.testing import CliRunner

import tersor
from tersor import transform
from tersor.backend.emit import device as emitted
from tersor.backend.intermediates import kernel_values
from tersor.backend.runtime.device import cuda, opencl
from tersor.backend.runtime.device.compiled import DeviceModel
from tersor.backend.runtime.measure import random_inputs
from tersor.cli import app
from tersor.ir.evaluate import evaluate, to_numpy
from tersor.ir.graph import Graph

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
    for y, z in zip(zoo.leaves(model(*inputs)), zoo.leaves(again(*inputs)), strict=True):
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


@needs_opencl
@pytest.mark.parametrize("dtype", ["f32", pytest.param("f16", marks=pytest.mark.slow)])
def test_tuned_on_the_device(dtype: str, tmp_path: Path) -> None:
    """Every candidate is right, and the winners are compiled."""
    graph = tersor.trace(torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.ReLU()).eval(), (torch.zeros(1, 8, 12, 12),))
    result = tersor.tune(graph, target="opencl", batch=1, db=tmp_path / "tuned.json", dtype=dtype)
    assert not result.problems and result.rows and [*result.database.targets] == [f"opencl, {dtype}"]
    (entry,) = result.database.targets[f"opencl, {dtype}"].values()
    assert {c.template for c in entry.candidates} == {"gpu_direct_conv", "gpu_gemm_conv"} and all(c.ms > 0 for c in entry.candidates)
    model = tersor.compile(graph, target="opencl", batch=1, tuned=str(tmp_path / "tuned.json"), dtype=dtype)
    assert [(s.chosen, s.template) for s in model.entries[0].steps] == [("tuned", entry.template)]
    done = CliRunner().invoke(app, ["tune", _saved(graph, tmp_path), "-t", "opencl", "--dtype", dtype, "--db", str(tmp_path / "tuned.json")])
    assert done.exit_code == 0, done.output


def test_tune_says_what_it_cannot() -> None:
    with pytest.raises(tersor.TersorError, match="tune measures templates, with one caller"):
        tersor.tune(traced(TwoHeads), target="opencl", search="metaschedule")
    with pytest.raises(tersor.TersorError, match=r"dtype='f16' of tune must be one of compile's for .*: f32"):
        tersor.tune(traced(TwoHeads), dtype="f16")


@needs_compiler
def test_tensors_on_the_device_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the emulator of CUDA, whose device memory is that of torch's tensors on the CPU."""
    model = emulated(traced(TwoHeads), tmp_path, monkeypatch)
    inputs = [torch.from_numpy(a) for a in random_inputs(model.entry())]
    wanted = model.program(model.entry()).run([x.numpy() for x in inputs])
    monkeypatch.setattr(Emulator, "write", lambda *args: pytest.fail("an input was copied"))
    monkeypatch.setattr(Emulator, "read", lambda *args: pytest.fail("an output was copied"))
    for y, z in zip(zoo.leaves(model(*inputs)), wanted, strict=True):
        assert isinstance(y, torch.Tensor)
        np.testing.assert_array_equal(y.numpy(), z)
    with pytest.raises(tersor.TersorError, match=r"input .* must be f32"):
        model(*(x.double() for x in inputs))


class Driver:
    """A CUDA driver without a GPU: each function gives the status that it has in `failing`, or 0."""

    def __init__(self, **failing: int):
        self._failing = failing

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            if name == "cuGetErrorString":
                arguments[1]._obj.value = f"status {arguments[0]}".encode()
            if name == "cuDeviceGetAttribute":
                arguments[0]._obj.value = {75: 8, 76: 0}[arguments[1]]
            return self._failing.get(name, 0)

        return call


@pytest.mark.parametrize(
    ("failing", "message"),
    [
        ({"cuInit": 100}, "cuInit failed: status 100"),
        ({"cuModuleLoadData": 209}, r"cuModuleLoadData failed: status 209 \(it is for cuda:sm_90, the device is sm_80\)"),
        ({"cuMemAlloc_v2": 2}, r"cuMemAlloc_v2 failed: status 2 \([\d,]+ bytes\)"),
    ],
    ids=["no device", "wrong capability", "out of memory"],
)
def test_what_a_driver_refuses_is_one_sentence(failing: dict[str, int], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: Driver(**failing))
    monkeypatch.setattr(emitted, "nvcc", lambda: None)
    model = tersor.compile(traced(TwoHeads), target="cuda:sm_90")
    monkeypatch.setattr(model, "_code", lambda: b"\x7fELF")
    with pytest.raises(tersor.TersorError, match=message) as said:
        model.program(model.entry())
    assert "\n" not in str(said.value)


@needs_opencl
def test_no_memory_left_on_an_opencl_device() -> None:
    with pytest.raises(tersor.TersorError, match=r"has no [\d,]+ bytes of memory left"):
        opencl.OpenCL("", "m").memory(1 << 50)


def test_a_file_for_another_kind_of_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file for OpenCL where there is no device; CUDA's are above."""
    tersor.compile(traced(TwoHeads), target="opencl").save(tmp_path / "m.tso")
    loaded = tersor.load_compiled(tmp_path / "m.tso")
    monkeypatch.setitem(__import__("sys").modules, "pyopencl", SimpleNamespace(get_platforms=list, Error=RuntimeError))
    with pytest.raises(tersor.TersorError, match="no OpenCL device here: install the driver"):
        loaded(*random_inputs(loaded.entry()))


@needs_opencl
def test_a_file_runs_where_torch_and_tvm_are_missing(tmp_path: Path) -> None:
    """Run, measured and profiled, from Python and the command line, by a Python that cannot import them."""
    graph = traced(TwoHeads)
    tersor.compile(graph, target="opencl", batch=1).save(tmp_path / "m.tso")
    (tmp_path / "sitecustomize.py").write_text("import sys\nfor name in ('tvm', 'tvm_ffi', 'torch'):\n    sys.modules[name] = None\n")
    code = (
        "import tersor, tersor.cli; m = tersor.load_compiled('m.tso'); from tersor.backend.runtime.measure import random_inputs;"
        "m(*random_inputs(m.entry())); print(m.benchmark(repeat=1, warmup=0)); print(m.profile(rounds=1)); print(m.report);"
        "tersor.cli.app(['run', 'm.tso'])"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert "median" in done.stdout and "GFLOP/s" in done.stdout


def _saved(graph: Graph, folder: Path) -> str:
    graph.save(folder / "m.tersor")
    return str(folder / "m.tersor")
