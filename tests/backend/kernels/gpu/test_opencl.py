"""Every GPU template on OpenCL (PoCL on the CPU in CI) against the interpreter in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backend_run import arrays_for, conv, graph_of, reference
from opencl_run import check, close, needs_opencl

import tersor
from tersor.backend.compile import build as build_model
from tersor.backend.kernels.gpu.gemm import TILES
from tersor.backend.kernels.gpu.move import chosen, runs
from tersor.backend.pipelines import PIPELINES
from tersor.backend.target import resolve
from tersor.ir import ops
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Value
from tersor.ir.types import Tensor

pytestmark = needs_opencl


def weights(*shape: int) -> Const:
    return Const((np.random.default_rng(1).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))


def templates(graph: Graph) -> set[str]:
    """The templates of a graph, whose results were compared."""
    model = check(graph)
    return {step.template for step in model.entries[0].steps}


def test_convolutions() -> None:
    """Padding on one side, stride, dilation, groups, epilogues with operands of every kind; tiles that reach beyond their end."""

    def build(x: Value, image: Value, same: Value) -> list[Any]:
        odd = ops.Conv2d(x, weights(18, 6, 3, 2), weights(18), (2, 1), (2, 0, 1, 1), (1, 2))
        grouped = ops.Relu(ops.Conv2d(x, weights(12, 2, 3, 3), None, (1, 1), (1, 1, 1, 1), (1, 1), 3))
        depthwise = ops.Silu(ops.Conv2d(x, weights(6, 1, 3, 3), weights(6), (1, 1), (1, 1, 1, 1), (1, 1), 6))
        wide = ops.Conv2d(x, weights(40, 6, 3, 3), weights(40), (1, 1), (1, 1, 1, 1))
        tail = ops.Gelu(ops.Add(ops.Mul(wide, image), same))
        return [odd, grouped, depthwise, tail]

    used = templates(graph_of(build, (2, 6, 9, 11), (2, 40, 1, 1), (2, 40, 9, 11)))
    assert {"gpu_direct_conv", "gpu_gemm_conv"} <= used


@pytest.mark.parametrize("tile", TILES)
def test_every_tile(tile: str) -> None:
    """Products that no tile divides: of a convolution in groups, a dense layer and matrices."""
    target = resolve("opencl")

    def build(x: Value, a: Value, b: Value) -> list[Any]:
        grouped = ops.Conv2d(x, weights(140, 5, 3, 3), weights(140), (2, 2), (1, 1, 1, 1), (1, 1), 2)
        return [grouped, ops.Linear(a, weights(70, 33), weights(70)), ops.Matmul(a, b)]

    graph = graph_of(build, (1, 10, 13, 13), (3, 67, 33), (1, 33, 66))

    def forced(lowered: Graph) -> None:
        for op in lowered.ops:
            if getattr(op, "template", "").startswith("gpu_"):
                kind = type(op.body.ops[0]).__name__.lower().removesuffix("2d")
                op.template, op.params = f"gpu_gemm_{kind}", {"tile": tile}

    stages = PIPELINES["opencl"]
    lowered = graph.clone()
    for name, stage in stages.items():
        lowered = stage(lowered, target, 1)
        if name == "select-kernels":
            forced(lowered)
    arrays = arrays_for(graph)
    model = build_model([(None, lowered)], target)
    for got, want in zip(model.program(model.entry()).run(arrays), reference(graph, arrays)):
        close(got, want)


def test_pooling_and_resizing() -> None:
    def build(x: Value) -> list[Any]:
        x = ops.Relu(conv(x, 5, 3)).out
        return [
            ops.MaxPool2d(x, (3, 2), (2, 2), (1, 0, 1, 0), (1, 2), ceil_mode=True),
            ops.AvgPool2d(x, (3, 3), (2, 2), (1, 1, 1, 1), ceil_mode=True, count_include_pad=False),
            ops.AvgPool2d(x, (2, 3), (1, 2), (1, 0, 0, 1), divisor=5),
            ops.AdaptiveAvgPool2d(x, (4, 3)),
            ops.AdaptiveMaxPool2d(x, (1, 1)),
            ops.Mean(x, (2, 3)),
            ops.Upsample(x, (17, 40)),
            ops.Upsample(x, (5, 29), "bilinear"),
            ops.Upsample(x, (20, 20), "bilinear", align_corners=True),
        ]

    used = templates(graph_of(build, (2, 3, 10, 13)))
    assert {"gpu_pool", "gpu_adaptive_pool", "gpu_global_pool", "gpu_upsample"} <= used


def test_rows() -> None:
    def build(x: Value, m: Value) -> list[Any]:
        return [
            ops.Softmax(x, 2), ops.LogSoftmax(x, 1), ops.LayerNorm(x, weights(70), weights(70)), ops.LayerNorm(x, axes=2),
            ops.GroupNorm(m, weights(6), None, 3), ops.CumSum(x, 1), ops.ArgMax(x, 2), ops.ArgMin(x, 0, True),
            ops.Sum(x, (0, 2)), ops.Prod(x, (1,), True), ops.ReduceMax(x, (0, 1, 2)), ops.ReduceMin(x, (1,)), ops.Mean(x, (2,), True),
        ]  # fmt: skip

    used = templates(graph_of(build, (2, 5, 70), (2, 6, 5, 7)))
    assert {"gpu_softmax", "gpu_norm", "gpu_scan", "gpu_arg_reduce", "gpu_reduce", "gpu_block_reduce"} <= used


def test_scans_sorts_and_places() -> None:
    def build(x: Value, index: Value, places: Value, rows: Value, flags: Value) -> list[Any]:
        scans = [kind(x, 1) for kind in (ops.CumProd, ops.CumMax, ops.CumMin)]
        sorts = [ops.ArgSort(x, 1), ops.ArgSort(ops.Round(x), 2, True)]
        scatters = [ops.Scatter(x, places, rows, mode) for mode in ("set", "add", "mul", "max", "min")]
        return [*scans, *sorts, ops.Gather(x, index, 1), *scatters, ops.Scatter(flags, places, ops.Greater(ops.Sum(rows, (1, 2)), x0))]

    x0 = Const(np.zeros((), np.float32))
    inputs = Tensor((4, 5, 7)), Tensor((4, 9, 7), "i64"), Tensor((6,), "i64"), Tensor((6, 5, 7)), Tensor((4,), "bool")
    graph, rng = graph_of(build, *inputs), np.random.default_rng(0)
    arrays = [rng.standard_normal(inputs[0].shape).astype(np.float32), rng.integers(0, 5, inputs[1].shape), np.array([3, 0, 3, 1, 0, 3])]
    check(graph, [*arrays, rng.standard_normal(inputs[3].shape).astype(np.float32), np.array([True, False, True, False])])


def test_movement() -> None:
    def build(x: Value, flag: Value, index: Value, y: Value) -> list[Any]:
        moved = ops.Slice(ops.Transpose(x, (0, 2, 3, 1)), 1, 1, 6, 2)
        picked = ops.IndexSelect(x, index, 2)
        padded = [ops.Pad(x, (0, 0, 0, 0, 2, 1, -1, 3), mode) for mode in ("constant", "reflect", "replicate", "circular")]
        filled = ops.Pad(x, (0, 1, 2, 0, 0, 0, 0, 0), "constant", 1.5)
        chosen = ops.Where(flag, x, ops.Neg(x))
        mixed = ops.Concat([x, ops.Relu(conv(x, 3)).out, y], 1)
        shuffled = ops.ChannelShuffle(ops.Relu(conv(x, 12)), 3)
        return [moved, picked, *padded, filled, chosen, mixed, shuffled, ops.Expand(ops.Slice(x, 0, 0, 1), (3, 4, 7, 8)), ops.LogicalNot(flag), x]

    inputs = Tensor((2, 4, 7, 8)), Tensor((2, 4, 7, 8), "bool"), Tensor((3,), "i64"), Tensor((2, 2, 7, 8))
    graph = graph_of(build, *inputs)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(inputs[0].shape).astype(np.float32), rng.random(inputs[1].shape) < 0.5]
    check(graph, [*arrays, np.array([6, 0, 3]), rng.standard_normal(inputs[3].shape).astype(np.float32)])


def test_transposed_convolutions_and_shuffles() -> None:
    def build(x: Value) -> list[Any]:
        x = ops.Relu(conv(x, 8)).out
        return [
            ops.ConvTranspose2d(x, weights(8, 5, 3, 3), weights(5), (2, 2), (1, 1), (1, 1)),
            ops.ConvTranspose2d(x, weights(8, 2, 2, 2), None, (3, 2), (0, 1), (1, 0), (2, 1), 4),
            ops.PixelShuffle(x, 2),
            ops.PixelUnshuffle(x, 2),
        ]

    check(graph_of(build, (2, 3, 6, 8)))


def test_dense_and_matrices() -> None:
    def build(x: Value, row: Value, a: Value, b: Value) -> list[Any]:
        w = weights(11, 100)
        return [ops.Relu(ops.Linear(x, w, weights(11))), ops.Linear(row, w, weights(11)), ops.Matmul(a, b), ops.Sigmoid(ops.Matmul(a, a))]

    used = templates(graph_of(build, (9, 3, 100), (1, 100), (2, 3, 5, 5), (3, 5, 2)))
    assert "gpu_row_linear" in used


def test_elementwise_of_all_types() -> None:
    def build(x: Value, i: Value) -> list[Any]:
        positive = ops.Add(ops.Abs(x), Const(np.float32(0.5)))
        unary = [ops.Exp, ops.Expm1, ops.Log, ops.Log1p, ops.Log2, ops.Log10, ops.Sqrt, ops.Rsqrt, ops.Tanh, ops.Erf, ops.Asinh, ops.Floor, ops.Round]
        unary += [ops.Sin, ops.Cos, ops.Tan, ops.Atan, ops.Sinh, ops.Cosh]
        half, inside = Const(np.float32(0.7)), ops.Mul(x, Const(np.float32(0.45)))
        bits = [kind(i, Const(np.int64(6))) for kind in (ops.BitwiseAnd, ops.BitwiseOr, ops.BitwiseXor, ops.ShiftLeft, ops.ShiftRight)]
        return [
            *bits, *(op(inside) for op in (ops.Asin, ops.Acos, ops.Atanh)), ops.Acosh(ops.Exp(positive)), ops.Atan2(x, inside), ops.Signbit(x),
            *(op(positive) for op in unary), ops.Elu(x), ops.Gelu(x, "tanh"), ops.Softplus(x), ops.HardSwish(x), ops.Clip(x, -0.5, 0.5),
            ops.Remainder(x, half), ops.FloorDivide(x, half), ops.Pow(positive, x), ops.Less(x, half),
            ops.FloorDivide(i, Const(np.int64(-7))), ops.Remainder(i, Const(np.int64(-7))), ops.TruncDivide(i, Const(np.int64(3))),
            ops.Cast(i, "u8"), ops.Cast(x, "i32"), ops.Cast(x, "f64"), ops.Cast(x, "bool"),
        ]  # fmt: skip

    check(graph_of(build, (3, 5), Tensor((4,), "i64")), [np.linspace(-2, 2, 15, dtype=np.float32).reshape(3, 5), np.array([-9, -7, 0, 300])])


def test_nan_goes_through() -> None:
    def build(x: Value) -> list[Any]:
        return [ops.Relu(x), ops.ReduceMax(x, (1,)), ops.Mul(x, Const(np.float32(0))), ops.Maximum(x, Const(np.float32(2)))]

    check(graph_of(build, (2, 3)), [np.array([[1, np.nan, -1], [0, np.inf, 3]], np.float32)])


def test_an_index_out_of_range_is_reported() -> None:
    model = tersor.compile(graph_of(lambda x, i: ops.IndexSelect(x, i, 0), (3, 2), Tensor((2,), "i64")), target="opencl")
    x = np.ones((3, 2), np.float32)
    with pytest.raises(tersor.TersorError, match="holds 5, expected 0 to 2"):
        model(x, np.array([0, 5]))
    np.testing.assert_array_equal(model(x, np.array([0, 2])), x[:2])


def test_runs_of_a_table() -> None:
    assert runs([0, 1, 2, 7, 9, 11, 4]) == [(0, 0, 1), (3, 7, 2), (6, 4, 0)]
    table = np.random.default_rng(0).integers(-1, 9, 40).tolist()
    assert [r for first, value, step in runs(table) for r in [first]] == sorted({first for first, *_ in runs(table)})
    assert int(chosen(3, runs([5, 5, 5, 5]))) == 5


def test_special_types_refuse_with_one_sentence() -> None:
    graph = graph_of(lambda a, b: ops.Pow(a, b), Tensor((3,), "i64"), Tensor((3,), "i64"))
    with pytest.raises(tersor.TersorError, match="pow"):
        tersor.compile(graph, target="opencl")
