"""Indexing by tensors of integers. Places that are known when the model is loaded may have any form."""

from __future__ import annotations

import math

import numpy as np

from ....ir.op import Const, Op, Value
from ....ir.ops import Add, Cast, Concat, Equal, IndexSelect, Less, Lookup, Maximum, Minimum, Mul, StorageCast, Sub, Where
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
    flat = node.reshape(_positive(node, index, size), (math.prod(places, start=1),))
    return node.reshape(IndexSelect(x, flat, along), (*dims[:along], *places, *dims[along + 1 :]))


def _lookup(x: Value, index: Value) -> Value | None:
    """A table of all 256 integers of 8 bits, read at integers of 8 bits, is a lookup."""
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


def _positive(node: Node, index: Value, size: int) -> Value:
    """Indices as i64 from 0."""
    known = node.constant(index)
    if known is not None:
        return node.const(np.where(known < 0, known.astype(np.int64) + size, known), "i64")
    wide = node.cast(index, "i64")
    if index.type.elem in ("u8", "bool"):
        return wide
    return Where(Less(wide, node.const(0, "i64")), Add(wide, node.const(size, "i64")), wide).out


def take_flat(node: Node, x: Value, places: np.ndarray) -> Value:
    """x, in row-major order, at known places."""
    for axis in range(x.type.rank):
        node.static(x, axis)
    flat = node.reshape(x, (x.type.size,))
    return node.reshape(IndexSelect(flat, node.const(places.reshape(-1), "i64"), 0), places.shape)


def _known(node: Node, index: Value) -> np.ndarray:
    array = node.constant(index)
    if array is None:
        raise node.unsupported("indices that are computed; valid: indices known when the model is loaded, or Gather")
    return array.astype(np.int64)


@onnx_converter("GatherElements")
def gather_elements(node: Node, x: Value, index: Value, *, axis: int = 0) -> Value:
    """y[i, j] = x[index[i, j], j] for axis 0"""
    places = _known(node, index)
    grid: list[np.ndarray] = [*np.indices(places.shape)]
    along = node.axis(axis, x.type.rank)
    grid[along] = places % x.shape[along]
    return take_flat(node, x, np.ravel_multi_index(tuple(grid), x.shape))


@onnx_converter("GatherND")
def gather_nd(node: Node, x: Value, index: Value, *, batch_dims: int = 0) -> Value:
    """y[i, ...] = x[index[i, 0], index[i, 1], ..., ...]"""
    every = np.arange(x.type.size).reshape(x.shape)
    places = _known(node, index)
    lead = places.shape[:batch_dims]
    depth = places.shape[-1]
    merged = every.reshape(-1, *every.shape[batch_dims:])
    rows = places.reshape(-1, *places.shape[batch_dims:])
    taken = np.stack([part[tuple(np.moveaxis(row, -1, 0))] for part, row in zip(merged, rows)])
    return take_flat(node, x, taken.reshape(*lead, *places.shape[batch_dims:-1], *x.shape[batch_dims + depth :]))


@onnx_converter("ScatterElements", "Scatter")
def scatter_elements(node: Node, x: Value, index: Value, updates: Value, *, axis: int = 0, reduction: str = "none") -> Value:
    """x with y[index[i, j], j] = updates[i, j] for axis 0"""
    places = _known(node, index)
    grid: list[np.ndarray] = [*np.indices(places.shape)]
    along = node.axis(axis, x.type.rank)
    grid[along] = places % x.shape[along]
    return _scattered(node, x, np.ravel_multi_index(tuple(grid), x.shape), updates, reduction)


@onnx_converter("ScatterND")
def scatter_nd(node: Node, x: Value, index: Value, updates: Value, *, reduction: str = "none") -> Value:
    """x with y[index[i, 0], ..., ...] = updates[i, ...]"""
    places = _known(node, index)
    every = np.arange(x.type.size).reshape(x.shape)
    return _scattered(node, x, every[tuple(np.moveaxis(places, -1, 0))], updates, reduction)


REDUCTIONS: dict[str, type[Op]] = {"add": Add, "mul": Mul, "max": Maximum, "min": Minimum}


def _scattered(node: Node, x: Value, places: np.ndarray, updates: Value, reduction: str) -> Value:
    """Every element is picked from x behind the updates; with a reduction the updates are first combined with what lies there."""
    if reduction != "none" and reduction not in REDUCTIONS:
        raise node.unsupported(f"reduction {reduction!r}; valid: none, {', '.join(REDUCTIONS)}")
    for value in (x, updates):
        for axis in range(value.type.rank):
            node.static(value, axis)
    flat, new = node.reshape(x, (x.type.size,)), node.reshape(updates, (places.size,))
    if reduction == "none":
        return node.reshape(_put(node, flat, places.reshape(-1), new), x.shape)
    for chosen in _rounds(places.reshape(-1)):
        target = places.reshape(-1)[chosen]
        mine, its = (IndexSelect(v, node.const(i, "i64"), 0) for v, i in ((flat, target), (new, chosen)))
        flat = _put(node, flat, target, REDUCTIONS[reduction](mine, its).out)
    return node.reshape(flat, x.shape)


def _put(node: Node, flat: Value, places: np.ndarray, new: Value) -> Value:
    """A vector with other elements at known places; the last of equal places counts."""
    n = flat.type.size
    sources = np.arange(n)
    sources[places] = n + np.arange(places.size)
    return IndexSelect(Concat([flat, new], 0), node.const(sources, "i64"), 0).out


def _rounds(places: np.ndarray) -> list[np.ndarray]:
    """Indices of places in rounds in which no place occurs twice."""
    seen: dict[int, int] = {}
    rounds = np.array([seen.update({p: seen.get(p, -1) + 1}) or seen[p] for p in places.tolist()], int)
    return [np.flatnonzero(rounds == r) for r in range(rounds.max(initial=-1) + 1)]


@onnx_converter("OneHot")
def one_hot(node: Node, index: Value, depth: Ints, values: Value, *, axis: int = -1) -> Op:
    """values[1] where the new axis equals the index, else values[0]"""
    size = depth[0]
    along = node.axis(axis, index.type.rank + 1)
    dims = node.dims(index)
    column = node.reshape(_positive(node, node.cast(index, "i64"), size), (*dims[:along], 1, *dims[along:]))
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
