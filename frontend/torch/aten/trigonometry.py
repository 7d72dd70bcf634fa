"""The angle of a point, remainders, and signs."""

from __future__ import annotations

from ....ir.op import Op, Value
from ....ir.ops import Abs, Atan2, Less, Mul, Neg, Remainder, Signbit, Sub, TruncDivide, Where
from ...call import Call, Number
from ...registry import converter


@converter("aten.atan2.default", "aten.arctan2.default")
def atan2(call: Call, y: Value, x: Value) -> Op:
    return Atan2(call.cast(y, call.elem), call.cast(x, call.elem))


@converter("aten.fmod.Tensor", "aten.fmod.Scalar")
def fmod(call: Call, a: Value | Number, b: Value | Number) -> Op:
    """The remainder of a division that truncates: it has the sign of a. Of floats |a| mod |b|, which is exact."""
    x, y = call.cast(a, call.elem), call.cast(b, call.elem)
    if not x.type.is_float:
        return Sub(x, Mul(TruncDivide(x, y), y))
    rest = Remainder(Abs(x), Abs(y))
    return Where(Signbit(x), Neg(rest), rest)


@converter("aten.signbit.default")
def signbit(call: Call, x: Value) -> Op:
    """Whether x is negative, -0 included."""
    if x.type.is_float:
        return Signbit(x)
    number = call.cast(x, "u8") if x.type.elem == "bool" else x
    return Less(number, call.const(0, str(number.type.elem)))


@converter("aten.copysign.Tensor", "aten.copysign.Scalar")
def copysign(call: Call, a: Value | Number, b: Value | Number) -> Op:
    """|a| with the sign of b."""
    size = Abs(call.cast(a, call.elem))
    return Where(Signbit(call.cast(b, call.elem)), Neg(size), size)
