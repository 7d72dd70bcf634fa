"""Floats that meet themselves, zeros and sums: compiled code computes what is written, as numpy does, not what holds for reals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backend_run import graph_of
from tvm import tirx as t
from tvm.sym import Analyzer

import tersor
from tersor.backend.codegen.builder import const, equal, not_equal, ramp
from tersor.backend.codegen.ieee import fence, keep_differences, zero
from tersor.ir.op import Value
from tersor.ir.ops import Cast, Equal, LeakyRelu, Less, LogicalAnd, LogicalNot, LogicalOr, NotEqual, Sub
from tersor.ir.ops.elementwise import Unary
from tersor.ir.types import Tensor

NAN, INF = np.nan, np.inf

Expr = Any


class Formula(Unary):
    """An elementwise operator whose formula the simplifier would change."""

    def f(self, m: Any, x: Any) -> Any:
        raise NotImplementedError


class Rounded(Formula, name="test.rounded"):
    def f(self, m: Any, x: Any) -> Any:
        return (x + m.const(x, 1e8)) - m.const(x, 1e8)


class TimesZero(Formula, name="test.times_zero"):
    def f(self, m: Any, x: Any) -> Any:
        return m.const(x, 0) * x


class ZeroOver(Formula, name="test.zero_over"):
    def f(self, m: Any, x: Any) -> Any:
        return m.const(x, 0) / x


class OverZero(Formula, name="test.over_zero"):
    def f(self, m: Any, x: Any) -> Any:
        return x / m.const(x, -0.0)


class PlusZero(Formula, name="test.plus_zero"):
    def f(self, m: Any, x: Any) -> Any:
        return x + m.const(x, 0)


class Rest(Formula, name="test.rest"):
    def f(self, m: Any, x: Any) -> Any:
        return m.where(x > m.const(x, 0), x, m.const(x, 2)) - x


class RootOfDifference(Formula, name="test.root_of_difference"):
    def f(self, m: Any, x: Any) -> Any:
        return m.sqrt(x - x)


def floats(x: Value) -> dict[str, tuple[Any, Callable[[np.ndarray], np.ndarray]]]:
    """Ops of one float value, and the same in numpy."""
    one = x.type.dtype.type
    return {
        "x - x": (Sub(x, x), lambda a: a - a),
        "x == x": (Cast(Equal(x, x), "u8"), lambda a: ~np.isnan(a)),
        "x != x": (Cast(NotEqual(x, x), "u8"), np.isnan),
        "(x + 1e8) - 1e8": (Rounded(x), lambda a: (a + one(1e8)) - one(1e8)),
        "0 * x": (TimesZero(x), lambda a: one(0) * a),
        "0 / x": (ZeroOver(x), lambda a: one(0) / a),
        "x / -0": (OverZero(x), lambda a: a / one(-0.0)),
        "x + 0": (PlusZero(x), lambda a: a + one(0)),
        "select - x": (Rest(x), lambda a: np.where(a > 0, a, one(2)) - a),
        "sqrt(x - x)": (RootOfDifference(x), lambda a: np.sqrt(a - a)),
        "leaky_relu of slope 0": (LeakyRelu(x, 0.0), lambda a: np.where(a > 0, a, one(0) * a)),
    }


def logic(x: Value, y: Value) -> dict[str, tuple[Any, Callable[[np.ndarray, np.ndarray], np.ndarray]]]:
    less, other = Less(x, y), Less(y, x)
    return {
        "not x < y": (Cast(LogicalNot(less), "u8"), lambda a, b: ~(a < b)),
        "not x == y": (Cast(LogicalNot(Equal(x, y)), "u8"), lambda a, b: ~(a == b)),
        "x < y or not": (Cast(LogicalOr(less, LogicalNot(less)), "u8"), lambda a, b: np.ones_like(a, bool)),
        "neither": (Cast(LogicalAnd(LogicalNot(less), LogicalNot(other)), "u8"), lambda a, b: ~(a < b) & ~(b < a)),
    }


@pytest.mark.parametrize("target", ["cpu", "cpu:x86-64-v2"])
def test_compiled_code_follows_ieee(target: str) -> None:
    values = np.array([1.0, NAN, -2.0, INF, 0.0, -INF, -0.0, 3e38, 1e-45, 1.2345678, 77777.7, -1e8], np.float64)
    # whole vectors and what is left behind them
    a = np.resize(values, 37).astype(np.float32)
    b = np.resize(values[::-1], 37).astype(np.float32)
    wide = a.astype(np.float64)
    wanted: dict[str, np.ndarray] = {}

    def build(x: Value, y: Value, z: Value) -> list[Any]:
        ops = []
        with np.errstate(all="ignore"):
            for name, (op, f) in floats(x).items():
                ops.append(op)
                wanted[name] = f(a)
            for name, (op, f) in floats(z).items():
                ops.append(op)
                wanted[f"{name}, f64"] = f(wide)
            for name, (op, g) in logic(x, y).items():
                ops.append(op)
                wanted[name] = g(a, b)
        return ops

    graph = graph_of(build, (37,), (37,), Tensor((37,), "f64"))
    results = tersor.compile(graph, target=target)(a, b, wide)
    for (name, expected), result in zip(wanted.items(), results, strict=True):
        np.testing.assert_array_equal(result, expected, err_msg=name)
        if result.dtype.kind == "f":
            live = ~np.isnan(expected)
            np.testing.assert_array_equal(np.signbit(result[live]), np.signbit(expected[live]), err_msg=name)


def test_tail_of_a_convolution_keeps_nan() -> None:
    """nan_to_num and x - x behind a kernel whose result overflows."""
    from backend_run import conv

    def build(x: Value) -> list[Any]:
        y = conv(x, 8, 1)
        return [Sub(y, y), Cast(NotEqual(y, y), "u8")]

    x = np.zeros((1, 8, 3, 3), np.float32)
    x[0, 2, 1, 1] = NAN
    difference, missing = tersor.compile(graph_of(build, x.shape))(x)
    assert np.isnan(difference[0, :, 1, 1]).all() and np.count_nonzero(np.isnan(difference)) == 8
    assert missing[0, :, 1, 1].all() and np.count_nonzero(missing) == 8


def loads(lanes: int) -> list[Expr]:
    return [t.BufferLoad(t.decl_buffer((64,), "float32", name), [ramp(0, lanes)]) for name in "xy"]


@pytest.mark.parametrize("lanes", [1, 8])
def test_simplifier_changes_what_is_not_kept(lanes: int) -> None:
    """The rules that `ieee` names exist in this TVM, and its forms are left as they are."""
    x, y = loads(lanes)
    z, big = const(0.0, lanes=lanes), const(1e8, lanes=lanes)
    kept = zero("float32") if lanes == 1 else t.Broadcast(zero("float32"), lanes)
    analyzer = Analyzer()
    pairs: list[tuple[Expr, Expr]] = [(d, keep_differences(d)) for d in (
        t.Sub(x, x), t.Sub(t.Add(x, y), y), t.Sub(t.Add(x, big), big), t.Sub(x, t.Add(x, y)), t.Sub(t.Select(t.LT(x, y), x, y), x),
        t.Cast("float64" if lanes == 1 else f"float64x{lanes}", t.Sub(x, x)),
    )]  # fmt: skip
    pairs += [(t.EQ(x, x), equal(x, x)), (t.NE(x, x), not_equal(x, x)), (t.Mul(z, x), t.Mul(kept, x)), (t.Add(x, z), t.Add(x, kept))]
    for plain, form in pairs:
        assert str(analyzer.simplify(plain)) != str(plain), plain
        assert str(analyzer.simplify(form)) == str(form), plain


def test_no_fence_where_nothing_meets() -> None:
    x, y = loads(8)
    for plain in (t.Sub(x, y), t.Sub(t.Mul(x, x), x), t.Sub(fence(x), x), t.Sub(t.Add(x, x), y)):
        assert keep_differences(plain) is plain
