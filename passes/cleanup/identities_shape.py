"""Identities of operators that only move elements. All are exact.

They compare shapes, so they must hold at every batch size: `canonicalize` runs them at a batch size that no other dimension has.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Const, Value
from ...ir.ops import (
    ChannelShuffle,
    Concat,
    Elementwise,
    Expand,
    IndexSelect,
    Pad,
    PixelShuffle,
    PixelUnshuffle,
    Reshape,
    Slice,
    Transpose,
    Upsample,
    Where,
)
from ...ir.ops.compare import Equality, Logical, Ordering
from ...ir.ops.elementwise import Binary
from ...ir.rewrite import Result, refuse, rewrite
from ...ir.types import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A prime that no static dimension is a multiple of.
FAR_BATCH = 1_000_003


@contextmanager
def far_batch(graph: Graph) -> Iterator[None]:
    """The graph's types at `FAR_BATCH`, in place, and back: two shapes that agree there agree at every batch size."""
    own = {v: v.type for v in graph.inputs if v.name in graph.batched}
    if not own:
        yield
        return
    try:
        _set_types(graph, {v: type.with_shape((FAR_BATCH, *type.shape[1:])) for v, type in own.items()})
    except TersorError as error:
        _set_types(graph, own)
        names = ", ".join(v.name for v in own)
        raise TersorError(f"the batch of input {names} is free, but the graph does not work at every batch size: {error}") from error
    try:
        yield
    finally:
        _set_types(graph, own)


def _set_types(graph: Graph, inputs: dict[Value, Tensor]) -> None:
    """Give inputs new types, and every result the type that follows."""
    for v, type in inputs.items():
        v.type = type
    for op in graph.ops:
        if op.operands:
            for v, type in zip(op.outs, op.infer_all()):
                v.type = type


def static(size: int) -> bool:
    """Whether a dimension is the same at every batch size."""
    return size % FAR_BATCH != 0


# -- transpose, reshape, expand ----------------------------------------------------------------


@rewrite
def moves_nothing(op: Transpose | Reshape | Expand) -> Result:
    """transpose(x, identity) -> x,   reshape(x, x.shape) -> x,   expand(x, x.shape) -> x"""
    if isinstance(op, Transpose):
        return op.x if list(op.perm) == sorted(op.perm) else None
    return op.x if op.x.type == op.out.type else None


@rewrite
def transpose_of_transpose(op: Transpose) -> Result:
    """transpose(transpose(x, p), q) -> transpose(x, p[q])"""
    match op.x.op:
        case Transpose(x=x, perm=p):
            return Transpose(x, tuple(p[q] for q in op.perm))
    return None


@rewrite
def reshape_of_reshape(op: Reshape) -> Result:
    """reshape(reshape(x, s), t) -> reshape(x, t)"""
    return Reshape(op.x.op.x, op.shape) if isinstance(op.x.op, Reshape) else None


@rewrite
def expand_of_expand(op: Expand) -> Result:
    """expand(expand(x, s), t) -> expand(x, t), where a dimension that t keeps has its size from s"""
    match op.x.op:
        case Expand(x=x, shape=s):
            lead = len(op.shape) - len(s)
            return Expand(x, tuple(s[i - lead] if t == -1 and i >= lead else t for i, t in enumerate(op.shape)))
    return None


@rewrite
def expand_is_broadcast(op: Binary | Where | Ordering | Equality | Logical) -> Result:
    """f(expand(x), y) -> f(x, y)   where y gives the result its shape"""
    for f in op.operand_fields:
        v = getattr(op, f.name)
        if isinstance(v.op, Expand):
            changed: dict[str, Any] = {f.name: v.op.x}
            new = op.rebuilt(**changed)
            if new.out.type == op.out.type:
                return new
    return None


@rewrite
def moved_and_back(op: Transpose | Reshape) -> Result:
    """move⁻¹(f(move(x))) -> f(x)   for an elementwise f of one operand, where its result is read once"""
    match op.x.op:
        case Elementwise(operands=[Value(op=Transpose() | Reshape() as move)]) as f:
            if type(move) is not type(op) or move.x.shape != op.out.shape:
                return None
            if isinstance(move, Transpose) and isinstance(op, Transpose) and [move.perm[q] for q in op.perm] != sorted(op.perm):
                return None
            if not f.out.single_use:
                return refuse(f"the result of {f.name} has other readers")
            changed: dict[str, Any] = {f.operand_fields[0].name: move.x}
            return f.rebuilt(**changed)
    return None


# -- slice, concat, pad ------------------------------------------------------------------------


@rewrite
def slice_of_all(op: Slice) -> Result:
    """x[0:size] -> x"""
    return op.x if op.x.type == op.out.type else None


@rewrite
def slice_of_slice(op: Slice) -> Result:
    """x[a:b:s][c:d:t] -> x[a + c*s : … : s*t]   along one axis"""
    match op.x.op:
        case Slice(axis=op.axis) as inner:
            start = inner.start + op.start * inner.step
            last = inner.start + (op.start + (op.out.shape[op.axis] - 1) * op.step) * inner.step
            return Slice(inner.x, op.axis, start, last + 1, inner.step * op.step)
    return None


@rewrite
def slice_of_concat(op: Slice) -> Result:
    """concat(…, x, …)[from within x] -> x[…]"""
    match op.x.op:
        case Concat(axis=op.axis) as concat:
            offset = 0
            for piece in concat.xs:
                size = piece.shape[op.axis]
                if not static(size):
                    return refuse("the pieces' sizes depend on the batch")
                if offset <= op.start and op.stop <= offset + size:
                    return Slice(piece, op.axis, op.start - offset, op.stop - offset, op.step)
                offset += size
    return None


@rewrite
def concat_of_one(op: Concat) -> Result:
    """concat(x) -> x"""
    return op.xs[0] if len(op.xs) == 1 else None


@rewrite
def concat_of_concat(op: Concat) -> Result:
    """concat(a, concat(b, c)) -> concat(a, b, c)   along one axis, where the inner one is read once"""
    flat = [piece for v in op.xs for piece in (v.op.xs if isinstance(v.op, Concat) and v.op.axis == op.axis and v.single_use else [v])]
    return Concat(flat, op.axis) if len(flat) > len(op.xs) else None


@rewrite
def concat_of_slices(op: Concat) -> Result:
    """concat(…, x[a:b], x[b:c], …) -> concat(…, x[a:c], …)"""
    merged: list[Value | Slice] = []
    for v in op.xs:
        piece: Value | Slice = v.op if isinstance(v.op, Slice) and v.op.axis == op.axis and v.op.step == 1 else v
        before = merged[-1] if merged else None
        if isinstance(piece, Slice) and isinstance(before, Slice) and before.x is piece.x and before.stop == piece.start:
            merged[-1] = Slice(piece.x, op.axis, before.start, piece.stop)
        else:
            merged.append(piece)
    return Concat([m.out if isinstance(m, Slice) else m for m in merged], op.axis) if len(merged) < len(op.xs) else None


@rewrite
def pad_by_nothing(op: Pad) -> Result:
    """pad(x, 0, …, 0) -> x"""
    return None if any(op.pads) else op.x


@rewrite
def pad_of_pad(op: Pad) -> Result:
    """pad(pad(x, p), q) -> pad(x, p + q)   of one constant, none cropping"""
    match op.x.op:
        case Pad() as inner if inner.mode == op.mode == "constant":
            if float(inner.value).hex() != float(op.value).hex() or min(*inner.pads, *op.pads) < 0:
                return refuse("the pads have two values, or crop")
            return op.rebuilt(x=inner.x, pads=tuple(p + q for p, q in zip(inner.pads, op.pads)))
    return None


@rewrite
def index_to_slice(op: IndexSelect) -> Result:
    """x[[a, a+s, a+2s, …]] -> x[a::s]"""
    if not isinstance(op.index.op, Const) or isinstance(op.x.op, Const) or not static(op.x.shape[op.axis]):
        return None
    index = op.index.op.array
    steps = np.diff(index)
    if not len(index) or (len(steps) and (steps[0] < 1 or (steps != steps[0]).any())):
        return None
    return Slice(op.x, op.axis, int(index[0]), int(index[-1]) + 1, int(steps[0]) if len(steps) else 1)


# -- channels and pixels -----------------------------------------------------------------------


@rewrite
def shuffle_by_hand(op: Reshape) -> Result:
    """reshape(transpose(reshape(x, [N, g, C/g, …]), [0, 2, 1, …]), x.shape) -> channel_shuffle(x, g)"""
    match op.x.op:
        case Transpose(x=Value(op=Reshape(x=x) as apart), perm=perm) if x.shape == op.out.shape and x.type.rank >= 2:
            n, groups, *rest = apart.out.shape
            swapped = (0, 2, 1, *range(3, len(perm)))
            if perm == swapped and groups > 1 and (n, groups * rest[0], *rest[1:]) == x.shape:
                return ChannelShuffle(x, groups)
    return None


@rewrite
def shuffles_nothing(op: ChannelShuffle | PixelShuffle | PixelUnshuffle) -> Result:
    """channel_shuffle(x, 1 or C) -> x,   pixel_shuffle(x, 1) -> x,   pixel_unshuffle(x, 1) -> x"""
    if isinstance(op, ChannelShuffle):
        return op.x if op.groups in (1, op.x.shape[1]) else None
    return op.x if op.factor == 1 else None


@rewrite
def shuffle_and_back(op: PixelShuffle | PixelUnshuffle) -> Result:
    """pixel_shuffle(pixel_unshuffle(x, f), f) -> x,   and the other way round"""
    match op.x.op:
        case PixelShuffle() | PixelUnshuffle() as inner if type(inner) is not type(op) and inner.factor == op.factor:
            return inner.x
    return None


@rewrite
def resize_to_same(op: Upsample) -> Result:
    """upsample(x, size of x) -> x   for nearest without explicit scales"""
    return op.x if op.mode == "nearest" and op.scales is None and op.x.type == op.out.type else None


SHAPES = (
    moves_nothing,
    transpose_of_transpose,
    reshape_of_reshape,
    expand_of_expand,
    expand_is_broadcast,
    moved_and_back,
    slice_of_all,
    slice_of_slice,
    slice_of_concat,
    concat_of_one,
    concat_of_concat,
    concat_of_slices,
    pad_by_nothing,
    pad_of_pad,
    index_to_slice,
    shuffle_by_hand,
    shuffles_nothing,
    shuffle_and_back,
    resize_to_same,
)
