"""Indexing by tensors of integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import Add, GreaterEqual, IndexSelect, Less, LogicalAnd, Mul, Transpose, Where
from ...call import Call
from ...registry import converter


@converter("aten.embedding.default")
def embedding(call: Call, table: Value, index: Value, padding_idx: int = -1, scale: bool = False, sparse: bool = False) -> Value:
    return _take(call, table, index, 0, call.shape)


@converter("aten.index_select.default")
def index_select(call: Call, x: Value, dim: int, index: Value) -> Value:
    axis = call.axis(dim, x.type.rank)
    call.static(x, axis)
    return _take(call, x, index, axis, call.shape)


@converter("aten.index.Tensor", "aten._unsafe_index.Tensor")
def index(call: Call, x: Value, indices: Sequence[Value | None]) -> Value:
    """x[:, i, j] with indices that broadcast together; negative ones count from the end."""
    given = [(axis, i) for axis, i in enumerate(indices) if i is not None]
    if any(i.type.elem == "bool" for _, i in given):
        raise call.unsupported("indexing by a mask gives a tensor whose shape depends on data, which is out of scope; valid: torch.where")
    for axis, _ in given:
        call.static(x, axis)
    arrays = [call.constant(i) for _, i in given]
    if len(given) == 1 and arrays[0] is None:
        axis, computed = given[0]
        return _take(call, x, from_start(call, computed, x.shape[axis]), axis, call.shape)
    known = [a for a in arrays if a is not None]
    axes = [axis for axis, _ in given]
    if len(known) == len(given):
        return _take_constant(call, x, axes, known)
    sizes = [x.shape[a] for a in axes]
    return _take_merged(call, x, axes, flat_places(call, [i for _, i in given], sizes))


def from_start(call: Call, index: Value, size: int) -> Value:
    """Indices as i64, plus the size where they count from the end; those out of range stay unchanged, so that the error names them."""
    array = call.constant(index)
    if array is not None:
        return call.const(np.where(array < 0, array.astype(np.int64) + size, array), "i64")
    wide = call.cast(index, "i64")
    if index.type.elem == "u8":
        return wide
    behind = LogicalAnd(Less(wide, call.const(0, "i64")), GreaterEqual(wide, call.const(-size, "i64")))
    return Where(behind, Add(wide, call.const(size, "i64")), wide).out


def flat_places(call: Call, indices: Sequence[Value], sizes: Sequence[int]) -> Value:
    """Flat places in axes of these sizes; -1 where an index is out of range, which is an error when it is used."""
    places: Value = call.const(0, "i64")
    valid: Value | None = None
    for axis, (i, size) in enumerate(zip(indices, sizes)):
        at = from_start(call, i, size)
        places = Add(places, Mul(at, call.const(int(np.prod(sizes[axis + 1 :], dtype=np.int64)), "i64"))).out
        if call.constant(i) is None:
            inside = LogicalAnd(GreaterEqual(at, call.const(0, "i64")), Less(at, call.const(size, "i64"))).out
            valid = inside if valid is None else LogicalAnd(valid, inside).out
        elif not ((at.op.array >= 0) & (at.op.array < size)).all():  # type: ignore[union-attr]
            raise call.unsupported(f"an index from {at.op.array.min()} to {at.op.array.max()}; valid: {-size} to {size - 1}")  # type: ignore[union-attr]
    return places if valid is None else Where(valid, places, call.const(-1, "i64")).out


def static_shape(call: Call, *xs: Value) -> None:
    """Raise `StaticBatchNeeded` where a size of these depends on the batch."""
    for x in xs:
        for axis in range(x.type.rank):
            call.static(x, axis)


def _take_constant(call: Call, x: Value, axes: list[int], arrays: list[np.ndarray]) -> Value:
    sizes = [x.shape[a] for a in axes]
    places = np.ravel_multi_index([np.where(a < 0, a + n, a) for a, n in zip(np.broadcast_arrays(*arrays), sizes)], sizes)
    return _take_merged(call, x, axes, call.const(places, "i64"))


def _take_merged(call: Call, x: Value, axes: list[int], places: Value) -> Value:
    """x at places in the axes taken as one."""
    sizes = [x.shape[a] for a in axes]
    # axes side by side stay where they are, others move to the front, as in numpy
    if axes != list(range(axes[0], axes[-1] + 1)):
        x, dims = _to_front(call, x, axes)
        axes = list(range(len(axes)))
    else:
        dims = call.dims(x)
    first, last = axes[0], axes[-1]
    merged = call.reshape(x, (*dims[:first], int(np.prod(sizes)), *dims[last + 1 :]))
    array = call.constant(places)
    flat = call.const(array.reshape(-1), "i64") if array is not None else call.reshape(places, (places.type.size,))
    return call.reshape(IndexSelect(merged, flat, first), call.shape)


def _to_front(call: Call, x: Value, axes: list[int]) -> tuple[Value, tuple[int, ...]]:
    perm = (*axes, *(i for i in range(x.type.rank) if i not in axes))
    dims = call.dims(x)
    return Transpose(x, perm).out, tuple(dims[p] for p in perm)


def _take(call: Call, x: Value, index: Value, axis: int, shape: Sequence[int]) -> Value:
    """x at integers of any shape along an axis."""
    dims = call.dims(index)
    array = call.constant(index)
    if array is not None:
        index = call.const(np.where(array < 0, array + x.shape[axis], array), "i64")
    flat = call.reshape(call.cast(index, "i64"), (-1,) if -1 in dims else (index.type.size,))
    taken: Op = IndexSelect(x, flat, axis)
    return call.reshape(taken, shape)
