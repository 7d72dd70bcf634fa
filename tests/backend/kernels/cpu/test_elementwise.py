"""Regions of elementwise operators alone: broadcasting of every kind, mixed types, plain and blocked, and what `fuse` puts into them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from backend_run import TARGETS, Compiled, arrays_for, check, graph_of, reference

from tersor.backend.kernels.cpu.nest import broadcast_strides, collapse, pieces
from tersor.backend.tile.ops import Fused
from tersor.ir.op import Const
from tersor.ir.ops import (
    Abs,
    Acos,
    Acosh,
    Add,
    Asin,
    Asinh,
    Atan,
    Atan2,
    Atanh,
    BitwiseAnd,
    BitwiseOr,
    BitwiseXor,
    Cast,
    Ceil,
    Clip,
    Conv2d,
    Cos,
    Cosh,
    Div,
    Elu,
    Equal,
    Erf,
    Exp,
    Expm1,
    Floor,
    FloorDivide,
    Gelu,
    Greater,
    GreaterEqual,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Less,
    LessEqual,
    Log,
    Log1p,
    Log2,
    Log10,
    LogicalAnd,
    LogicalNot,
    LogicalOr,
    Maximum,
    Minimum,
    Mul,
    Neg,
    NotEqual,
    Pow,
    Relu,
    Remainder,
    Round,
    Rsqrt,
    ShiftLeft,
    ShiftRight,
    Sigmoid,
    Signbit,
    Silu,
    Sin,
    Sinh,
    Softplus,
    Sqrt,
    Sub,
    Tan,
    Tanh,
    TruncDivide,
    Where,
)
from tersor.ir.types import Tensor

BROADCASTS = [
    ((), ()),
    ((1,), ()),
    ((17,), (1,)),
    ((1000,), (1000,)),
    ((3, 1), (1, 7)),
    ((3, 17), (17,)),
    ((3, 17, 1), (3, 1, 33)),
    ((7, 1, 5), (3, 1, 1, 5)),
    ((3, 16, 7, 7), (1, 16, 1, 1)),
    ((3, 5, 9, 11), (3, 1, 9, 11)),
    ((2, 3, 1, 5, 1, 7), (3, 4, 1, 6, 1)),
    ((1, 1, 1, 1, 1, 1), (3, 1, 2, 1, 17, 1)),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("a, b", BROADCASTS, ids=str)
def test_broadcasting(a: tuple[int, ...], b: tuple[int, ...], target: str) -> None:
    graph = graph_of(lambda x, y: Mul(Add(x, y), Sub(y, x)), a, b)
    assert graph.outputs[0].shape == np.broadcast_shapes(a, b)
    check(graph, target=target, legal=False, tolerance=1e-6)


@pytest.mark.parametrize(
    "a, b", [((100_003,), ()), ((3, 40_001), (3, 1)), ((2, 300, 170), (300, 1)), ((5, 7, 1000), (7, 1)), ((70, 3, 5, 64), (3, 1, 1))], ids=str
)
def test_two_threads_share_the_work(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check(graph_of(lambda x, y: Add(x, y), a, b), threads=2, legal=False, tolerance=1e-7)


UNARY: list[Callable[[Any], Any]] = [
    Relu,
    LeakyRelu,
    Sigmoid,
    HardSigmoid,
    HardSwish,
    Silu,
    Gelu,
    Softplus,
    Tanh,
    Exp,
    Neg,
    Abs,
    Floor,
    Ceil,
    Round,
    Erf,
    Expm1,
    Asinh,
    Sin,
    Cos,
    Tan,
    Atan,
    Sinh,
    Cosh,
]
UNARY += [lambda x: Clip(x, 0.0, 6.0), lambda x: Clip(x, max=1.0), lambda x: Gelu(x, "tanh"), lambda x: Elu(x, 0.7)]
UNARY += [lambda x: Log(Abs(x)), lambda x: Log1p(Abs(x)), lambda x: Log2(Abs(x)), lambda x: Log10(Abs(x))]
UNARY += [lambda x: Sqrt(Abs(x)), lambda x: Rsqrt(Abs(x))]
UNARY += [lambda x: Asin(Tanh(x)), lambda x: Acos(Tanh(x)), lambda x: Atanh(Tanh(x)), lambda x: Acosh(Add(Abs(x), Exp(Abs(x))))]
UNARY += [lambda x: Cast(Signbit(x), str(x.type.elem))]
BINARY = [Add, Sub, Mul, Div, Maximum, Minimum, Remainder, FloorDivide, TruncDivide, Atan2, lambda a, b: Pow(Abs(a), b)]
COMPARE = [Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("elem, tolerance", [("f32", 1e-6), ("f64", 1e-14), ("f16", 3e-3)])
def test_every_function(elem: str, tolerance: float, target: str) -> None:
    """All of them as outputs of one graph, a kernel each."""

    def build(x: Any, y: Any) -> list[Any]:
        return [f(x) for f in UNARY] + [f(x, y) for f in BINARY] + [f(x, y) for f in COMPARE] + [Where(Less(x, y), x, y)]

    check(graph_of(build, Tensor((37,), elem), Tensor((37,), elem)), target=target, legal=False, tolerance=tolerance)


@pytest.mark.parametrize("elem", ["i8", "i16", "i32", "i64", "u8"])
def test_integers(elem: str) -> None:
    def build(x: Any, y: Any) -> list[Any]:
        arithmetic = [
            Add(x, y),
            Sub(x, y),
            Mul(x, y),
            Maximum(x, y),
            Minimum(x, y),
            Remainder(x, y),
            Relu(x),
            Clip(x, 1.0, 3.0),
            Abs(x),
            Floor(x),
            Pow(y, y),
            BitwiseAnd(x, y),
            BitwiseOr(x, y),
            BitwiseXor(x, y),
            ShiftLeft(x, y),
            ShiftRight(x, Mul(y, y)),
        ]
        return arithmetic + [f(x, y) for f in COMPARE] + [Cast(x, "f32"), Cast(x, "bool"), Cast(Mul(x, y), "i64")]

    rng = np.random.default_rng(0)
    type = Tensor((3, 19), elem)
    x, y = rng.integers(0 if elem == "u8" else -5, 6, type.shape), rng.integers(1, 4, type.shape)
    check(graph_of(build, type, type), inputs=[x.astype(type.dtype), y.astype(type.dtype)], legal=False)


@pytest.mark.parametrize("target", TARGETS)
def test_bools_inside_and_outside(target: str) -> None:
    def build(x: Any, y: Any, c: Any) -> list[Any]:
        inside = LogicalOr(LogicalAnd(Less(x, y), c), LogicalNot(NotEqual(x, y)))
        return [inside, Where(LogicalNot(c), x, y), Cast(c, "f32"), Equal(c, Less(x, y)), Where(c, c, LogicalNot(c))]

    for size in (1, 7, 16, 1000):
        check(graph_of(build, (size,), (size,), Tensor((size,), "bool")), target=target, legal=False)


def test_not_of_a_comparison_with_nan() -> None:
    graph = graph_of(lambda x, y: [LogicalNot(Less(x, y)), NotEqual(x, y), Cast(x, "bool"), Relu(x), Clip(x, 0.0, 6.0), Maximum(x, y)], (4,), (4,))
    x, y = np.array([np.nan, 1, np.nan, 2], np.float32), np.array([1, np.nan, np.nan, 3], np.float32)
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    wanted = [~(a < b), a != b, a.bool(), a.relu(), a.clip(0, 6), torch.maximum(a, b)]
    for got, w in zip(Compiled(graph, legal=False)(x, y), wanted):
        np.testing.assert_array_equal(got, w.numpy())


# -- fusing ------------------------------------------------------------------------------------


def gelu_by_hand(x: Any) -> Any:
    """The tanh form as transformers spells it; x is read three times, x^3 and the sum by several ops."""
    c = [Const(np.float32(v)).out for v in (0.5, 0.7978845608, 0.044715, 1.0)]
    inner = Mul(Add(x, Mul(Mul(Mul(x, x), x), c[2])), c[1])
    return Mul(Mul(x, c[0]), Add(Tanh(inner), c[3]))


def test_a_dag_of_elementwise_ops_is_one_kernel() -> None:
    compiled = check(graph_of(lambda x: gelu_by_hand(Neg(x)), (3, 50)), legal=False, tolerance=1e-6)
    assert compiled.templates == ["elementwise"]
    assert "tanh" in compiled.steps[0].op


def test_a_value_read_outside_ends_the_region() -> None:
    def build(x: Any) -> list[Any]:
        y = Exp(x)
        return [Mul(y, Sigmoid(y)), y]

    compiled = check(graph_of(build, (33,)), legal=False, tolerance=1e-6)
    assert [s.op for s in compiled.steps] == ["exp", "sigmoid+mul"]


def test_types_may_change_inside() -> None:
    compiled = check(graph_of(lambda x, y: Cast(Mul(Cast(Less(x, y), "f32"), y), "i32"), (3, 50), (50,)), legal=False)
    assert compiled.templates == ["elementwise"]


def test_swish_joins_the_convolution_in_front() -> None:
    def build(x: Any) -> Any:
        w = Const(np.random.default_rng(0).standard_normal((20, 6, 1, 1)).astype(np.float32))
        y = Conv2d(x, w)
        return Mul(y, Sigmoid(y))

    compiled = check(graph_of(build, (1, 6, 5, 5)), legal=False)
    assert any(s.op == "conv2d+sigmoid+mul" for s in compiled.steps)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch", [1, 3])
def test_blocked_maps(batch: int, target: str) -> None:
    """Two readers of a convolution: each is a fusion of its own, on the blocked map."""

    def build(x: Any, s: Any, c: Any) -> Any:
        w = Const(np.random.default_rng(0).standard_normal((20, 6, 3, 3)).astype(np.float32))
        y = Conv2d(x, w, padding=(1, 1, 1, 1))
        z = Conv2d(Relu(Mul(y, s)), Const(np.ones((20, 20, 1, 1), np.float32)))
        return Mul(Add(z, Sub(Tanh(y), c)), s)

    graph = graph_of(build, (batch, 6, 7, 5), (batch, 20, 1, 1), (1, 20, 1, 1))
    compiled = check(graph, target=target, legal=False)
    fusions = [op for op in compiled.graph.ops if isinstance(op, Fused) and op.template == "elementwise"]
    assert fusions and all(op.out.type.layout is not None for op in fusions)


def test_a_map_times_a_plane_is_plain() -> None:
    """(N, 1, H, W) cannot be read in a blocked fusion."""

    def build(x: Any, plane: Any) -> Any:
        y = Conv2d(x, Const(np.random.default_rng(0).standard_normal((20, 6, 1, 1)).astype(np.float32)))
        return Relu(Mul(y, plane))

    check(graph_of(build, (2, 6, 7, 5), (2, 1, 7, 5)), legal=False)


def test_overlapping_vectors_do_not_write_past_a_row() -> None:
    for size in (1, 3, 7, 15, 17, 31, 33, 63, 65):
        graph = graph_of(lambda x: Neg(x), (5, size))
        (x,) = arrays_for(graph)
        compiled = Compiled(graph, legal=False)
        np.testing.assert_array_equal(compiled(x)[0], reference(graph, [x])[0].astype(np.float32))


# -- loop nests --------------------------------------------------------------------------------


def test_collapse_merges_what_every_operand_walks_evenly() -> None:
    out = (3, 16, 7, 9)
    assert collapse(out, [broadcast_strides(out, out)]) == ([3 * 16 * 7 * 9], [[1]])
    sizes, (x, w) = collapse(out, [broadcast_strides(out, out), broadcast_strides((16, 1, 1), out)])
    assert (sizes, x, w) == ([3, 16, 63], [16 * 63, 63, 1], [0, 1, 0])
    assert collapse((1, 1), [(0, 0)]) == ([], [[]])


def test_pieces_cover_a_row_once() -> None:
    for lanes in (1, 4, 16):
        for size in range(40):
            cut = pieces(size, lanes)
            assert sum(w for _, w in cut) == size
            assert all(w <= lanes and w & (w - 1) == 0 for _, w in cut)
            assert [at for at, _ in cut] == [sum(w for _, w in cut[:i]) for i in range(len(cut))]


def test_nan_is_not_equal_to_itself() -> None:
    kinds = (NotEqual, Equal, LessEqual, GreaterEqual, Less, Greater)
    graph = graph_of(lambda x: [kind(x, x) for kind in kinds], (6,))
    check(graph, inputs=[np.array([1, np.nan, -2, 0, np.inf, -np.inf], np.float32)])
