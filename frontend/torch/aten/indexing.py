"""Indexing by tensors of integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import Add, GreaterEqual, IndexSelect, Less, LogicalAnd, Transpose, Where
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
    """x[:, i, j]: constant indices of any number, or one computed index; negative ones count from the end."""
    given = [(axis, i) for axis, i in enumerate(indices) if i is not None]
    for axis, _ in given:
        call.static(x, axis)
    arrays = [call.constant(i) for _, i in given]
    if len(given) == 1 and arrays[0] is None:
        axis, computed = given[0]
        return _take(call, x, _from_start(call, computed, x.shape[axis]), axis, call.shape)
    known = [a for a in arrays if a is not None]
    if len(known) != len(given):
        raise call.unsupported("indexing by several computed tensors at once")
    return _take_constant(call, x, [axis for axis, _ in given], known)


def _from_start(call: Call, index: Value, size: int) -> Value:
    """index + size where that counts from the end; what is out of range stays as it is, for the error to name."""
    if index.type.elem == "u8":
        return index
    index, zero, length = call.cast(index, "i64"), call.const(0, "i64"), call.const(size, "i64")
    behind = LogicalAnd(Less(index, zero), GreaterEqual(index, call.const(-size, "i64")))
    return Where(behind, Add(index, length), index).out


def _take_constant(call: Call, x: Value, axes: list[int], arrays: list[np.ndarray]) -> Value:
    sizes = [x.shape[a] for a in axes]
    places = np.ravel_multi_index([np.where(a < 0, a + n, a) for a, n in zip(np.broadcast_arrays(*arrays), sizes)], sizes)
    # axes side by side stay where they are, others move to the front, as in numpy
    if axes != list(range(axes[0], axes[-1] + 1)):
        x, dims = _to_front(call, x, axes)
        axes = list(range(len(axes)))
    else:
        dims = call.dims(x)
    first, last = axes[0], axes[-1]
    merged = call.reshape(x, (*dims[:first], int(np.prod(sizes)), *dims[last + 1 :]))
    return call.reshape(IndexSelect(merged, call.const(places.reshape(-1), "i64"), first), call.shape)


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
