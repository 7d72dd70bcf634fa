"""Slices, splits, masks and padding."""

from __future__ import annotations

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import IndexSelect, Pad, Slice, Where
from ..node import Node
from ..registry import Ints, onnx_converter
from ..sizes import Dim, Size, same
from .indexing import take_flat

PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def cut(node: Node, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """x[start:stop:step] along an axis of known size."""
    size = x.shape[axis]
    if (start, stop, step) == (0, size, 1):
        return x
    places = range(start, stop, step)
    if not places:
        return empty(node, x, axis)
    if step < 0:
        return IndexSelect(x, node.const(np.array(places), "i64"), axis).out
    return Slice(x, axis, start, min(stop, size), step).out


def empty(node: Node, x: Value, axis: int) -> Value:
    """An empty slice: a constant without elements."""
    shape = [0 if i == axis else node.static(x, i) for i in range(x.type.rank)]
    return node.const(np.empty(shape), str(x.type.elem))


@onnx_converter("Slice")
def slice_(node: Node, x: Value, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None) -> Value:
    for i, (start, end) in enumerate(zip(starts, ends)):
        axis = node.axis(i if axes is None else axes[i], x.type.rank)
        step = 1 if steps is None else steps[i]
        size = node.dims(x)[axis]
        if isinstance(size, Size) or isinstance(start, Size) or isinstance(end, Size):
            if _is_whole(size, start, end, step):
                continue
            raise node.needs_static("takes a part of the batch")
        x = cut(node, x, axis, *slice(start, end, step).indices(size))
    return x


def _is_whole(size: Dim, start: Dim, end: Dim, step: int) -> bool:
    """Whether a slice is the whole dimension at every batch; exporters write the largest i32 or i64 for an open end."""
    if isinstance(start, Size) or start != 0 or step != 1:
        return False
    return same(end, size) if isinstance(end, Size) else end >= (1 << 31) - 1


@onnx_converter("Split")
def split(node: Node, x: Value, sizes: Ints | None = None, *, axis: int = 0, num_outputs: int | None = None) -> list[Value | None]:
    """Equal parts, the last one smaller, where no sizes are given."""
    along = node.axis(axis, x.type.rank)
    total, count = node.static(x, along), num_outputs or len(node.outputs)
    if sizes is None:
        part = -(-total // count)
        sizes = Ints([part] * (count - 1) + [total - part * (count - 1)])
    ends = np.cumsum(sizes).tolist()
    return [cut(node, x, along, end - n, end) if node.used(i) else None for i, (n, end) in enumerate(zip(sizes, ends))]


@onnx_converter("Pad")
def pad(node: Node, x: Value, pads: Ints, value: Value | None = None, axes: Ints | None = None, *, mode: str = "constant") -> Op | Value:
    """A constant fill value becomes `Pad`; a computed one is selected by a padded mask."""
    if mode not in PAD_MODES:
        raise node.unsupported(f"mode {mode!r}; valid: {', '.join(PAD_MODES)}")
    rank = x.type.rank
    places = range(rank) if axes is None else [node.axis(a, rank) for a in axes]
    sides = [(0, 0)] * rank
    for i, axis in enumerate(places):
        sides[axis] = (pads[i], pads[len(places) + i])
    for axis, side in enumerate(sides):
        if side != (0, 0):
            node.static(x, axis)
    if all(side == (0, 0) for side in sides):
        return x
    flat = tuple(p for side in sides for p in side)
    if mode != "constant" or value is None:
        return Pad(x, flat, PAD_MODES[mode])
    filling = node.constant(value)
    if filling is None:
        inside = Pad(node.expand(node.const(True, "bool"), node.dims(x)), flat)
        return Where(inside, Pad(x, flat), node.reshape(value, ()))
    return Pad(x, flat, "constant", float(filling.reshape(-1)[0]))


@onnx_converter("Trilu")
def trilu(node: Node, x: Value, k: Ints | None = None, *, upper: int = 1) -> Op:
    """The upper or lower triangle; 0 elsewhere."""
    rows, columns = (node.static(x, a) for a in (x.type.rank - 2, x.type.rank - 1))
    ones = np.ones((rows, columns), bool)
    shift = k[0] if k else 0
    kept = np.triu(ones, shift) if upper else np.tril(ones, shift)
    return Where(node.const(kept, "bool"), x, node.like(x, 0))


@onnx_converter("ReverseSequence")
def reverse_sequence(node: Node, x: Value, lengths: Ints, *, batch_axis: int = 1, time_axis: int = 0) -> Value:
    """The first `lengths[b]` elements of each sequence in reverse order."""
    sequences, steps = node.static(x, batch_axis), node.static(x, time_axis)
    order = np.arange(steps)[:, None].repeat(sequences, 1)
    for b, n in enumerate(lengths):
        order[:n, b] = order[:n, b][::-1]
    grid: list[np.ndarray] = [*np.indices(x.shape)]
    grid[time_axis] = order[grid[time_axis], grid[batch_axis]]
    return take_flat(node, x, np.ravel_multi_index(tuple(grid), x.shape))
