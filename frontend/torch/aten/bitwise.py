"""Operators on the bits of integers; on bools they are logical operators."""

from __future__ import annotations

from ....ir.op import Op, Value
from ....ir.ops import BitwiseAnd, BitwiseOr, BitwiseXor, LogicalAnd, LogicalNot, LogicalOr, NotEqual, ShiftLeft, ShiftRight
from ...call import Call, Number
from ...registry import converter

#: The op for integers, and the one for bools.
BITWISE: dict[str, tuple[type[Op], type[Op]]] = {
    "and": (BitwiseAnd, LogicalAnd),
    "or": (BitwiseOr, LogicalOr),
    "xor": (BitwiseXor, NotEqual),
}
SHIFTS: dict[str, type[Op]] = {"left": ShiftLeft, "right": ShiftRight}


def _register(name: str, integers: type[Op], bools: type[Op]) -> None:
    @converter(f"aten.bitwise_{name}.Tensor", f"aten.bitwise_{name}.Scalar", f"aten.bitwise_{name}.Scalar_Tensor")
    @converter(f"aten.__{name}__.Tensor", f"aten.__{name}__.Scalar")
    def convert(call: Call, a: Value | Number, b: Value | Number) -> Op:
        kind = bools if call.elem == "bool" else integers
        return kind(call.cast(a, call.elem), call.cast(b, call.elem))


for _name, (_integers, _bools) in BITWISE.items():
    _register(_name, _integers, _bools)


def _register_shift(name: str, kind: type[Op]) -> None:
    @converter(*(f"aten.bitwise_{name}_shift.{overload}" for overload in ("Tensor", "Tensor_Scalar", "Scalar_Tensor")))
    @converter(*(f"aten.__{name[0]}shift__.{overload}" for overload in ("Tensor", "Scalar")))
    def convert(call: Call, a: Value | Number, b: Value | Number) -> Op:
        return kind(call.cast(a, call.elem), call.cast(b, call.elem))


for _name, _kind in SHIFTS.items():
    _register_shift(_name, _kind)


@converter("aten.bitwise_not.default")
def bitwise_not(call: Call, x: Value) -> Op:
    """Every bit of x inverted."""
    return LogicalNot(x) if x.type.elem == "bool" else BitwiseXor(x, call.const(-1 if x.type.elem != "u8" else 255, call.elem))
