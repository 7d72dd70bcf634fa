"""Kernels on tensor cores: right where the CPU emulates CUDA by the tables of the PTX ISA, and `mma` and `ldmatrix` in what nvcc makes of them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import integer_cases as cases
import numpy as np
import pytest
import torch
from backend_run import arrays_for, graph_of
from cuda_emulator import emulated, needs_compiler
from opencl_run import needs_nvcc

import tersor
from tersor.backend.emit.device import DeviceEmitter, cubin, nvcc
from tersor.backend.pipelines import lower
from tersor.backend.target import resolve
from tersor.backend.tile.integer import IntLinear
from tersor.ir import ops
from tersor.ir.evaluate import evaluate, to_numpy, to_torch
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Value
from tersor.ir.types import Tensor

MMA = {"gpu_mma_conv", "gpu_mma_linear"}
FLOATS = MMA | {"gpu_mma_matmul"}


def weights(*shape: int) -> Const:
    return Const((np.random.default_rng(1).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))


def floats() -> Graph:
    """Padding, stride, dilation and groups; rows, columns and depths that no tile divides; an f32 image and f16 feature maps; epilogues."""

    def build(x: Value, same: Value, m: Value, a: Value) -> list[Any]:
        wide = ops.Relu(ops.Add(ops.Conv2d(x, weights(70, 20, 3, 3), weights(70), (1, 1), (1, 1, 0, 2)), same)).out
        odd = ops.Silu(ops.Conv2d(wide, weights(128, 35, 3, 2), None, (2, 1), (2, 0, 1, 1), (1, 2), 2)).out
        return [ops.Neg(odd), ops.Gelu(ops.Linear(m, weights(66, 100), weights(66))), ops.Matmul(a, ops.Relu(m)), ops.Matmul(ops.Tanh(m), a)]

    return graph_of(build, (2, 20, 9, 10), (2, 70, 9, 10), (3, 25, 100), (1, 100, 25))


def integers() -> tuple[Graph, list[np.ndarray], list[np.ndarray]]:
    """Every zero point at every border, u8 and i8, extreme bytes."""
    rng, graph, arrays, outputs, expected = np.random.default_rng(0), Graph(), [], [], []
    geometries = [{"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}]
    geometries += [{"stride": (2, 1), "padding": (0, 2, 1, 0), "dilation": (1, 2), "groups": 2}]
    for i, (geometry, elem) in enumerate(zip(geometries, ("u8", "i8"))):
        limits = np.iinfo(np.uint8 if elem == "u8" else np.int8)
        x = rng.choice([limits.min, limits.max, 3], (2, 40, 9, 7)).astype(limits.dtype)
        w = rng.choice([-128, -1, 127], (140, 40 // geometry["groups"], 3, 3)).astype(np.int8)
        case = {"x": x, "w": w, "b": rng.integers(-(2**20), 2**20, 140), "zero": int(limits.max) - 5, "geometry": geometry}
        outputs.append(cases.add_conv(graph, graph.add_input(Tensor(x.shape, elem), f"x{i}"), case))
        arrays.append(x)
        expected.append(cases.accumulators(case))
    rows, w = rng.integers(0, 256, (33, 90)).astype(np.uint8), rng.integers(-128, 128, (70, 90)).astype(np.int8)
    lines = graph.add_input(Tensor(rows.shape, "u8"), "rows")
    outputs.append(graph.add(IntLinear(lines, Const(w), None, zero=cases.scalar(7, np.uint8))))
    graph.set_outputs(outputs)
    return graph, [*arrays, rows], [*expected, (rows.astype(np.int64) - 7) @ w.astype(np.int64).T]


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "limit"), [("f16", 2e-3), ("bf16", 2e-2), ("tf32", 1e-3)])
def test_floats(dtype: str, limit: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = floats()
    arrays = arrays_for(graph)
    model = emulated(graph, tmp_path, monkeypatch, dtype=dtype)
    assert {s.template for s in model.entries[0].steps} >= FLOATS
    wanted = evaluate(lower(graph, model.target), [to_torch(a) for a in arrays])
    exact = evaluate(graph, [to_torch(a) for a in arrays], dtype=torch.float64)
    for got, y, y64 in zip(model(*arrays), wanted, exact, strict=True):
        scale = float(y64.abs().max())
        np.testing.assert_allclose(got, to_numpy(y64), rtol=0, atol=limit * scale)
        # of that precision, and no better
        assert np.abs(got - to_numpy(y64)).max() > limit / 100 * scale
        # x is rounded to f16 or bf16 here and not there where it is an input
        np.testing.assert_allclose(got, to_numpy(y), rtol=0, atol=limit * scale)
        if dtype == "tf32":
            # all others are results of feature maps with a value near the middle between two tf32
            assert (np.abs(got - to_numpy(y)) < 1e-5 * scale).mean() > 0.99


@needs_compiler
@pytest.mark.slow
def test_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, arrays, expected = integers()
    model = emulated(graph, tmp_path, monkeypatch)
    assert {s.template for s in model.entries[0].steps} == MMA
    for got, wanted in zip(model(*arrays), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_older_gpus_have_none() -> None:
    lowered = lower(integers()[0], resolve("cuda:sm_75"))
    assert not MMA & {op.template for op in lowered.ops if op.name == "tile.fused"}  # type: ignore[attr-defined]


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize("capability", ["sm_80", "sm_90"])
def test_the_instructions_are_there(capability: str, tmp_path: Path) -> None:
    """In PTX, and ptxas spills nothing."""
    compiler = nvcc()
    assert compiler is not None
    products = {"f16": "m16n8k16.row.col.f32.f16.f16.f32", "bf16": "m16n8k16.row.col.f32.bf16.bf16.f32", "tf32": "m16n8k8.row.col.f32.tf32.tf32.f32"}
    cases = [(floats(), dtype, multiply) for dtype, multiply in products.items()]
    for graph, dtype, multiply in (*cases, (integers()[0], "f32", "m16n8k32.row.col.s32.s8.")):
        model = tersor.compile(graph, target=f"cuda:{capability}", dtype=dtype)
        emitter = DeviceEmitter(model.target)
        emitter.add(lower(graph, model.target))
        (tmp_path / "m.cu").write_text(emitter.source())
        subprocess.run([compiler, "-ptx", "-w", f"-arch={capability}", "-o", tmp_path / "m.ptx", tmp_path / "m.cu"], check=True)
        kernels = [text for text in (tmp_path / "m.ptx").read_text().split(".entry ")[1:] if text.startswith("mma_")]
        assert kernels
        for text in kernels:
            assert text.count(multiply) >= 16 and text.count("ldmatrix.sync") >= 8
            # weights lie in memory as they are multiplied, computed matrices do not
            assert ("cp.async.cg" in text) == (not text.startswith("mma_matmul"))
        said: list[str] = []
        cubin(emitter.source(), model.target, compiler, "-Xptxas", "-v", said=said.append)
        assert said[0].count("0 bytes spill stores, 0 bytes spill loads") == said[0].count("Compiling entry function")
