"""Arithmetic, comparisons and logic of two tensors, or of a tensor and a Python number, with torch's type promotion made explicit."""

from __future__ import annotations

from ....ir.op import Op, Value
from ....ir.ops import (
    Abs,
    Add,
    Div,
    Equal,
    FloorDivide,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    LogicalAnd,
    LogicalOr,
    Maximum,
    Minimum,
    Mul,
    NotEqual,
    Pow,
    Remainder,
    Rsqrt,
    Sqrt,
    Sub,
    TruncDivide,
    Where,
)
from ...call import Call, Number
from ...registry import converter

Operand = Value | Number


@converter("aten.add.Tensor", "aten.add.Scalar")
def add(call: Call, a: Operand, b: Operand, alpha: Number = 1) -> Op:
    if call.elem == "bool":
        return LogicalOr(call.cast(a, "bool"), call.cast(b, "bool"))
    return Add(call.cast(a, call.elem), _scaled(call, b, alpha))


@converter("aten.sub.Tensor", "aten.sub.Scalar")
def sub(call: Call, a: Operand, b: Operand, alpha: Number = 1) -> Op:
    return Sub(call.cast(a, call.elem), _scaled(call, b, alpha))


@converter("aten.rsub.Tensor", "aten.rsub.Scalar")
def rsub(call: Call, a: Operand, b: Operand, alpha: Number = 1) -> Op:
    return Sub(call.cast(b, call.elem), _scaled(call, a, alpha))


@converter("aten.mul.Tensor", "aten.mul.Scalar")
def mul(call: Call, a: Operand, b: Operand) -> Op:
    if call.elem == "bool":
        return LogicalAnd(call.cast(a, "bool"), call.cast(b, "bool"))
    return Mul(call.cast(a, call.elem), call.cast(b, call.elem))


@converter("aten.div.Tensor", "aten.div.Scalar", "aten.true_divide.Tensor")
def div(call: Call, a: Operand, b: Operand) -> Op:
    return Div(call.cast(a, call.elem), call.cast(b, call.elem))


@converter("aten.div.Tensor_mode", "aten.div.Scalar_mode")
def div_mode(call: Call, a: Operand, b: Operand, rounding_mode: str | None = None) -> Op:
    if rounding_mode is None:
        return div(call, a, b)
    kind = FloorDivide if rounding_mode == "floor" else TruncDivide
    return kind(call.cast(a, call.elem), call.cast(b, call.elem))


@converter("aten.floor_divide.default", "aten.floor_divide.Scalar")
def floor_divide(call: Call, a: Operand, b: Operand) -> Op:
    return div_mode(call, a, b, "floor")


@converter("aten.remainder.Tensor", "aten.remainder.Scalar", "aten.remainder.Scalar_Tensor")
def remainder(call: Call, a: Operand, b: Operand) -> Op:
    return Remainder(call.cast(a, call.elem), call.cast(b, call.elem))


@converter("aten.pow.Tensor_Scalar", "aten.pow.Tensor_Tensor", "aten.pow.Scalar")
def power(call: Call, a: Operand, b: Operand) -> Op | Value:
    """Powers that torch itself computes by products and roots become those."""
    base = call.cast(a, call.elem)
    if not isinstance(b, Value):
        match float(b):
            case 1.0:
                return base
            case 2.0:
                return Mul(base, base)
            case 3.0:
                return Mul(Mul(base, base), base)
            case 0.5:
                return Sqrt(base)
            case -0.5:
                return Rsqrt(base)
            case -1.0:
                return Div(call.cast(1, call.elem), base)
    return Pow(base, call.cast(b, call.elem))


@converter("aten.maximum.default", "aten.max.other")
def maximum(call: Call, a: Value, b: Value) -> Op:
    if call.elem == "bool":
        return LogicalOr(a, b)
    return Maximum(call.cast(a, call.elem), call.cast(b, call.elem))


@converter("aten.minimum.default", "aten.min.other")
def minimum(call: Call, a: Value, b: Value) -> Op:
    if call.elem == "bool":
        return LogicalAnd(a, b)
    return Minimum(call.cast(a, call.elem), call.cast(b, call.elem))


@converter("aten.fmax.default", "aten.fmin.default")
def number_extreme(call: Call, a: Value, b: Value) -> Op:
    """The extreme of two numbers; of a number and NaN the number."""
    x, y = call.cast(a, call.elem), call.cast(b, call.elem)
    extreme = maximum(call, x, y) if "fmax" in call.target else minimum(call, x, y)
    return Where(NotEqual(x, x), y, Where(NotEqual(y, y), x, extreme)) if x.type.is_float else extreme


@converter("aten.addcmul.default")
def addcmul(call: Call, x: Value, a: Value, b: Value, value: Number = 1) -> Op:
    """x + (value * a) * b, in torch's order: a * b alone may overflow"""
    return Add(call.cast(x, call.elem), Mul(_scaled(call, a, value), call.cast(b, call.elem)))


@converter("aten.addcdiv.default")
def addcdiv(call: Call, x: Value, a: Value, b: Value, value: Number = 1) -> Op:
    """x + (value * a) / b, in torch's order"""
    return Add(call.cast(x, call.elem), Div(_scaled(call, a, value), call.cast(b, call.elem)))


@converter("aten.lerp.Scalar", "aten.lerp.Tensor")
def lerp(call: Call, a: Value, b: Value, weight: Operand) -> Op:
    """a + weight * (b - a) where |weight| < 1/2, else b - (b - a) * (1 - weight): exact at both ends"""
    w, one, half = call.cast(weight, call.elem), call.cast(1, call.elem), call.cast(0.5, call.elem)
    low = Add(a, Mul(w, Sub(b, a)))
    if not isinstance(weight, Value):
        return low if abs(weight) < 0.5 else Sub(b, Mul(Sub(b, a), call.cast(1 - weight, call.elem)))
    return Where(Less(Abs(w), half), low, Sub(b, Mul(Sub(b, a), Sub(one, w))))


COMPARISONS: dict[str, type[Op]] = {"eq": Equal, "ne": NotEqual, "lt": Less, "le": LessEqual, "gt": Greater, "ge": GreaterEqual}


def _register_comparison(name: str, kind: type[Op]) -> None:
    @converter(f"aten.{name}.Tensor", f"aten.{name}.Scalar")
    def convert(call: Call, a: Value, b: Operand) -> Op:
        elem = call.promote(a, b)
        if elem == "bool" and kind not in (Equal, NotEqual):
            elem = "u8"  # false < true as 0 < 1
        return kind(call.cast(a, elem), call.cast(b, elem))


for _name, _kind in COMPARISONS.items():
    _register_comparison(_name, _kind)


@converter("aten.logical_and.default")
def logical_and(call: Call, a: Value, b: Value) -> Op:
    return LogicalAnd(call.truth(a), call.truth(b))


@converter("aten.logical_or.default")
def logical_or(call: Call, a: Value, b: Value) -> Op:
    return LogicalOr(call.truth(a), call.truth(b))


@converter("aten.logical_xor.default")
def logical_xor(call: Call, a: Value, b: Value) -> Op:
    return NotEqual(call.truth(a), call.truth(b))


@converter("aten.where.self", "aten.where.Scalar", "aten.where.ScalarSelf", "aten.where.ScalarOther")
def where(call: Call, c: Value, a: Operand, b: Operand) -> Op:
    return Where(call.truth(c), call.cast(a, call.elem), call.cast(b, call.elem))


@converter("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(call: Call, x: Value, mask: Value, value: Operand) -> Op:
    return Where(mask, call.cast(value, call.elem), x)


@converter("aten._to_copy.default", "prims.convert_element_type.default", "aten.type_as.default")
@converter("aten.to.dtype", "aten.to.dtype_layout", "aten.to.device", "aten.to.other")
def to_copy(call: Call, x: Value, *args: object, **kwargs: object) -> Value:
    return call.cast(x, call.elem)


def _scaled(call: Call, x: Operand, factor: Number) -> Value:
    """x * factor in the result's type; a Python number keeps full precision."""
    if factor == 1:
        return call.cast(x, call.elem)
    if not isinstance(x, Value):
        return call.cast(x * factor, call.elem)
    return Mul(call.cast(x, call.elem), call.cast(factor, call.elem)).out
