"""Operators that give a tensor another shape, or put tensors together and take them apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import Concat, CumSum, IndexSelect, LessEqual, Slice, Sum, Transpose
from ...call import Call, StaticBatchNeeded
from ...registry import converter

#: torch writes "to the end" as the largest i64.
_END = 2**63 - 1


def cut(x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """x[start:stop:step] along an axis, x itself when that is everything."""
    return x if (start, stop, step) == (0, x.shape[axis], 1) else Slice(x, axis, start, stop, step).out


@converter("aten.view.default", "aten._unsafe_view.default", "aten.reshape.default", "aten.view_copy.default", symbolic=True)
@converter("aten.view_as.default", "aten.reshape_as.default")
def view(call: Call, x: Value, shape: Sequence[int] | Value) -> Value:
    return call.reshape(x, call.shape)


@converter("aten.flatten.using_ints", "aten.unflatten.int", "prims.collapse.default", symbolic=True)
def flatten(call: Call, x: Value, *args: Any) -> Value:
    return call.reshape(x, call.shape)


@converter("aten.unsqueeze.default")
def unsqueeze(call: Call, x: Value, dim: int) -> Value:
    return call.reshape(x, call.shape)


@converter("aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims")
def squeeze(call: Call, x: Value, dim: int | Sequence[int] | None = None) -> Value:
    rank = x.type.rank
    asked = range(rank) if dim is None else [call.axis(d, rank) for d in ([dim] if isinstance(dim, int) else dim)]
    if any(call.dims(x)[axis] < 0 for axis in asked if rank):
        raise StaticBatchNeeded(f"{call.target} removes the batch dimension at batch 1 only [{call.loc}]")
    return call.reshape(x, call.shape)


@converter("aten.permute.default")
def permute(call: Call, x: Value, dims: Sequence[int]) -> Value:
    perm = tuple(call.axis(d, x.type.rank) for d in dims)
    return x if perm == tuple(range(x.type.rank)) else Transpose(x, perm).out


@converter("aten.transpose.int")
def transpose(call: Call, x: Value, a: int, b: int) -> Value:
    perm = list(range(x.type.rank))
    if perm:
        a, b = call.axis(a, len(perm)), call.axis(b, len(perm))
        perm[a], perm[b] = perm[b], perm[a]
    return permute(call, x, perm)


@converter("aten.t.default", "aten.numpy_T.default")
def reverse_axes(call: Call, x: Value) -> Value:
    return permute(call, x, range(x.type.rank)[::-1])


@converter("aten.expand.default", "aten.broadcast_to.default", "aten.expand_copy.default", "aten.expand_as.default", symbolic=True)
def expand(call: Call, x: Value, shape: Sequence[int] | Value, *, implicit: bool = False) -> Value:
    return call.expand(x, call.dims(x), call.shape)


@converter("aten.repeat.default", symbolic=True)
def repeat(call: Call, x: Value, counts: Sequence[int]) -> Value:
    """A dimension of size 1 is expanded, others are concatenated copies."""
    dims = (1,) * (len(counts) - x.type.rank) + call.dims(x)
    x = call.reshape(x, dims)
    for axis, (size, count) in enumerate(zip(dims, counts)):
        if size == 1 or count == 1:
            continue
        if count < 0:
            raise StaticBatchNeeded(f"{call.target} repeats as often as the batch [{call.loc}]")
        x = Concat([x] * count, axis).out
    grown = tuple(size if size == 1 or count == 1 else result for size, count, result in zip(dims, counts, call.shape))
    return call.expand(x, grown, call.shape)


@converter("aten.repeat_interleave.self_int")
def repeat_interleave(call: Call, x: Value, repeats: int, dim: int | None = None, *, output_size: int | None = None) -> Value:
    """x[i // repeats] along an axis"""
    if dim is None:
        x = call.reshape(x, (x.type.size,))
    axis = call.axis(dim or 0, x.type.rank)
    places = np.arange(call.static(x, axis) * repeats) // repeats
    return IndexSelect(x, call.const(places, "i64"), axis).out


@converter("aten.repeat_interleave.Tensor")
def repeated_places(call: Call, repeats: Value, *, output_size: int | None = None) -> Value:
    """Index i repeated repeats[i] times: for each result, the number of indices whose last copy is before it."""
    ends = CumSum(call.cast(repeats, "i64"), 0).out
    results = call.const(np.arange(call.sizes[0])[:, None], "i64")
    return call.cast(Sum(LessEqual(call.reshape(ends, (1, repeats.type.size)), results), (1,)), call.elem)


@converter("aten.slice.Tensor", "aten.slice_copy.Tensor")
def slice_(call: Call, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Value:
    axis = call.axis(dim, x.type.rank)
    if not start and (end is None or end >= _END) and step == 1:
        return x
    start, stop = _bounds(call, x, axis, start, end)
    if stop <= start:
        raise StaticBatchNeeded(f"{call.target} makes a tensor that holds nothing [{call.loc}]")
    return cut(x, axis, start, stop, step)


@converter("aten.narrow.default")
def narrow(call: Call, x: Value, dim: int, start: int, length: int) -> Value:
    return slice_(call, x, dim, start, start + length)


@converter("aten.select.int", "aten.select_copy.int")
def select(call: Call, x: Value, dim: int, index: int) -> Value:
    axis = call.axis(dim, x.type.rank)
    index %= call.static(x, axis)
    return call.reshape(cut(x, axis, index, index + 1), call.shape)


@converter("aten.unbind.int")
def unbind(call: Call, x: Value, dim: int = 0) -> list[Value]:
    axis = call.axis(dim, x.type.rank)
    size = call.static(x, axis)
    dims = call.dims(x)
    return [call.reshape(cut(x, axis, i, i + 1), dims[:axis] + dims[axis + 1 :]) for i in range(size)]


@converter("aten.split.Tensor", "aten.split_copy.Tensor", "aten.unsafe_split.Tensor")
def split(call: Call, x: Value, size: int, dim: int = 0) -> list[Value]:
    axis = call.axis(dim, x.type.rank)
    total = call.static(x, axis)
    return [cut(x, axis, i, min(i + size, total)) for i in range(0, total, size)]


@converter("aten.split_with_sizes.default", "aten.split_with_sizes_copy.default", "aten.split.sizes")
def split_with_sizes(call: Call, x: Value, sizes: Sequence[int], dim: int = 0) -> list[Value | None]:
    axis = call.axis(dim, x.type.rank)
    call.static(x, axis)
    ends = np.cumsum(sizes).tolist()
    return [cut(x, axis, end - size, end) if size else None for size, end in zip(sizes, ends)]


@converter("aten.chunk.default")
def chunk(call: Call, x: Value, chunks: int, dim: int = 0) -> list[Value]:
    return split(call, x, math.ceil(call.static(x, call.axis(dim, x.type.rank)) / chunks), dim)


@converter("aten.cat.default", "aten.concat.default")
def cat(call: Call, xs: Sequence[Value], dim: int = 0) -> Value:
    """Empty tensors add nothing (one-dimensional ones whatever the rank of the others)."""
    values = [call.cast(x, call.elem) for x in xs if x.type.size]
    if not values:
        raise call.unsupported("a concatenation of empty tensors")
    return values[0] if len(values) == 1 else Concat(values, call.axis(dim, values[0].type.rank)).out


@converter("aten.stack.default")
def stack(call: Call, xs: Sequence[Value], dim: int = 0) -> Op:
    axis = call.axis(dim, xs[0].type.rank + 1)
    layers = []
    for x in xs:
        dims = call.dims(x)
        layers.append(call.reshape(call.cast(x, call.elem), (*dims[:axis], 1, *dims[axis:])))
    return Concat(layers, axis)


@converter("aten.roll.default")
def roll(call: Call, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    """x[-shift:] before x[:-shift]; without dims in row-major order."""
    if not dims:
        if -1 in call.dims(x):
            raise StaticBatchNeeded(f"{call.target} moves elements across the batch [{call.loc}]")
        flat = _rolled(call.reshape(x, (x.type.size,)), 0, shifts[0])
        return call.reshape(flat, call.shape)
    for axis in dims:
        call.static(x, call.axis(axis, x.type.rank))
    for shift, axis in zip(shifts, dims):
        x = _rolled(x, call.axis(axis, x.type.rank), shift)
    return x


def _rolled(x: Value, axis: int, shift: int) -> Value:
    size = x.shape[axis]
    start = -shift % size
    return x if start == 0 else Concat([cut(x, axis, start, size), cut(x, axis, 0, start)], axis).out


@converter("aten.flip.default")
def flip(call: Call, x: Value, dims: Sequence[int]) -> Value:
    for dim in dims:
        call.static(x, call.axis(dim, x.type.rank))
    for dim in dims:
        axis = call.axis(dim, x.type.rank)
        x = IndexSelect(x, call.const(np.arange(x.shape[axis])[::-1], "i64"), axis).out
    return x


@converter("aten.as_strided.default", "aten.as_strided_copy.default")
def as_strided(call: Call, x: Value, size: Sequence[int], stride: Sequence[int], offset: int | None = None) -> Value:
    """x.flat[offset + i * stride[0] + j * stride[1] + …], of a tensor that lies in row-major order."""
    for axis in range(x.type.rank):
        call.static(x, axis)
    if not call.plain():
        raise call.unsupported("of a view, or of a tensor in another order: it reads the memory behind it; valid: as_strided of a contiguous tensor")
    grid = np.indices(size).reshape(len(size), -1)
    places = (offset or 0) + sum((i * s for i, s in zip(grid, stride)), start=np.zeros(grid.shape[1], np.int64))
    if places.max(initial=0) >= x.type.size:
        raise call.unsupported(f"elements up to {places.max()} of a tensor of {x.type.size}: it reads memory around its operand")
    return call.reshape(IndexSelect(call.reshape(x, (x.type.size,)), call.const(places, "i64"), 0), size)


@converter("aten.unfold.default")
def unfold(call: Call, x: Value, dim: int, size: int, step: int) -> Op | Value:
    """Windows along an axis: their elements become the last axis."""
    if x.type.rank == 0:
        return call.reshape(x, call.shape)
    axis = call.axis(dim, x.type.rank)
    count = (call.static(x, axis) - size) // step + 1
    places = (np.arange(count)[:, None] * step + np.arange(size)).reshape(-1)
    dims = call.dims(x)
    windows = call.reshape(IndexSelect(x, call.const(places, "i64"), axis), (*dims[:axis], count, size, *dims[axis + 1 :]))
    rank = len(dims) + 1
    return permute(call, windows, [i for i in range(rank) if i != axis + 1] + [axis + 1])


@converter("aten.slice_scatter.default")
def slice_scatter(call: Call, x: Value, src: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Value:
    """x with a slice replaced: the functional form of `x[:, a:b] = src`."""
    axis = call.axis(dim, x.type.rank)
    src = call.cast(src, call.elem)
    if not start and (end is None or end >= _END) and step == 1:
        return call.expand(src, call.dims(src), call.shape)
    start, stop = _bounds(call, x, axis, start, end)
    size = call.static(x, axis)
    if step == 1:
        return _concat([(x, 0, start), (src, 0, stop - start), (x, stop, size)], axis)
    # with a step, pick every element from x followed by src
    places = np.arange(size)
    places[start:stop:step] = size + np.arange(src.shape[axis])
    return IndexSelect(Concat([x, src], axis), call.const(places, "i64"), axis).out


@converter("aten.select_scatter.default")
def select_scatter(call: Call, x: Value, src: Value, dim: int, index: int) -> Value:
    """x with one index of an axis replaced: `x[:, i] = src`."""
    axis = call.axis(dim, x.type.rank)
    size = call.static(x, axis)
    index %= size
    dims = call.dims(src)
    layer = call.reshape(call.cast(src, call.elem), (*dims[:axis], 1, *dims[axis:]))
    return _concat([(x, 0, index), (layer, 0, 1), (x, index + 1, size)], axis)


def _concat(parts: list[tuple[Value, int, int]], axis: int) -> Value:
    values = [cut(x, axis, start, stop) for x, start, stop in parts if stop > start]
    return values[0] if len(values) == 1 else Concat(values, axis).out


def _bounds(call: Call, x: Value, axis: int, start: int | None, end: int | None) -> tuple[int, int]:
    """Python's slice bounds made non-negative and clipped."""
    first, last, _ = slice(start, end).indices(call.static(x, axis))
    return first, last
