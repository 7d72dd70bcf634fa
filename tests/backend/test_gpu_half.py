"""Half precision on GPUs: feature maps and weights are f16 in memory, sums f32. PoCL runs the same kernels."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zoo
from backend_run import arrays_for, conv, graph_of
from end_to_end import eager
from opencl_run import needs_opencl
from torch import nn
from typer.testing import CliRunner

import tersor
from tersor import TersorError
from tersor.backend.pipelines import lower
from tersor.cli import app
from tersor.ir import ops
from tersor.ir.evaluate import evaluate, to_numpy, to_torch
from tersor.ir.op import Const, Value
from tersor.ir.parse import parse_graph
from tersor.ir.text import format_with_weights

#: Distance from 1 to the next f16, and bf16.
STEPS = {"f16": 2.0**-10, "bf16": 2.0**-7}


def weights(*shape: int) -> Const:
    return Const((np.random.default_rng(1).standard_normal(shape) / math.sqrt(math.prod(shape[1:]))).astype(np.float32))


@needs_opencl
@pytest.mark.slow
@pytest.mark.parametrize("dtype", list(STEPS))
def test_every_kind_of_kernel_is_the_interpreter_of_the_lowered_graph(dtype: str) -> None:
    """A value near the middle between two f16 may be rounded to the other one."""

    def build(x: Value, m: Value) -> list[Any]:
        x, m = ops.Relu(x).out, ops.Tanh(m).out
        wide = ops.Gelu(ops.Conv2d(x, weights(40, 6, 3, 3), weights(40), (1, 1), (1, 1, 1, 1))).out
        return [
            ops.Neg(ops.Softmax(ops.Neg(v).out, v.type.rank - 1))
            for v in (
                wide,
                conv(x, 6, 3, groups=6),
                ops.MaxPool2d(wide, (2, 2), (2, 2)).out,
                ops.Mean(wide, (2, 3)).out,
                ops.GroupNorm(x, weights(6), weights(6), 3).out,
                ops.Concat([x, ops.Upsample(x, (9, 11)).out], 1).out,
                ops.Linear(m, weights(70, 33), weights(70)).out,
                ops.Matmul(m, ops.Transpose(m, (0, 2, 1))).out,
                ops.ConvTranspose2d(x, weights(6, 5, 3, 3), weights(5), (2, 2), (1, 1), (1, 1)).out,
            )
        ]

    graph = graph_of(build, (2, 6, 9, 11), (3, 67, 33))
    arrays = arrays_for(graph)
    model = tersor.compile(graph, target="opencl", dtype=dtype)
    lowered = lower(graph, model.target)
    exact = evaluate(graph, [to_torch(a) for a in arrays], dtype=torch.float64)
    for got, emulated, y64 in zip(model(*arrays), evaluate(lowered, [to_torch(a) for a in arrays]), exact, strict=True):
        scale = float(y64.abs().max())
        np.testing.assert_allclose(got, to_numpy(emulated), rtol=0, atol=2 * STEPS[dtype] * scale)
        # of half precision indeed
        assert STEPS[dtype] / 64 * scale < np.abs(got - to_numpy(y64)).max() < 10 * STEPS[dtype] * scale


@needs_opencl
@pytest.mark.parametrize(
    "name", ["super_resolution", pytest.param("attention", marks=pytest.mark.slow), pytest.param("resnet18", marks=pytest.mark.slow)]
)
def test_networks_and_what_is_reported(name: str, tmp_path: Path) -> None:
    module, inputs = zoo.built(name)
    half, single = (tersor.compile(zoo.traced(name), target="opencl", batch=1, dtype=dtype) for dtype in ("f16", "f32"))
    half.save(tmp_path / "half.tso")
    half = tersor.load_compiled(tmp_path / "half.tso")
    y, y64 = half(*inputs), eager(copy.deepcopy(module).double(), inputs)
    error = float((y - y64).abs().max() / y64.abs().max())
    said = half.report.accuracy
    assert said["error"] / 10 < error < 10 * said["error"] < 0.05 and 45 < said["sqnr"] < 90
    assert "against float64 on random inputs: SQNR" in str(half.report)
    assert half.report.weights < 0.7 * single.report.weights and half.report.arena[1] < 0.6 * single.report.arena[1]
    assert set(half.report.macs) == {"f16"} and single.report.accuracy == {}


def test_out_of_range_is_reported() -> None:
    graph = tersor.trace(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), (torch.zeros(1, 4),))
    for op in graph.ops:
        if isinstance(op, Const):
            op.array = op.array * np.float32(1e6)
    assert tersor.compile(graph, target="opencl", dtype="f16").report.accuracy == {"error": math.inf, "sqnr": -math.inf}


def test_the_plan_is_text() -> None:
    graph = lower(zoo.traced("conv_add_relu"), tersor.compile(zoo.traced("conv_add_relu"), target="opencl", dtype="f16").target)
    text, constants = format_with_weights(graph)
    assert "half = " in text
    again = parse_graph(text, {name: c.array for name, c in constants.items()})
    assert format_with_weights(again)[0] == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "cpu", "dtype": "f16"}, "dtype='f16' is for GPUs, and target 'cpu:.*' stores and computes in f32"),
        ({"target": "opencl", "dtype": "f8"}, "unknown dtype='f8'; valid: f32, f16, bf16, tf32"),
        ({"target": "opencl", "dtype": "tf32"}, "dtype='tf32' is for tensor cores .*, which target 'opencl' has not; valid: f32, f16, bf16"),
        ({"target": "cuda:sm_75", "dtype": "tf32"}, "dtype='tf32' is for tensor cores .*, which target 'cuda:sm_75' has not"),
        ({"target": "opencl", "dtype": "f16", "require": "f32"}, "exclude each other"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TersorError, match=message):
        tersor.compile(zoo.traced("conv_add_relu"), **options)


def test_from_the_command_line(tmp_path: Path) -> None:
    zoo.traced("conv_add_relu").save(tmp_path / "m.tersor")
    done = CliRunner().invoke(app, ["compile", str(tmp_path / "m.tersor"), "-t", "opencl", "--dtype", "f16", "-o", str(tmp_path / "m.tso")])
    assert done.exit_code == 0 and "SQNR" in done.stdout
