"""Type erasure: quantized operators become operators on plain u8, i8 and i32, whose scales and zero points are constant operands.

    quant.requantize(acc){to, low, high}   =>   rescale(acc, M, Z, low - Z, high - Z)         M = f32(S_acc / S_to)

After this stage there are no quantized types. Operators that only move or compare elements work on stored integers unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ....ir.errors import UnsupportedError
from ....ir.graph import Graph, remapped, unattached
from ....ir.op import Const, Op, Value
from ....ir.ops import (
    Dequantize,
    Lookup,
    Pad,
    QuantAdd,
    QuantAvgPool2d,
    QuantConv2d,
    QuantConvTranspose2d,
    Quantize,
    QuantLinear,
    QuantMatmul,
    QuantMul,
    QuantSoftmax,
    QuantSum,
    QuantSumPool2d,
    ReduceMax,
    Requantize,
    Reshape,
    StorageCast,
    Sum,
)
from ....ir.ops.elementwise import Cast
from ....ir.ops.quant import Rescaled, Rounded
from ....ir.types import NUMPY, Tensor, Uniform, storage_elem, storage_range
from ...tile.integer import (
    Centered,
    CenteredProduct,
    FusedSum,
    IntConv2d,
    IntConvTranspose2d,
    IntLinear,
    IntMatmul,
    IntSumPool2d,
    Quotient,
    Rescale,
    RescaledSum,
    RescaledSumFixed,
    RescaleFixed,
    RescaleProduct,
    TableLookup,
    ToFloat,
)
from ...tile.integer_onnx import AverageQuotient, OrderedSum, RescaleShare, ScaledSumPool2d, ShiftedLookup

Operands = dict[Value, Value]


def erase_types(graph: Graph) -> Graph:
    """The graph without quantized types; itself where it has none."""
    if all(isinstance(v.type.elem, str) for v in [*graph.inputs, *(v for op in graph.ops for v in op.outs)]):
        return graph
    new = Graph(graph.name)
    to: Operands = {v: new.add_input(stored(v.type), v.name, v.name in graph.batched) for v in graph.inputs}
    for op in graph.ops:
        for v in op.outs:
            stored(v.type)
        erased = RULES[type(op)](op, to) if type(op) in RULES else remapped(op, to)
        value = erased.out if isinstance(erased, Op) else erased
        if isinstance(erased, Op) or (value.op is not None and value.op.graph is None):
            assert value.op is not None
            for made in unattached(value.op):
                made.loc = op.loc
            new.add(value.op)
        value.name = value.name or op.outs[0].name
        to[op.outs[0]] = value
        for old, made_value in zip(op.outs[1:], erased.outs[1:] if isinstance(erased, Op) else ()):
            to[old] = made_value
    new.set_outputs([to[v] for v in graph.outputs], graph.output_names, graph.structure)
    return new


def stored(type: Tensor) -> Tensor:
    """The type of the stored integers. Raises `UnsupportedError` where no kernel reads them."""
    if not isinstance(type.elem, str) and (not isinstance(type.elem, Uniform) or type.elem.storage in ("u16", "u32")):
        raise UnsupportedError(f"{type}: no kernel reads it; compiled are !quant.uniform of up to 8 bits, i16 and i32")
    return replace(type, elem=storage_elem(type.elem))


# -- parameters --------------------------------------------------------------------------------


def elem_of(v: Value) -> Uniform:
    """The quantized type of an operand, which an operator's `infer` has checked."""
    assert isinstance(v.type.elem, Uniform)
    return v.type.elem


def scalar(value: float, elem: str) -> Const:
    return Const(np.array(value, NUMPY[elem]))


def zero_of(v: Value, elem: str = "i32") -> Const:
    """The zero point of a type with one scale, or of one without zero points."""
    zeros = elem_of(v).zero_points
    return scalar(zeros[0], elem)


def bounds(op: Rounded | Quantize, elem: str) -> tuple[Const, Const, Const]:
    """Z as i32, and low - Z and high - Z in an element type."""
    zero, low, high = op.bounds if isinstance(op, Rounded) else (op.to.zero_points[0], *op.to.range)
    return scalar(zero, "i32"), scalar(low - zero, elem), scalar(high - zero, elem)


def centered(v: Value, to: Operands) -> Value:
    """q - Z as i32."""
    if v.type.elem == "i32" or storage_elem(v.type.elem) == "i32":
        return to[v]
    return Centered(to[v], zero_of(v)).out


def rounded(op: Rescaled, acc: Value) -> Op:
    """An accumulator as stored integers of the result."""
    to = storage_elem(op.to)
    if op.rounding != "fixed":
        return Rescale(acc, Const(op.multiplier().astype(np.float32)), *bounds(op, "f32"), to)
    factor, shift = op.fixed
    return RescaleFixed(acc, *(Const(np.asarray(a)) for a in (factor, np.int64(1) << (shift - 1), shift)), *bounds(op, "i64"), to)


# -- rules -------------------------------------------------------------------------------------


def erase_const(op: Const, to: Operands) -> Op:
    return Const(op.array, None, op.layout, loc=op.loc)


def erase_layer(op: Any, to: Operands) -> Op:
    """A convolution or linear layer: the zero point of x, which is part of its type, becomes an operand."""
    kind = {QuantConv2d: IntConv2d, QuantConvTranspose2d: IntConvTranspose2d, QuantLinear: IntLinear}[type(op)]
    b = None if op.b is None else to[op.b]
    return kind(to[op.x], to[op.w], b, **op.attrs, zero=zero_of(op.x, storage_elem(op.x.type.elem)))


def erase_matmul(op: QuantMatmul, to: Operands) -> Op:
    return IntMatmul(centered(op.a, to), centered(op.b, to))


def erase_quantize(op: Quantize, to: Operands) -> Op:
    kind, parameter = (Quotient, op.scale) if op.rounding == "onnx" else (Rescale, op.inverse)
    return kind(to[op.x], Const(parameter), *bounds(op, "f32"), storage_elem(op.to))


def erase_dequantize(op: Dequantize, to: Operands) -> Op:
    return ToFloat(centered(op.x, to), Const(op.scale))


def erase_requantize(op: Requantize, to: Operands) -> Op:
    return rounded(op, centered(op.x, to))


def clamped(op: Rounded) -> tuple[Const, Const, Const]:
    """No zero point, and the clamp in f32: for an arithmetic that adds the zero point before it rounds."""
    return scalar(0, "i32"), scalar(op.clamp[0], "f32"), scalar(op.clamp[1], "f32")


def erase_add(op: QuantAdd, to: Operands) -> Op:
    if op.rounding == "onnx":
        stored_by = [(to[v], Const(m.astype(np.float32))) for v, m in zip((op.a, op.b), op.multipliers())]
        (x, m_x), (y, m_y) = stored_by if op.repeated == "a" else stored_by[::-1]
        return FusedSum(x, y, m_x, m_y, Const(op.offset), *clamped(op), storage_elem(op.to), not op.repeated)
    operands = (to[op.a], to[op.b], zero_of(op.a), zero_of(op.b))
    if op.rounding == "f32":
        a, b = (Const(m.astype(np.float32)) for m in op.multipliers())
        return RescaledSum(*operands, a, b, *bounds(op, "f32"), storage_elem(op.to))
    factors = (Const(np.asarray(f)) for f in op.fixed[:2])
    shift = op.fixed[2]
    return RescaledSumFixed(
        *operands, *factors, Const(np.asarray(np.int64(1) << (shift - 1))), Const(np.asarray(shift)), *bounds(op, "i64"), storage_elem(op.to)
    )


def erase_mul(op: QuantMul, to: Operands) -> Op:
    product = CenteredProduct(to[op.a], to[op.b], zero_of(op.a), zero_of(op.b)).out
    if op.rounding == "onnx":
        offset = scalar(op.bounds[0], "f32")
        return RescaleProduct(product, Const(op.multiplier().astype(np.float32)), offset, *clamped(op), storage_elem(op.to))
    return rounded(op, product)


def erase_lookup(op: Lookup, to: Operands) -> Op:
    return TableLookup(to[op.x], to[op.table], storage_range(elem_of(op.x).storage)[0])


def erase_sum_pool(op: QuantSumPool2d, to: Operands) -> Op:
    zero = zero_of(op.x, storage_elem(op.x.type.elem))
    return IntSumPool2d(to[op.x], op.kernel, op.stride, op.padding, zero=zero, ceil_mode=op.ceil_mode)


def erase_avg_pool(op: QuantAvgPool2d, to: Operands) -> Op:
    elem = elem_of(op.x)
    zero, scale = zero_of(op.x, storage_elem(elem)), scalar(elem.scales[0], "f32")
    total = ScaledSumPool2d(to[op.x], op.kernel, op.stride, op.padding, zero=zero, scale=scale, ceil_mode=op.ceil_mode)
    return AverageQuotient(total, *(Const(v) for v in op.parameters()), *clamped(op), storage_elem(op.to))


def erase_softmax(op: QuantSoftmax, to: Operands) -> Op:
    largest = ReduceMax(to[op.x], (op.axis,), True)
    e = ShiftedLookup(to[op.x], largest, Const(op.table()))
    return RescaleShare(e, Const(op.steps), OrderedSum(e, (op.axis,), True), *bounds(op, "f32"), storage_elem(op.to))


def erase_sum(op: QuantSum, to: Operands) -> Op | Value:
    """A sum over all pixels becomes a pool; over other axes, a sum in i64."""
    if op.x.type.rank == 4 and op.axes == (2, 3):
        size = (op.x.shape[2], op.x.shape[3])
        pooled = IntSumPool2d(to[op.x], size, size, zero=zero_of(op.x, storage_elem(op.x.type.elem)))
        return pooled if op.keepdim else Reshape(pooled, op.out.shape)
    acc = centered(op.x, to)
    return Cast(Sum(acc, op.axes, op.keepdim), "i32") if op.axes else acc


def erase_storage_cast(op: StorageCast, to: Operands) -> Value:
    """A storage cast changes only the type, so nothing is left of it."""
    return to[op.x]


def erase_pad(op: Pad, to: Operands) -> Op:
    """A constant border is filled with the stored integer of its value."""
    return op.rebuilt(x=to[op.x], value=float(op.fill) if op.mode == "constant" else 0.0)


RULES: dict[type[Op], Callable[[Any, Operands], Op | Value]] = {
    Const: erase_const,
    QuantConv2d: erase_layer,
    QuantConvTranspose2d: erase_layer,
    QuantLinear: erase_layer,
    QuantMatmul: erase_matmul,
    Quantize: erase_quantize,
    Dequantize: erase_dequantize,
    Requantize: erase_requantize,
    QuantAdd: erase_add,
    QuantMul: erase_mul,
    Lookup: erase_lookup,
    QuantSumPool2d: erase_sum_pool,
    QuantSoftmax: erase_softmax,
    QuantAvgPool2d: erase_avg_pool,
    QuantSum: erase_sum,
    Pad: erase_pad,
    StorageCast: erase_storage_cast,
}
