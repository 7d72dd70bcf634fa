"""Builds quantized types from ONNX, which has an integer tensor, and its scale and zero point in each node that reads it.

real = scale * (stored - zero_point), with one scale for the tensor, scales along an axis, or one for each block of elements.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from ...ir.op import Const, Op, Value
from ...ir.ops import Add, Clip, Concat, Div, Lookup, Mul, Pad, Round, StorageCast, Sub, Upsample
from ...ir.types import Uniform, storage_elem, storage_range
from .node import Node

#: Integers that a tensor may be quantized to.
STORAGES = {
    TensorProto.UINT8: "u8",
    TensorProto.INT8: "i8",
    TensorProto.UINT16: "u16",
    TensorProto.INT16: "i16",
    TensorProto.UINT4: "u4",
    TensorProto.INT4: "i4",
}
#: Plain element type that holds each of them.
HELD = {"u8": "u8", "i8": "i8", "u16": "i32", "i16": "i16", "u4": "u8", "i4": "i8"}


def uniform_type(node: Node, storage: str, scale: Value, zero: Value | None, axis: int, rank: int) -> Uniform | None:
    """The quantized type of a tensor; None where scales are computed or per block, or zero points along an axis are not 0."""
    scales, zeros = node.constant(scale), np.zeros(1, np.int64) if zero is None else node.constant(zero)
    if scales is None or zeros is None or scale.type.elem != "f32" or scales.ndim > 1 or storage == "u16":
        return None
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise node.unsupported(f"a scale of {scales.min():g}; valid: positive and finite scales")
    along = None if scales.size == 1 else node.axis(axis, rank)
    if zeros.any() and (along is not None or storage == "i32"):
        return None
    count = scales.size
    return Uniform(storage, tuple(map(float, scales.reshape(-1))), (int(zeros.reshape(-1)[0]) if along is None else 0,) * count, along)


def meaningless(storage: str, zero: int = 0) -> Uniform:
    """A quantized type of scale 1: integers that stand for themselves, less a zero point."""
    return Uniform(storage, (1.0,), (zero,))


def stored(x: Value, elem: Uniform) -> Value:
    """A plain integer tensor as one of a quantized type. Ops before it that only move elements are rebuilt on that type, back to a storage cast."""
    op = x.op
    if isinstance(op, StorageCast) and op.x.type.elem == elem:
        return op.x
    if isinstance(op, Const):
        return constant(op, op.array, elem)
    if isinstance(op, StorageCast) and isinstance(op.x.op, Lookup) and isinstance(op.x.op.table.op, Const):
        table = op.x.op.table.op
        return op.x.op.rebuilt(table=constant(table, table.array, elem), loc=op.x.op.loc).out
    if op is not None and elem.axis is None and _moves(op):
        if isinstance(op, Concat):
            return op.rebuilt(xs=[stored(v, elem) for v in op.xs], loc=op.loc).out
        value = {"value": (op.value - elem.zero_points[0]) * elem.scales[0]} if isinstance(op, Pad) and op.mode == "constant" else {}
        return op.rebuilt(x=stored(op.operands[0], elem), **value, loc=op.loc).out
    return StorageCast(x, elem).out


def _moves(op: Op) -> bool:
    """Whether the op only moves elements, and its sources lead back over such ops to storage casts or constants."""
    if not (op.selects or (isinstance(op, Upsample) and op.mode == "nearest")):
        return False
    sources = op.xs if isinstance(op, Concat) else op.operands[:1]
    return all(v.op is not None and (isinstance(v.op, StorageCast | Const) or _moves(v.op)) for v in sources)


def plain(x: Value | Op) -> Value:
    """A tensor of a quantized type as plain integers."""
    return StorageCast(x).out


def constant(op: Const, array: np.ndarray, elem: Uniform) -> Value:
    """A constant of a quantized type in place of another, at its location."""
    return Const(np.ascontiguousarray(array, storage_numpy(elem)), elem, loc=op.loc).out


def storage_numpy(elem: Uniform) -> Any:
    from ...ir.types import NUMPY

    return NUMPY[storage_elem(elem)]


def weight(node: Node, w: Value, storage: str, scale: Value, zero: Value | None, axis: int) -> Value | None:
    """A constant weight shifted to zero point 0, as layers take it; None where it is computed, or does not fit i8 after the shift."""
    elem = uniform_type(node, "i8" if storage in ("u8", "i8", "u4", "i4") else storage, scale, None, axis, w.type.rank)
    if elem is None or not isinstance(w.op, Const):
        return None
    zeros = np.zeros(1, np.int64) if zero is None else node.constant(zero)
    if zeros is None:
        return None
    array = w.op.array.astype(np.int64)
    centered = array - (
        zeros.reshape(()) if zeros.size == 1 else zeros.reshape([-1 if i == node.axis(axis, array.ndim) else 1 for i in range(array.ndim)])
    )
    low, high = storage_range(elem.storage)
    return constant(w.op, centered, elem) if low <= centered.min(initial=0) and centered.max(initial=0) <= high else None


# -- expanded to floats ------------------------------------------------------------------------


def aligned(node: Node, p: Value, x: Value, axis: int, block: int) -> Value:
    """A scale or zero point that broadcasts against x: one number, one along an axis, or one for each block of an axis."""
    if p.type.size == 1 and not block:
        return node.reshape(p, ())
    at = node.axis(axis, x.type.rank)
    if not block:
        return node.reshape(p, [p.type.size if i == at else 1 for i in range(x.type.rank)])
    size = node.static(x, at)
    if p.type.rank != x.type.rank or -(-size // block) != p.shape[at]:
        raise node.unsupported(f"blocks of {block} along axis {at} of {list(x.shape)} with scales {list(p.shape)}")
    shape = list(p.shape)
    wide = node.expand(node.reshape(p, [*shape[: at + 1], 1, *shape[at + 1 :]]), [*shape[: at + 1], block, *shape[at + 1 :]])
    from .ops.slices import cut

    return cut(node, node.reshape(wide, [n * block if i == at else n for i, n in enumerate(shape)]), at, 0, size)


def dequantized(node: Node, x: Value, scale: Value, zero: Value | None, axis: int, block: int) -> Value:
    """(stored - zero_point) * scale in floats of the scale's type."""
    elem = str(scale.type.elem)
    y = node.cast(x, "i32" if zero is not None else elem)
    if zero is not None:
        y = node.cast(Sub(y, aligned(node, node.cast(zero, "i32"), x, axis, block)), elem)
    return Mul(y, aligned(node, scale, x, axis, block)).out


def quantized(node: Node, x: Value, scale: Value, zero: Value | None, axis: int, block: int, storage: str) -> Value:
    """clamp(rint(x / scale) + zero_point) as plain integers."""
    elem = str(scale.type.elem)
    y = Round(Div(node.cast(x, elem), aligned(node, scale, x, axis, block))).out
    wide = node.cast(y, "f32")
    if zero is not None:
        wide = Add(wide, aligned(node, node.cast(zero, "f32"), x, axis, block)).out
    low, high = storage_range(storage)
    return node.cast(Clip(wide, float(low), float(high)), HELD[storage])
