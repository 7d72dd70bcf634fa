"""Indexing by tensors of integers, constant or computed."""

from __future__ import annotations

import math

import numpy as np

from ....ir.op import Const, Op, Value
from ....ir.ops import Add, Cast, Equal, IndexSelect, Less, Lookup, StorageCast, Sub, Where
from ..inputs import elem_type
from ..integers import constant, meaningless, plain, stored
from ..node import Node
from ..registry import Ints, onnx_converter


@onnx_converter("Gather")
def gather(node: Node, x: Value, index: Value, *, axis: int = 0) -> Value:
    """x at integers of any shape along an axis; negative ones count from the end."""
    if (found := _lookup(x, index)) is not None:
        return found
    along = node.axis(axis, x.type.rank)
    size = node.static(x, along)
    dims, places = node.dims(x), node.dims(index)
    flat = node.reshape(positive(node, index, size), (math.prod(places, start=1),))
    return node.reshape(IndexSelect(x, flat, along), (*dims[:along], *places, *dims[along + 1 :]))


def _lookup(x: Value, index: Value) -> Value | None:
    """A gather from a table of 256 bytes at 8-bit integers as a `quant.lookup`; None for any other."""
    table, place = x.op, index.op
    if not isinstance(table, Const) or x.shape != (256,) or x.type.elem not in ("u8", "i8"):
        return None
    if isinstance(place, Sub) and isinstance(place.b.op, Const) and (place.b.op.array == -128).all():
        place = place.a.op
    source = place.x if isinstance(place, Cast) else None
    if source is None or source.type.elem != ("u8" if place is index.op else "i8"):
        return None
    kept = source.op.x if isinstance(source.op, StorageCast) else stored(source, meaningless(str(source.type.elem)))
    return plain(Lookup(kept, constant(table, table.array, meaningless(str(x.type.elem)))))


def positive(node: Node, index: Value, size: int) -> Value:
    """Indices as i64, negative ones plus the size."""
    known = node.constant(index)
    if known is not None:
        return node.const(np.where(known < 0, known.astype(np.int64) + size, known), "i64")
    wide = node.cast(index, "i64")
    if index.type.elem in ("u8", "bool"):
        return wide
    return Where(Less(wide, node.const(0, "i64")), Add(wide, node.const(size, "i64")), wide).out


def take_flat(node: Node, x: Value, places: np.ndarray) -> Value:
    """Elements of x at known flat indices, in row-major order."""
    for axis in range(x.type.rank):
        node.static(x, axis)
    flat = node.reshape(x, (x.type.size,))
    return node.reshape(IndexSelect(flat, node.const(places.reshape(-1), "i64"), 0), places.shape)


@onnx_converter("OneHot")
def one_hot(node: Node, index: Value, depth: Ints, values: Value, *, axis: int = -1) -> Op:
    """values[1] where the new axis equals the index, else values[0]"""
    size = depth[0]
    along = node.axis(axis, index.type.rank + 1)
    dims = node.dims(index)
    column = node.reshape(positive(node, node.cast(index, "i64"), size), (*dims[:along], 1, *dims[along:]))
    places = node.const(np.arange(size).reshape(-1, *[1] * (index.type.rank - along)), "i64")
    off, on = (IndexSelect(values, node.const([i], "i64"), 0).out for i in (0, 1))
    return Where(Equal(column, places), on, off)


@onnx_converter("EyeLike")
def eye_like(node: Node, x: Value, *, dtype: int | None = None, k: int = 0) -> Value:
    """The identity matrix of x's shape."""
    elem = str(x.type.elem) if dtype is None else elem_type(dtype, "EyeLike")
    return node.const(np.eye(node.static(x, 0), node.static(x, 1), k), elem)


@onnx_converter("Compress")
def compress(node: Node, x: Value, condition: Ints, *, axis: int | None = None) -> Value:
    """The elements, or the slices along an axis, whose condition holds."""
    places = np.flatnonzero(condition)
    if axis is None:
        return take_flat(node, x, places)
    along = node.axis(axis, x.type.rank)
    node.static(x, along)
    return IndexSelect(x, node.const(places, "i64"), along).out
