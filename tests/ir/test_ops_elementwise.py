"""Elementwise operators against torch: values, gradients, broadcasting, integers, types."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import check, ints, rand, refuses, value_of

from tersor.ir import BitsAffine, Graph, Layout, Tensor, Uniform
from tersor.ir import ops as o
from tersor.ir.evaluate import evaluate

# torch's hardsigmoid has the slope 1/6 in float32, in float64 too
SLOPES = 1e-7

UNARY: list[tuple[type[o.Elementwise], dict[str, Any], Callable[[torch.Tensor], torch.Tensor]]] = [
    (o.Relu, {}, F.relu),
    (o.Clip, {"min": 0.0, "max": 6.0}, F.relu6),
    (o.Clip, {"min": -1.0, "max": 2.5}, lambda x: F.hardtanh(x, -1.0, 2.5)),
    (o.Clip, {"min": 0.1}, lambda x: x.clamp(min=0.1)),
    (o.Clip, {"max": 0.3}, lambda x: x.clamp(max=0.3)),
    (o.Clip, {}, lambda x: x.clone()),
    (o.LeakyRelu, {}, F.leaky_relu),
    (o.LeakyRelu, {"slope": 0.2}, lambda x: F.leaky_relu(x, 0.2)),
    (o.Sigmoid, {}, torch.sigmoid),
    (o.HardSigmoid, {}, F.hardsigmoid),
    (o.HardSwish, {}, F.hardswish),
    (o.Silu, {}, F.silu),
    (o.Gelu, {}, F.gelu),
    (o.Gelu, {"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
    (o.Elu, {}, F.elu),
    (o.Elu, {"alpha": 0.7}, lambda x: F.elu(x, 0.7)),
    (o.Softplus, {}, F.softplus),
    (o.Tanh, {}, torch.tanh),
    (o.Exp, {}, torch.exp),
    (o.Neg, {}, torch.neg),
    (o.Abs, {}, torch.abs),
    (o.Floor, {}, torch.floor),
    (o.Ceil, {}, torch.ceil),
    (o.Round, {}, torch.round),
    (o.Erf, {}, torch.erf),
    (o.Expm1, {}, torch.expm1),
    (o.Asinh, {}, torch.asinh),
    *((getattr(o, name.capitalize()), {}, getattr(torch, name)) for name in ("sin", "cos", "tan", "atan", "sinh", "cosh")),
]


@pytest.mark.parametrize(("kind", "attrs", "oracle"), UNARY, ids=lambda p: getattr(p, "name", None))
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (3, 7)])
def test_unary(kind: Any, attrs: Any, oracle: Any, shape: tuple[int, ...]) -> None:
    op = check(kind, [4 * rand(*shape)], oracle, tolerance=1e-11, gradient_tolerance=SLOPES, **attrs)
    assert op.macs() == 0


def test_unary_of_positive() -> None:
    for kind, oracle in (
        (o.Log, torch.log),
        (o.Log1p, torch.log1p),
        (o.Log2, torch.log2),
        (o.Log10, torch.log10),
        (o.Sqrt, torch.sqrt),
        (o.Rsqrt, torch.rsqrt),
    ):
        check(kind, [rand(3, 20, low=0.1, high=9.0)], oracle)


def test_inverse_functions_within_their_domains() -> None:
    for kind, oracle in ((o.Asin, torch.asin), (o.Acos, torch.acos), (o.Atanh, torch.atanh)):
        check(kind, [rand(3, 20, low=-0.95, high=0.95)], oracle)
    check(o.Acosh, [rand(3, 20, low=1.1, high=9.0)], torch.acosh)


def test_signbit() -> None:
    x = np.array([0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan, -np.nan])
    check(o.Signbit, [x], torch.signbit, batched=False)


@pytest.mark.parametrize("kind", [o.Relu, o.Elu, o.Softplus, o.Silu, o.Gelu, o.HardSwish, o.HardSigmoid, o.LeakyRelu])
def test_extremes(kind: Any) -> None:
    """Saturated values and their gradients are torch's, with no overflow on the branch not taken."""
    oracle = {o.Relu: F.relu, o.Elu: F.elu, o.Softplus: F.softplus, o.Silu: F.silu, o.Gelu: F.gelu}
    oracle |= {o.HardSwish: F.hardswish, o.HardSigmoid: F.hardsigmoid, o.LeakyRelu: F.leaky_relu}
    x = np.array([-1e4, -700.0, -90.0, -30.0, -8.0, 1e-3, 8.0, 19.5, 20.5, 90.0, 800.0, 1e4])
    check(kind, [x], oracle[kind], batched=False, gradient_tolerance=SLOPES)


def test_softplus_keeps_small_values() -> None:
    x = torch.tensor([-10.0, -16.0, -20.0, -40.0])
    got = o.Softplus(value_of((4,))).evaluate(x)
    torch.testing.assert_close(got.double(), torch.log1p(torch.exp(x.double())), rtol=1e-6, atol=0)


def test_round_is_half_to_even() -> None:
    assert o.Round(value_of((4,))).evaluate(torch.tensor([0.5, 1.5, -2.5, 2.4])).tolist() == [0.0, 2.0, -2.0, 2.0]


def test_neg_flips_the_sign_of_zero() -> None:
    assert math.copysign(1, o.Neg(value_of((1,))).evaluate(torch.zeros(1)).item()) == -1


def test_nan_passes_through() -> None:
    x = torch.full((1,), float("nan"))
    for kind in (o.Relu, o.Clip, o.LeakyRelu, o.Elu, o.Softplus, o.HardSwish):
        attrs = {"min": 0.0, "max": 6.0} if kind is o.Clip else {}
        assert kind(value_of((1,)), **attrs).evaluate(x).isnan().all(), kind.name


def test_clip_rounds_its_bounds_to_the_operand() -> None:
    got = o.Clip(value_of((1,)), 0.1, 0.2).evaluate(torch.tensor([0.0]))
    assert got.item() == float(np.float32(0.1)) != 0.1


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (3, 4), (3, 4, 5)])
@pytest.mark.parametrize("shared", [True, False])
def test_prelu(shape: tuple[int, ...], shared: bool) -> None:
    check(o.Prelu, [rand(*shape), rand(1 if shared else shape[1])], F.prelu)


BINARY: list[tuple[type[o.Elementwise], Callable[..., torch.Tensor]]] = [
    (o.Add, torch.add),
    (o.Sub, torch.sub),
    (o.Mul, torch.mul),
    (o.Div, torch.div),
    (o.Maximum, torch.maximum),
    (o.Minimum, torch.minimum),
    (o.Remainder, torch.remainder),
    (o.FloorDivide, lambda a, b: torch.div(a, b, rounding_mode="floor")),
    (o.TruncDivide, lambda a, b: torch.div(a, b, rounding_mode="trunc")),
]
BINARY += [(o.Atan2, torch.atan2)]
SHAPES = [((3, 4, 5, 6), (3, 4, 5, 6)), ((3, 4, 5, 6), ()), ((3, 4, 5, 6), (4, 1, 1)), ((3, 4, 1, 1), (1, 4, 5, 6)), ((3, 6), (6,))]


@pytest.mark.parametrize(("kind", "oracle"), BINARY, ids=lambda p: getattr(p, "name", None))
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_binary(kind: Any, oracle: Any, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check(kind, [rand(*a), rand(*b, seed=1)], oracle)


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_pow(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check(o.Pow, [rand(*a, low=0.1), rand(*b, seed=1)], torch.pow)


def test_pow_of_negatives_by_whole_exponents() -> None:
    check(o.Pow, [rand(3, 5), np.array(3.0)], lambda a, b: a**3, gradients=False)


@pytest.mark.parametrize(
    ("kind", "oracle"),
    [(o.Equal, torch.eq), (o.NotEqual, torch.ne), (o.Less, torch.lt), (o.LessEqual, torch.le), (o.Greater, torch.gt), (o.GreaterEqual, torch.ge)],
    ids=lambda p: getattr(p, "name", None),
)
@pytest.mark.parametrize("dtype", ["float64", "int64", "uint8"])
def test_comparisons(kind: Any, oracle: Any, dtype: str) -> None:
    a, b = ints(3, 4, 6, low=0, high=3, dtype=dtype), ints(4, 1, low=0, high=3, dtype=dtype, seed=1)
    assert check(kind, [a, b], oracle, gradients=False).out.type == Tensor((1, 4, 6), "bool")


def test_logic_and_equality_of_bools() -> None:
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    for kind, oracle in ((o.LogicalAnd, torch.logical_and), (o.LogicalOr, torch.logical_or), (o.Equal, torch.eq), (o.NotEqual, torch.ne)):
        check(kind, [a, b], oracle, batched=False)
    check(o.LogicalNot, [a], torch.logical_not, batched=False)


@pytest.mark.parametrize("shapes", [((3, 4, 5), (3, 4, 5), (3, 4, 5)), ((3, 1, 5), (4, 1), ()), ((3, 1), (1, 6), (6,))])
def test_where(shapes: Any) -> None:
    c, a, b = shapes
    check(o.Where, [rand(*c) > 0, rand(*a), rand(*b, seed=1)], torch.where)


def test_where_of_bools() -> None:
    x, y = rand(3, 4) > 0, rand(3, 4, seed=1) > 0
    check(o.Where, [x, y, ~y], torch.where)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
def test_integers(dtype: str) -> None:
    a = ints(3, 5, low=0 if dtype == "uint8" else -6, high=7, dtype=dtype)
    b = ints(3, 5, low=1, high=4, dtype=dtype, seed=1)
    check(o.Relu, [a], torch.relu)
    check(o.Clip, [a], lambda x: x.clamp(2, 4), min=2.0, max=4.0)
    check(o.Clip, [a], lambda x: x.clamp(min=2), min=2.0)
    check(o.Neg, [a], torch.neg)
    check(o.Abs, [a], torch.abs)
    for kind in (o.Floor, o.Ceil, o.Round):
        check(kind, [a], torch.clone)
    for kind, oracle in ((o.Add, torch.add), (o.Sub, torch.sub), (o.Mul, torch.mul), (o.Maximum, torch.maximum)):
        check(kind, [a, b], oracle)
    for kind, oracle in ((o.Minimum, torch.minimum), (o.Remainder, torch.remainder), (o.Pow, torch.pow)):
        check(kind, [a, b], oracle)


@pytest.mark.parametrize(
    ("values", "elem", "expected"),
    [
        ([1.9, -1.9, 0.0], "i32", [1, -1, 0]),
        ([0.5, 0.0, -3.0], "bool", [True, False, True]),
        (np.array([True, False]), "f32", [1.0, 0.0]),
        (np.array([3, 255], np.uint8), "i64", [3, 255]),
        (np.array([3, -1], np.int64), "f64", [3.0, -1.0]),
        ([1.5, 2.5], "bf16", [1.5, 2.5]),
        ([1.5, 2.5], "f16", [1.5, 2.5]),
    ],
)
def test_cast(values: Any, elem: str, expected: list[Any]) -> None:
    x = np.asarray(values, np.float32) if isinstance(values, list) else values
    op = o.Cast(value_of(x.shape, {"f": "f32", "b": "bool", "u": "u8", "i": "i64"}[x.dtype.kind]), elem)
    got = op.evaluate(torch.from_numpy(x))
    assert op.out.type.elem == elem and got.dtype == o.torch_dtype(elem)
    assert got.tolist() == expected


def test_cast_to_float_does_not_round_an_oracle() -> None:
    graph = Graph()
    x = graph.add_input(Tensor((1,), "f64"), "x")
    graph.set_outputs([graph.add(o.Cast(x, "f32"))])
    third = torch.tensor([1 / 3], dtype=torch.float64)
    assert evaluate(graph, [third], dtype=torch.float64)[0].item() == 1 / 3
    assert evaluate(graph, [third])[0].item() == float(np.float32(1 / 3))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 3), max_size=4), st.lists(st.integers(1, 3), max_size=4))
def test_broadcasting_is_numpys(a: list[int], b: list[int]) -> None:
    try:
        expected = np.broadcast_shapes(tuple(a), tuple(b))
    except ValueError:
        refuses(r"operands must broadcast together, got shapes", o.Add, value_of(a), value_of(b))
    else:
        assert o.Add(value_of(a), value_of(b)).out.shape == expected


def test_a_layout_stays() -> None:
    blocked = Tensor((1, 2, 4, 4, 8), "f32", Layout("NCHW8c", 16))
    x = Graph().add_input(blocked, "x")
    assert o.Relu(x).out.type == blocked
    assert o.Add(x, x).out.type == blocked
    assert o.Mul(x, value_of(())).out.type == blocked
    assert o.Cast(x, "i32").out.type == Tensor(blocked.shape, "i32", blocked.layout)
    refuses(r"operands of one shape must have one layout", o.Add, x, value_of(blocked.shape))


def test_quantized_operands_are_refused() -> None:
    u8 = value_of((1, 4), Uniform("u8", (0.5,), (3,)))
    bits = value_of((1, 4), BitsAffine("i1", (0.5,), (0.0,)))
    for x in (u8, bits):
        refuses(r"x must hold i8 or i16", o.Relu, x)
        refuses(r"x must hold f16", o.Silu, x)
        refuses(r"x must hold bool or i8", o.Cast, x, "f32")
        refuses(r"a must hold", o.Add, x, x)
        refuses(r"a must hold", o.Equal, x, x)


def test_type_refusals() -> None:
    f32, f64, i32, flag = value_of((2,)), value_of((2,), "f64"), value_of((2,), "i32"), value_of((2,), "bool")
    refuses(r"a and b must hold the same element type, got f32 and f64", o.Add, f32, f64)
    refuses(r"a and b must hold the same element type, got f32 and i32", o.Less, f32, i32)
    refuses(r"a must hold f16 or bf16 or f32 or f64", o.Div, i32, i32)
    refuses(r"x must hold f16", o.Exp, i32)
    refuses(r"x must hold i8", o.Relu, flag)
    refuses(r"a must hold i8", o.Less, flag, flag)
    refuses(r"a must hold bool", o.LogicalAnd, f32, f32)
    refuses(r"x must hold bool", o.LogicalNot, i32)
    refuses(r"c must hold bool", o.Where, f32, f32, f32)
    refuses(r"a and b must hold the same element type", o.Where, flag, f32, i32)
    refuses(r"elem must be one of bool, i8", o.Cast, f32, "f8")
    refuses(r"bounds must be whole numbers for i32, got 0.5 and 2", o.Clip, i32, 0.5, 2)
    refuses(r"min must not exceed max, got 1.0 and 0.0", o.Clip, f32, 1.0, 0.0)
    refuses(r"min must not exceed max, got nan", o.Clip, f32, math.nan, 0.0)
    refuses(r"approximate must be 'none' or 'tanh', got 'erf'", o.Gelu, f32, "erf")
    refuses(r"w must have shape \[4\] or \[1\] for x of shape \[2, 4\], got \[2\]", o.Prelu, value_of((2, 4)), f32)
    refuses(r"x and w must hold the same element type", o.Prelu, value_of((2, 2)), f64)


# -- bits of integers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "oracle"),
    [(o.BitwiseAnd, torch.bitwise_and), (o.BitwiseOr, torch.bitwise_or), (o.BitwiseXor, torch.bitwise_xor)],
    ids=lambda p: getattr(p, "name", None),
)
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
def test_bitwise(kind: Any, oracle: Any, dtype: str) -> None:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    check(kind, [ints(3, 40, low=low, high=high, dtype=dtype), ints(40, low=low, high=high, dtype=dtype, seed=1)], oracle)


@pytest.mark.parametrize(("dtype", "bits"), [("int8", 8), ("int32", 32), ("int64", 64), ("uint8", 8)])
def test_shifts_are_products_and_quotients_by_powers_of_two(dtype: str, bits: int) -> None:
    """Against Python's integers, of any size; beyond the ends of the type everything has been shifted out."""
    limits = np.iinfo(dtype)
    values = [v for v in (limits.min, limits.max, -77, -1, 0, 1, 5, 100) if limits.min <= v <= limits.max]
    places = [p for p in (-1, 0, 1, 3, bits - 1, bits, bits + 1) if p >= limits.min]
    a, b = np.array([(v, p) for v in values for p in places], dtype).T
    left, right = [], []
    for v, p in zip(a.tolist(), b.tolist()):
        far = bits if p < 0 else p
        wrapped = (v << far) % (1 << bits) if far < bits else 0
        left.append(wrapped - (1 << bits) if limits.min < 0 and wrapped >= 1 << (bits - 1) else wrapped)
        right.append(v >> far)
    graph = Graph()
    type_ = Tensor(a.shape, dtype.replace("uint", "u").replace("int", "i"))
    x, y = graph.add_input(type_, "x"), graph.add_input(type_, "y")
    graph.set_outputs([graph.add(o.ShiftLeft(x, y)), graph.add(o.ShiftRight(x, y))])
    got = evaluate(graph, [torch.from_numpy(a.copy()), torch.from_numpy(b.copy())])
    assert [g.tolist() for g in got] == [left, right]


def test_bitwise_refuses_floats() -> None:
    refuses("a must hold integers, got tensor<2xf32>", o.BitwiseAnd, value_of((2,)), value_of((2,)))


def test_the_gradient_of_relu_at_zero_is_zero() -> None:
    graph = Graph()
    graph.set_outputs([graph.add(o.Relu(graph.add_input(Tensor((3,), "f32"), "x")))])
    x = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    evaluate(graph, [x])[0].sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 0, 1]
