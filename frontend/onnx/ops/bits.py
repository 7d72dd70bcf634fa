"""Operators on the bits of integers."""

from __future__ import annotations

from ....ir.op import Op, Value
from ....ir.ops import BitwiseAnd, BitwiseOr, BitwiseXor, ShiftLeft, ShiftRight
from ..node import Node
from ..registry import onnx_converter

BITWISE: dict[str, type[Op]] = {"BitwiseAnd": BitwiseAnd, "BitwiseOr": BitwiseOr, "BitwiseXor": BitwiseXor}


def _register(name: str, kind: type[Op]) -> None:
    @onnx_converter(name)
    def convert(node: Node, a: Value, b: Value) -> Op:
        return kind(a, b)


for _name, _kind in BITWISE.items():
    _register(_name, _kind)


@onnx_converter("BitwiseNot")
def bitwise_not(node: Node, x: Value) -> Op:
    return BitwiseXor(x, node.like(x, -1 if str(x.type.elem).startswith("i") else 255))


@onnx_converter("BitShift")
def bit_shift(node: Node, a: Value, b: Value, *, direction: str) -> Op:
    return ShiftLeft(a, b) if direction == "LEFT" else ShiftRight(a, b)
