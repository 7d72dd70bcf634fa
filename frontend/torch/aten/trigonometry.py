"""Trigonometric and hyperbolic functions, in f64, and remainders."""

from __future__ import annotations

from collections.abc import Callable

from ....ir.op import Op, Value
from ....ir.ops import Add, Div, Equal, Exp, Expm1, Less, Log, Log1p, LogicalAnd, LogicalOr, Mul, Neg, NotEqual, Remainder, Sqrt, Sub, Where
from ...call import Call, Number
from ...registry import converter
from ...trigonometry import TRIGONOMETRY, arc_tangent_2


def _register(name: str, function: Callable[[Call, Value], Value]) -> None:
    @converter(f"aten.{name}.default")
    def convert(call: Call, x: Value) -> Value:
        return call.cast(function(call, call.cast(call.cast(x, call.elem), "f64")), call.elem)


def _sinh(call: Call, x: Value) -> Value:
    """(t + t / (t + 1)) / 2, t = e^x - 1"""
    t = Expm1(x).out
    return Mul(Add(t, Div(t, Add(t, call.const(1, "f64")))), call.const(0.5, "f64")).out


def _cosh(call: Call, x: Value) -> Value:
    return Mul(Add(Exp(x), Exp(Neg(x))), call.const(0.5, "f64")).out


def _acosh(call: Call, x: Value) -> Value:
    return Log(Add(x, Sqrt(Sub(Mul(x, x), call.const(1, "f64"))))).out


def _atanh(call: Call, x: Value) -> Value:
    """log1p(2x / (1 - x)) / 2"""
    return Mul(Log1p(Div(Add(x, x), Sub(call.const(1, "f64"), x))), call.const(0.5, "f64")).out


for _name, _function in TRIGONOMETRY.items():
    _register(_name.lower(), lambda call, x, f=_function: f(x))  # type: ignore[misc]
for _name, _written in {"sinh": _sinh, "cosh": _cosh, "acosh": _acosh, "atanh": _atanh}.items():
    _register(_name, _written)


@converter("aten.atan2.default", "aten.arctan2.default")
def atan2(call: Call, y: Value, x: Value) -> Value:
    return call.cast(arc_tangent_2(call.cast(y, "f64"), call.cast(x, "f64")), call.elem)


@converter("aten.fmod.Tensor", "aten.fmod.Scalar")
def fmod(call: Call, a: Value | Number, b: Value | Number) -> Op:
    """The remainder of a division that truncates: it has the sign of a."""
    x, y = call.cast(a, call.elem), call.cast(b, call.elem)
    zero, rest = call.const(0, call.elem), Remainder(x, y).out
    differs = NotEqual(Less(rest, zero), Less(x, zero)).out
    return Where(LogicalAnd(NotEqual(rest, zero), differs), Sub(rest, y), rest)


@converter("aten.signbit.default")
def signbit(call: Call, x: Value) -> Op:
    """Whether x is negative, -0 included."""
    elem = str(x.type.elem)
    zero = call.const(0, elem)
    if not x.type.is_float:
        return Less(x, zero)
    return LogicalOr(Less(x, zero), LogicalAnd(Equal(x, zero), Less(Div(call.const(1, elem), x), zero)))
