"""Elements at places that differ from element to element: gather, scatter, and assignments to indexed places.

    gather(x, 1, i)[b, j]  =  x.flat[b * n + i[b, j]]

Places are those of the flat tensor, so sizes must be known: the batch is fixed where it is gathered from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import Add, Equal, IndexSelect, Mul, ReduceMax, Sum, Transpose, Where
from ...call import Call, Number
from ...registry import converter
from .indexing import _from_start

#: A scatter compares every place with every index; at most so many comparisons are made in one tensor.
COMPARISONS = 1 << 24


def _along(call: Call, x: Value, axis: int, index: Value) -> Value:
    """Flat places in x of the elements that `index` names along an axis."""
    for a in range(x.type.rank):
        call.static(x, a)
    grid = np.indices(index.shape)
    strides = [int(np.prod(x.shape[a + 1 :], dtype=np.int64)) for a in range(x.type.rank)]
    rest = sum((grid[a] * strides[a] for a in range(x.type.rank) if a != axis), start=np.zeros(index.shape, np.int64))
    place = Mul(_from_start(call, call.cast(index, "i64"), x.shape[axis]), call.const(strides[axis], "i64"))
    return Add(place, call.const(rest, "i64")).out


@converter("aten.gather.default")
def gather(call: Call, x: Value, dim: int, index: Value, *, sparse_grad: bool = False) -> Value:
    if x.type.rank == 0:
        return x
    places = _along(call, x, call.axis(dim, x.type.rank), index)
    flat = IndexSelect(call.reshape(x, (x.type.size,)), call.reshape(places, (index.type.size,)), 0)
    return call.reshape(flat, index.shape)


@converter("aten.take.default")
def take(call: Call, x: Value, index: Value) -> Value:
    """x.flat at integers of any shape."""
    for a in range(x.type.rank):
        call.static(x, a)
    places = call.reshape(_from_start(call, call.cast(index, "i64"), x.type.size), (index.type.size,))
    return call.reshape(IndexSelect(call.reshape(x, (x.type.size,)), places, 0), index.shape)


def put(call: Call, x: Value, places: Value, source: Value, accumulate: bool) -> Value:
    """x with `source` at flat places: the last one where places repeat, or all added.

    hits[i, j] = (places[j] == i);   y[i] = source[last j that hits i], else x[i]
    """
    count, size = places.type.size, x.type.size
    if count * size > COMPARISONS:
        raise call.unsupported(f"a scatter of {count} elements into {size}; valid: at most {COMPARISONS} comparisons, the product of both")
    flat, values = call.reshape(x, (size,)), call.reshape(source, (count,))
    hits = Equal(call.const(np.arange(size)[:, None], "i64"), call.reshape(places, (1, count))).out
    elem = str(x.type.elem)
    if accumulate:
        added = Sum(Where(hits, call.reshape(values, (1, count)), call.const(0, elem)), (1,))
        return call.reshape(Add(flat, added), x.shape)
    order = Where(hits, call.const(np.arange(count)[None], "i64"), call.const(-1, "i64")).out
    last = ReduceMax(order, (1,)).out
    missed = Equal(last, call.const(-1, "i64")).out
    chosen = IndexSelect(values, Where(missed, call.const(0, "i64"), last), 0)
    return call.reshape(Where(missed, flat, chosen), x.shape)


@converter("aten.scatter.src", "aten.scatter.value")
def scatter(call: Call, x: Value, dim: int, index: Value, src: Value | Number) -> Value:
    return _scattered(call, x, dim, index, src, False)


@converter("aten.scatter_add.default")
def scatter_add(call: Call, x: Value, dim: int, index: Value, src: Value) -> Value:
    return _scattered(call, x, dim, index, src, True)


def _scattered(call: Call, x: Value, dim: int, index: Value, src: Value | Number, accumulate: bool) -> Value:
    places = _along(call, x, call.axis(dim, x.type.rank), index)
    if isinstance(src, Value):
        grid = np.ravel_multi_index(tuple(np.indices(index.shape)), src.shape).reshape(-1)
        for a in range(src.type.rank):
            call.static(src, a)
        source = IndexSelect(call.reshape(src, (src.type.size,)), call.const(grid, "i64"), 0).out
    else:
        source = call.const(np.full(index.type.size, src), str(x.type.elem))
    return put(call, x, places, source, accumulate)


@converter("aten.index_put.default", "aten._unsafe_index_put.default")
def index_put(call: Call, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False) -> Value:
    """x[i, j] = values; indices are integers that broadcast together, or one mask of x's shape and a value for all."""
    given = [(axis, i) for axis, i in enumerate(indices) if i is not None]
    for a in range(x.type.rank):
        call.static(x, a)
    if any(i.type.elem == "bool" for _, i in given):
        mask = given[0][1]
        if len(given) > 1 or values.type.size != 1:
            raise call.unsupported("an assignment of several values by a mask; valid: one value, or masks known as integers")
        wide = call.reshape(mask, (*mask.shape, *(1,) * (x.type.rank - mask.type.rank)))
        value = call.reshape(call.cast(values, str(x.type.elem)), ())
        return Where(wide, Add(x, value) if accumulate else value, x).out
    shape = np.broadcast_shapes(*(i.shape for _, i in given))
    axes = [axis for axis, _ in given]
    rest = [a for a in range(x.type.rank) if a not in axes]
    together = axes == list(range(axes[0], axes[-1] + 1))
    lead = axes[0] if together else 0
    # the axes of the places: those of x in front of the indices, those of the indices, the others of x
    before, after = (rest[:lead], rest[lead:]) if together else ([], rest)
    full = (*(x.shape[a] for a in before), *shape, *(x.shape[a] for a in after))
    strides = [int(np.prod(x.shape[a + 1 :], dtype=np.int64)) for a in range(x.type.rank)]
    grid = np.indices(full)
    slots = [*range(len(before)), *range(len(before) + len(shape), len(full))]
    fixed = sum((grid[slot] * strides[a] for slot, a in zip(slots, (*before, *after))), start=np.zeros(full, np.int64))
    places: Value = call.const(fixed, "i64")
    for axis, i in given:
        at = call.reshape(i, (*(1,) * (len(shape) - i.type.rank), *i.shape, *(1,) * len(after)))
        places = Add(places, Mul(_from_start(call, call.cast(at, "i64"), x.shape[axis]), call.const(strides[axis], "i64"))).out
    source = call.cast(values, str(x.type.elem))
    wide = Add(source, call.const(np.zeros(full), str(x.type.elem))).out if source.shape != full else source
    return put(call, x, places, wide, accumulate)


@converter("aten.index_copy.default")
def index_copy(call: Call, x: Value, dim: int, index: Value, source: Value) -> Value:
    """x with the slices of `source` at an index along an axis."""
    axis = call.axis(dim, x.type.rank)
    indices: list[Any] = [None] * axis + [index]
    return index_put(call, x, indices, source)


@converter("aten.index_fill.int_Scalar", "aten.index_fill.int_Tensor")
def index_fill(call: Call, x: Value, dim: int, index: Value, value: Value | Number) -> Value:
    return index_put(call, x, [*[None] * call.axis(dim, x.type.rank), index], call.cast(value, str(x.type.elem)))


@converter("aten.diagonal.default", "aten.diagonal_copy.default")
def diagonal(call: Call, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """The elements x[i, i + offset] of two axes, which become the last one."""
    first, second = call.axis(dim1, x.type.rank), call.axis(dim2, x.type.rank)
    rows, columns = call.static(x, first), call.static(x, second)
    others = [a for a in range(x.type.rank) if a not in (first, second)]
    dims = call.dims(x)
    moved: Op | Value = Transpose(x, (*others, first, second)) if (*others, first, second) != tuple(range(x.type.rank)) else x
    flat = call.reshape(moved, (*(dims[a] for a in others), rows * columns))
    i, j = np.indices((rows, columns))
    return IndexSelect(flat, call.const(np.flatnonzero((j - i == offset).reshape(-1)), "i64"), len(others)).out
