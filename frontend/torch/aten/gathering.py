"""Gather, scatter, and assignments to indexed elements.

A scatter writes to the flat tensor, so its sizes must be known: the batch is fixed there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import Add, Cast, CumSum, Div, Equal, Expand, FloorDivide, Gather, IndexSelect, Mul, Scatter, Slice, Sub, Transpose, Where
from ....ir.types import FLOATS, NUMPY
from ...call import Call, Number
from ...registry import converter
from .indexing import flat_places, from_start, static_shape


@converter("aten.gather.default")
def gather(call: Call, x: Value, dim: int, index: Value, *, sparse_grad: bool = False) -> Value:
    if x.type.rank == 0 or index.type.rank == 0:
        line = call.reshape(x, (x.type.size,))
        return call.reshape(IndexSelect(line, call.reshape(from_start(call, index, x.type.size), (index.type.size,)), 0), call.shape)
    axis = call.axis(dim, x.type.rank)
    return Gather(x, from_start(call, index, call.static(x, axis)), axis).out


@converter("aten.take.default")
def take(call: Call, x: Value, index: Value) -> Value:
    """x.flat at integers of any shape."""
    static_shape(call, x, index)
    places = call.reshape(from_start(call, index, x.type.size), (index.type.size,))
    return call.reshape(IndexSelect(call.reshape(x, (x.type.size,)), places, 0), index.shape)


def put(call: Call, x: Value, places: Value, source: Value, mode: str) -> Value:
    """x with `source` at flat places, by a mode of `Scatter`."""
    count, elem = places.type.size, str(x.type.elem)
    flat, values, where = call.reshape(x, (x.type.size,)), call.reshape(source, (count,)), call.reshape(places, (count,))
    if elem == "bool" and mode != "set":
        # true + true is true, and a product that of 0 and 1
        flat, values, mode = Cast(flat, "u8").out, Cast(values, "u8").out, {"add": "max", "mul": "min"}.get(mode, mode)
    return call.reshape(call.cast(Scatter(flat, where, values, mode), elem), x.shape)


def along(call: Call, x: Value, axis: int, index: Value) -> Value:
    """Flat places in x of the elements that `index` names along an axis."""
    static_shape(call, x, index)
    indices: list[Value] = [call.const(grid, "i64") for grid in np.ogrid[tuple(slice(n) for n in index.shape)]]
    indices[axis] = index
    return flat_places(call, indices, x.shape)


@converter("aten.scatter.src", "aten.scatter.value")
def scatter(call: Call, x: Value, dim: int, index: Value, src: Value | Number) -> Value:
    return scattered(call, x, dim, index, src, "set")


@converter("aten.scatter_add.default")
def scatter_add(call: Call, x: Value, dim: int, index: Value, src: Value) -> Value:
    return scattered(call, x, dim, index, src, "add")


#: torch's names of the reductions, except the mean.
REDUCTIONS = {"add": "add", "multiply": "mul", "sum": "add", "prod": "mul", "amax": "max", "amin": "min"}


@converter("aten.scatter.reduce", "aten.scatter.value_reduce")
def scatter_reduced(call: Call, x: Value, dim: int, index: Value, src: Value | Number, *, reduce: str) -> Value:
    return scattered(call, x, dim, index, src, REDUCTIONS[reduce])


@converter("aten.scatter_reduce.two", "aten.index_reduce.default")
def scatter_reduce(call: Call, x: Value, dim: int, index: Value, src: Value, reduce: str, *, include_self: bool = True) -> Value:
    """Without `include_self`, elements that are written start as the identity of the reduction; a mean divides by the number of terms."""
    if "index_reduce" in call.target:
        index, src = rows(call, x, call.axis(dim, x.type.rank), index, src)
    elem = str(x.type.elem)
    count: Value | None = None
    if reduce == "mean" or not include_self:
        ones = scattered(call, call.const(np.zeros(x.shape), "i64"), dim, index, 1, "add")
        count = ones
    start = x
    if not include_self and count is not None:
        untouched = Equal(count, call.const(0, "i64")).out
        start = Where(untouched, x, call.const(_identity(reduce, elem), elem)).out
    total = scattered(call, start, dim, index, src, "add" if reduce == "mean" else REDUCTIONS[reduce])
    if reduce != "mean" or count is None:
        return total
    number = Add(count, call.const(1, "i64")).out if include_self else Where(Equal(count, call.const(0, "i64")), call.const(1, "i64"), count).out
    if x.type.is_float:
        return Div(total, call.cast(number, elem)).out
    return FloorDivide(total, call.cast(number, elem)).out


def _identity(reduce: str, elem: str) -> float:
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    if elem in FLOATS:
        return -np.inf if reduce == "amax" else np.inf
    limits = np.iinfo(NUMPY[elem])
    return limits.min if reduce == "amax" else limits.max


def scattered(call: Call, x: Value, dim: int, index: Value, src: Value | Number, mode: str) -> Value:
    """y[index[i, j], j] combined with src[i, j], for axis 0; src may be larger than index."""
    elem = str(x.type.elem)
    if x.type.rank == 0:
        x, index = call.reshape(x, (1,)), call.reshape(index, (1,))
        src = call.reshape(src, (1,)) if isinstance(src, Value) else src
    elif index.type.rank == 0:
        index = call.reshape(index, (1,))
        src = call.reshape(src, (1,)) if isinstance(src, Value) and src.type.rank == 0 else src
    places = along(call, x, call.axis(dim, x.type.rank), index)
    if isinstance(src, Value) and src.type.rank == 0 and index.type.rank:
        source = Expand(src, index.shape).out
    elif isinstance(src, Value):
        static_shape(call, src)
        source = src
        for axis, size in enumerate(index.shape):
            if size != source.shape[axis]:
                source = Slice(source, axis, 0, size).out
    else:
        source = call.const(np.full(index.shape, src), elem)
    return call.reshape(put(call, x, places, call.cast(source, elem), mode), call.shape if x.shape == (1,) else x.shape)


def rows(call: Call, x: Value, axis: int, index: Value, source: Value) -> tuple[Value, Value]:
    """An index of slices as an index of elements, and the source in the same shape."""
    shape = [index.type.size if a == axis else n for a, n in enumerate(x.shape)]
    column = call.reshape(index, [index.type.size if a == axis else 1 for a in range(x.type.rank)])
    return Expand(column, tuple(shape)).out, call.reshape(source, shape)


@converter("aten.index_put.default", "aten._unsafe_index_put.default", "aten._index_put_impl.default")
def index_put(call: Call, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False, unsafe: bool = False) -> Value:
    """x[i, j] = values; indices are integers that broadcast together, or one mask."""
    given = [(axis, i) for axis, i in enumerate(indices) if i is not None]
    elem = str(x.type.elem)
    if any(i.type.elem == "bool" for _, i in given):
        return _put_by_mask(call, x, given, call.cast(values, elem), accumulate)
    static_shape(call, x, values, *(i for _, i in given))
    if not given:
        return call.expand(call.cast(values, elem), values.shape, x.shape)
    shape = np.broadcast_shapes(*(i.shape for _, i in given))
    axes = [axis for axis, _ in given]
    lead = axes[0] if axes == list(range(axes[0], axes[-1] + 1)) else 0
    # axes of the assigned elements: the leading ones of x, those of the indices, the others of x
    rest = [a for a in range(x.type.rank) if a not in axes]
    full = (*(x.shape[a] for a in rest[:lead]), *shape, *(x.shape[a] for a in rest[lead:]))
    every: list[Value] = [call.const(0, "i64")] * x.type.rank
    for axis, i in given:
        every[axis] = call.reshape(i, (*i.shape, *(1,) * len(rest[lead:])))
    slots = [*range(lead), *range(lead + len(shape), len(full))]
    for axis, slot in zip(rest, slots):
        every[axis] = call.const(np.arange(x.shape[axis]).reshape(-1, *[1] * (len(full) - slot - 1)), "i64")
    places = call.expand(flat_places(call, every, x.shape), _broadcast(every), full)
    source = call.cast(values, elem)
    return put(call, x, places, call.expand(source, source.shape, full), "add" if accumulate else "set")


def _broadcast(values: Sequence[Value]) -> tuple[int, ...]:
    return np.broadcast_shapes(*(v.shape for v in values))


def _put_by_mask(call: Call, x: Value, given: Sequence[tuple[int, Value]], values: Value, accumulate: bool) -> Value:
    """One value for all places, or one for each, in order."""
    (axis, mask), *more = given
    if more or (axis and values.type.size != 1) or (x.type.elem == "bool" and accumulate):
        raise call.unsupported("an assignment by a mask and other indices, or an addition of bools; valid: one mask in front, or torch.where")
    behind = x.type.rank - axis - mask.type.rank
    wide = call.reshape(mask, (*(1,) * axis, *call.dims(mask), *(1,) * behind))
    value = call.reshape(values, ()) if values.type.size == 1 else None
    if value is None:
        shape = x.shape[mask.type.rank :]
        if values.type.rank != 1 + len(shape) or values.shape[1:] != shape:
            raise call.unsupported(f"values of shape {list(values.shape)} by a mask; valid: one value, or one for each place")
        value = in_order(call, mask, values)
    return Where(wide, Add(x, value) if accumulate else value, x).out


def in_order(call: Call, mask: Value, values: Value) -> Value:
    """The rows of `values` in order at the places where a mask holds, arbitrary rows elsewhere. `values` needs a row for each such place."""
    static_shape(call, mask, values)
    before = CumSum(call.reshape(mask, (mask.type.size,)), 0)
    places = Where(call.reshape(mask, (mask.type.size,)), Sub(before, call.const(1, "i64")), call.const(0, "i64"))
    return call.reshape(IndexSelect(values, places, 0), (*mask.shape, *values.shape[1:]))


@converter("aten.masked_scatter.default")
def masked_scatter(call: Call, x: Value, mask: Value, source: Value) -> Value:
    wide = call.expand(mask, call.dims(mask), call.shape)
    static_shape(call, x, source)
    return Where(wide, in_order(call, wide, call.reshape(source, (source.type.size,))), x).out


@converter("aten.index_copy.default")
def index_copy(call: Call, x: Value, dim: int, index: Value, source: Value) -> Value:
    """x with the slices of `source` at an index along an axis."""
    if x.type.rank == 0:
        return call.cast(source, call.elem)
    return scattered(call, x, dim, *rows(call, x, call.axis(dim, x.type.rank), index, source), "set")


@converter("aten.index_add.default")
def index_add(call: Call, x: Value, dim: int, index: Value, source: Value, *, alpha: Number = 1) -> Value:
    if alpha != 1:
        source = Mul(source, call.cast(alpha, str(source.type.elem))).out
    return scattered(call, x, dim, *rows(call, x, call.axis(dim, x.type.rank), index, source), "add")


@converter("aten.index_fill.int_Scalar", "aten.index_fill.int_Tensor")
def index_fill(call: Call, x: Value, dim: int, index: Value, value: Value | Number) -> Value:
    return index_put(call, x, [*[None] * call.axis(dim, x.type.rank), index], call.cast(value, str(x.type.elem)))


@converter("aten.max_unpool2d.default", "aten.max_unpool3d.default")
def max_unpool(call: Call, x: Value, index: Value, size: Sequence[int], *args: Any) -> Value:
    """Zeros, and x at the places that max pooling gave, which are flat in each plane."""
    static_shape(call, x, index)
    plane, space = int(np.prod(size)), len(size)
    planes = x.type.size // int(np.prod(x.shape[-space:]))
    indices = [call.const(np.arange(planes)[:, None], "i64"), call.reshape(index, (planes, index.type.size // planes))]
    places = flat_places(call, indices, (planes, plane))
    empty = call.const(np.zeros((planes, plane)), str(x.type.elem))
    return call.reshape(put(call, empty, places, x, "set"), call.shape)


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
