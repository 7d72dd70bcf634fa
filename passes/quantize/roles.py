"""The role of each operator in quantization: a layer, a sum, a move, a clamp, arithmetic, a table, or float."""

from __future__ import annotations

from typing import Literal

from ...ir.op import Const, Op, Value
from ...ir.ops import (
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    Clip,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    FakeConvNorm2d,
    Gather,
    IndexSelect,
    Linear,
    Matmul,
    Mean,
    Mul,
    Pad,
    Relu,
    Upsample,
)
from ...ir.types import Uniform

#: `layer` and `sum` make accumulators; `clamp` and `move` keep types; `arithmetic` and `table` round to a type.
Role = Literal["layer", "sum", "move", "clamp", "arithmetic", "table", "float"]


def role(op: Op) -> Role:
    """The role of a float operator; `float` where it has no integer form (`why_float` says why)."""
    if why_float(op) is not None:
        return "float"
    match op:
        case Conv2d() | FakeConvNorm2d() | ConvTranspose2d() | Linear() | Matmul():
            return "layer"
        case Mean() | AvgPool2d() | AdaptiveAvgPool2d():
            return "sum"
        case Relu() | Clip():
            return "clamp"
        case Add() | Mul() if table_input(op) is None:
            return "arithmetic"
        case Elementwise():
            return "table"
    return "move"


def why_float(op: Op) -> str | None:
    """Why an operator has no integer form; None where it has one."""
    if isinstance(op, Const) or op.out.type.elem != "f32":
        return f"it gives {op.out.type}"
    match op:
        case Conv2d() | FakeConvNorm2d() | ConvTranspose2d() | Linear():
            return None if _constant(op.w) and (op.b is None or _constant(op.b)) else "its weights are not f32 constants"
        case AvgPool2d():
            return None if window_size(op) else "its windows hold different numbers of elements"
        case AdaptiveAvgPool2d():
            even = all(size % n == 0 for size, n in zip(op.x.shape[2:], op.size))
            return None if even else f"its windows differ in size: {list(op.x.shape[2:])} to {list(op.size)}"
        case Pad() if op.mode == "constant" and op.value != 0:
            return f"it pads with {op.value:g}, which the type of what it pads may not reach"
        case Mean() if 0 in op.axes:
            return "it averages over the batch, whose size is free"
        case Upsample():
            return None if op.mode == "nearest" else "bilinear resizing has no integer form"
        case Matmul() | Add() | Mul() | Relu() | Clip() | Mean():
            return None
    if op.selects or table_input(op) is not None:
        return None
    return "it has no integer form"


def _constant(v: Value) -> bool:
    return isinstance(v.op, Const) and v.type.elem == "f32"


def table_input(op: Op) -> Value | None:
    """The only f32 operand of a function of one variable: the others are single constant numbers, and the result has its shape."""
    if not isinstance(op, Elementwise) or isinstance(op, Relu | Clip):
        return None
    computed = [v for v in op.operands if not isinstance(v.op, Const)]
    single = all(v.type.size == 1 for v in op.operands if isinstance(v.op, Const))
    if len(set(computed)) != 1 or not single or computed[0].type.elem != "f32" or computed[0].shape != op.out.shape:
        return None
    return computed[0]


def window_size(op: AvgPool2d) -> int | None:
    """What every window of an average pooling divides by; None where windows differ."""
    if op.divisor is not None:
        return op.divisor
    rows, columns = (set(op.counts(i, op.x.shape[2 + i])) for i in (0, 1))
    return rows.pop() * columns.pop() if len(rows) == len(columns) == 1 else None


def data_operands(op: Op) -> list[Value]:
    """Operands that are quantized as activations: all but weights, biases and indices."""
    match op:
        case Conv2d() | FakeConvNorm2d() | ConvTranspose2d() | Linear() | IndexSelect() | Gather():
            return [op.x]
    found = table_input(op)
    return [found] if found is not None else list(dict.fromkeys(op.operands))


def grid(value: Value) -> Uniform | None:
    """The quantized type whose numbers a float value holds, as a dequantized tensor, moved or not; else None."""
    from ...ir.ops import Dequantize

    while value.op is not None and (value.op.selects or isinstance(value.op, Upsample)):
        value = data_operands(value.op)[0]
    if isinstance(value.op, Dequantize) and isinstance(value.op.x.type.elem, Uniform):
        return value.op.x.type.elem
    return None
