"""Functions of one tensor, arithmetic, comparisons and logic."""

from __future__ import annotations

import math
from functools import reduce

from ....ir.op import Op, Value
from ....ir.ops import (
    Abs,
    Add,
    Ceil,
    Div,
    Equal,
    Erf,
    Exp,
    Floor,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Log,
    LogicalAnd,
    LogicalNot,
    LogicalOr,
    Maximum,
    Minimum,
    Mul,
    Neg,
    NotEqual,
    Pow,
    Remainder,
    Round,
    Sqrt,
    Sub,
    Tanh,
    Where,
)
from ..inputs import elem_type
from ..node import Node
from ..registry import onnx_converter

UNARY: dict[str, type[Op]] = {
    "Abs": Abs,
    "Ceil": Ceil,
    "Erf": Erf,
    "Exp": Exp,
    "Floor": Floor,
    "Log": Log,
    "Neg": Neg,
    "Not": LogicalNot,
    "Round": Round,
    "Sqrt": Sqrt,
    "Tanh": Tanh,
}
BINARY: dict[str, type[Op]] = {
    "Add": Add,
    "Sub": Sub,
    "Mul": Mul,
    "And": LogicalAnd,
    "Or": LogicalOr,
    "Xor": NotEqual,
    "Equal": Equal,
}
ORDER: dict[str, type[Op]] = {"Greater": Greater, "Less": Less, "GreaterOrEqual": GreaterEqual, "LessOrEqual": LessEqual}


def _register_unary(name: str, kind: type[Op]) -> None:
    @onnx_converter(name)
    def convert(node: Node, x: Value) -> Op:
        return kind(x)


def _register_binary(name: str, kind: type[Op]) -> None:
    @onnx_converter(name)
    def convert(node: Node, a: Value, b: Value) -> Op:
        return kind(a, b)


for _name, _kind in UNARY.items():
    _register_unary(_name, _kind)
for _name, _kind in (BINARY | ORDER).items():
    _register_binary(_name, _kind)


@onnx_converter("Div")
def div(node: Node, a: Value, b: Value) -> Value | Op:
    """Integers divide towards zero. In f64 that is exact up to 2^53."""
    if a.type.is_float:
        return Div(a, b)
    quotient = Div(node.cast(a, "f64"), node.cast(b, "f64")).out
    return node.cast(_truncated(node, quotient), str(a.type.elem))


def _truncated(node: Node, x: Value) -> Op:
    return Where(GreaterEqual(x, node.like(x, 0)), Floor(x), Ceil(x))


@onnx_converter("Pow")
def power(node: Node, a: Value, b: Value) -> Value | Op:
    """The exponent may have another type; the result has the base's."""
    if a.type.is_float or not b.type.is_float:
        return Pow(a, node.cast(b, str(a.type.elem)))
    return node.cast(Pow(node.cast(a, str(b.type.elem)), b), str(a.type.elem))


@onnx_converter("Mod")
def modulo(node: Node, a: Value, b: Value, *, fmod: int = 0) -> Value | Op:
    """Remainder with the sign of the divisor, or of the dividend with fmod=1: a - trunc(a / b) * b."""
    if not fmod:
        return Remainder(a, b)
    size = Remainder(Abs(a), Abs(b)).out
    return Where(Less(a, node.like(a, 0)), Neg(size), size)


def _register_variadic(name: str, kind: type[Op]) -> None:
    @onnx_converter(name)
    def convert(node: Node, first: Value, *rest: Value) -> Value:
        return reduce(lambda a, b: kind(a, b).out, rest, first)


for _name, _kind in {"Max": Maximum, "Min": Minimum, "Sum": Add}.items():
    _register_variadic(_name, _kind)


@onnx_converter("Mean")
def mean(node: Node, first: Value, *rest: Value) -> Op:
    total = reduce(lambda a, b: Add(a, b).out, rest, first)
    return Div(total, node.like(total, 1 + len(rest)))


@onnx_converter("Where")
def where(node: Node, condition: Value, a: Value, b: Value) -> Op:
    return Where(condition, a, b)


@onnx_converter("Cast")
def cast(node: Node, x: Value, *, to: int, saturate: int = 1, round_mode: str = "up") -> Value:
    return node.cast(x, elem_type(to, f"the result of {node.operator} [{node.loc}]"))


@onnx_converter("CastLike")
def cast_like(node: Node, x: Value, y: Value, *, saturate: int = 1, round_mode: str = "up") -> Value:
    return node.cast(x, str(y.type.elem))


@onnx_converter("Reciprocal")
def reciprocal(node: Node, x: Value) -> Op:
    return Div(node.like(x, 1), x)


@onnx_converter("Sign")
def sign(node: Node, x: Value) -> Op:
    zero = node.like(x, 0)
    one = Where(Greater(x, zero), node.like(x, 1), zero).out
    return one.op if x.type.elem == "u8" and one.op else Where(Less(x, zero), node.like(x, -1), one)


@onnx_converter("IsNaN")
def is_nan(node: Node, x: Value) -> Op:
    return NotEqual(x, x)


@onnx_converter("IsInf")
def is_inf(node: Node, x: Value, *, detect_negative: int = 1, detect_positive: int = 1) -> Op:
    if detect_negative and detect_positive:
        return Equal(Abs(x), node.like(x, math.inf))
    if not detect_negative and not detect_positive:
        return LogicalAnd(NotEqual(x, x), Equal(x, x))
    return Equal(x, node.like(x, math.inf if detect_positive else -math.inf))


@onnx_converter("Sinh")
def sinh(node: Node, x: Value) -> Op:
    """2t / (1 - t^2) with t = tanh(x/2), which keeps the digits of small x; (e^x - e^-x) / 2 for others"""
    one, half = node.like(x, 1), node.like(x, 0.5)
    small = Less(Abs(x), one).out
    t = Tanh(Mul(Where(small, x, node.like(x, 0)), half)).out
    return Where(small, Div(Add(t, t), Sub(one, Mul(t, t))), Mul(Sub(Exp(x), Exp(Neg(x))), half))


@onnx_converter("Cosh")
def cosh(node: Node, x: Value) -> Op:
    return Mul(Add(Exp(x), Exp(Neg(x))), node.like(x, 0.5))


def log1p(node: Node, x: Value) -> Op:
    """log(u) * x / (u - 1) with u = 1 + x: the rounding error of u cancels (Kahan)"""
    one = node.like(x, 1)
    u = Add(x, one).out
    lost = Equal(u, one).out
    return Where(lost, x, Div(Mul(Log(u), x), Where(lost, one, Sub(u, one))))


@onnx_converter("Asinh")
def asinh(node: Node, x: Value) -> Op:
    """sign(x) * log1p(a + a^2 / (1 + sqrt(a^2 + 1))) with a = |x|; log(a) + log(2) where a^2 would overflow"""
    a = Abs(x).out
    one, large = node.like(x, 1), Greater(a, node.like(x, 1e9)).out
    safe = Where(large, one, a).out
    square = Mul(safe, safe).out
    inner = Add(safe, Div(square, Add(one, Sqrt(Add(square, one))))).out
    y = Where(large, Add(Log(a), node.like(x, math.log(2))), log1p(node, inner)).out
    return Where(Less(x, node.like(x, 0)), Neg(y), y)


@onnx_converter("Acosh")
def acosh(node: Node, x: Value) -> Op:
    """log1p(t + sqrt(t^2 + 2t)) with t = x - 1"""
    t = Sub(x, node.like(x, 1)).out
    return log1p(node, Add(t, Mul(Sqrt(t), Sqrt(Add(t, node.like(x, 2))))).out)


@onnx_converter("Atanh")
def atanh(node: Node, x: Value) -> Op:
    """log1p(2x / (1 - x)) / 2"""
    return Mul(log1p(node, Div(Add(x, x), Sub(node.like(x, 1), x)).out), node.like(x, 0.5))
