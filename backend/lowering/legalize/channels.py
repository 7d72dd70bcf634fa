"""Channels of feature maps: concat, slice, shuffle, select and chains of them become channel gathers, which can read blocked feature maps.

chunk(shuffle(concat(a, b)))   =>   gather(a, b), gather(a, b)        (ShuffleNetV2)
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ....ir.op import Const, Op, Value
from ....ir.ops import (
    ChannelShuffle,
    Concat,
    Conv2d,
    Elementwise,
    IndexSelect,
    Reshape,
    Slice,
    Transpose,
)
from ....ir.rewrite import Result, refuse, rewrite
from ...tile.integer import IntConv2d
from ...tile.ops import INTEGERS, ChannelGather


def same_kind(a: Value, b: Value) -> bool:
    """Whether two feature maps are blocked alike: both f32, or both integer. Conversions between the two are in plain order."""
    return a.type.elem == b.type.elem or (a.type.elem in INTEGERS and b.type.elem in INTEGERS)


def is_map(v: Value) -> bool:
    """Whether a value will be blocked: a feature map (f32 or integer) made by a convolution, pool, …, possibly through elementwise ops."""
    seen: set[Value] = set()
    stack = [v]
    while stack:
        u = stack.pop()
        if u in seen or u.op is None or u.type.rank != 4 or u.type.elem not in ("f32", *INTEGERS) or not same_kind(u, v):
            continue
        seen.add(u)
        if u.op.feature_map:
            return True
        if isinstance(u.op, Elementwise):
            stack.extend(o for o in u.op.operands if o.shape == u.shape)
    return False


Place = tuple[Value, int]


def places(op: ChannelGather) -> list[Place]:
    """(operand, its channel) of each channel of the result."""
    every = [(x, c) for x in op.xs for c in range(x.shape[1])]
    return [every[c] for c in op.channels]


def gather(wanted: Iterable[Place], like: Op) -> ChannelGather:
    """The gather of these channels; its operands are in order of first use, each once."""
    wanted = list(wanted)
    xs = list(dict.fromkeys(x for x, _ in wanted))
    start, total = {}, 0
    for x in xs:
        start[x] = total
        total += x.shape[1]
    return ChannelGather(xs, tuple(start[x] + c for x, c in wanted), loc=like.loc)


@rewrite
def concat_channels(op: Concat) -> Result:
    """concat(a, b, axis=1) -> gather(a, b)   of maps"""
    if op.axis != 1 or not any(is_map(x) for x in op.xs):
        return None
    return gather(((x, c) for x in op.xs for c in range(x.shape[1])), op)


@rewrite
def slice_channels(op: Slice) -> Result:
    """x[:, a:b:s] -> gather(x)   of a map"""
    if op.axis != 1 or not is_map(op.x):
        return None
    return gather(((op.x, c) for c in range(op.start, op.stop, op.step)), op)


@rewrite
def select_channels(op: IndexSelect) -> Result:
    """x[:, index] -> gather(x)   of a map, where the index is constant"""
    if op.axis != 1 or not is_map(op.x):
        return None
    if not isinstance(op.index.op, Const):
        return refuse("the index is computed")
    return gather(((op.x, int(c)) for c in op.index.op.array), op)


def shuffled(x: Value, groups: int) -> list[Place]:
    """Channel i * groups + g of the result is channel g * C/groups + i."""
    per_group = x.shape[1] // groups
    return [(x, g * per_group + i) for i in range(per_group) for g in range(groups)]


@rewrite
def shuffle_channels(op: ChannelShuffle) -> Result:
    """channel_shuffle(x) -> gather(x) of a map;   reshape(transpose(reshape(x))) of what is not one"""
    if is_map(op.x):
        return gather(shuffled(op.x, op.groups), op)
    n, c, *rest = op.x.shape
    apart = Reshape(op.x, (n, op.groups, c // op.groups, *rest), loc=op.loc)
    return Reshape(Transpose(apart, (0, 2, 1, *range(3, op.x.type.rank + 1)), loc=op.loc), op.x.shape, loc=op.loc)


@rewrite
def shuffle_by_hand(op: Reshape) -> Result:
    """reshape(transpose(reshape(x, [N, g, C/g, H, W]), [0, 2, 1, 3, 4]), [N, C, H, W]) -> gather(x)   of a map"""
    match op.x.op:
        case Transpose(x=Value(op=Reshape(x=x) as apart), perm=(0, 2, 1, 3, 4)) if x.shape == op.out.shape and is_map(x):
            n, groups, per_group, h, w = apart.out.shape
            if (n, groups * per_group, h, w) == x.shape:
                return gather(shuffled(x, groups), op)
    return None


@rewrite
def gather_of_gather(op: ChannelGather) -> Result:
    """gather(gather(a, b), c) -> gather(a, b, c)   the cost of a gather depends on its result only, not on the number of operands"""
    if not any(isinstance(x.op, ChannelGather) for x in op.xs):
        return None
    inner = {x: places(x.op) for x in op.xs if isinstance(x.op, ChannelGather)}
    return gather((inner[x][c] if x in inner else (x, c) for x, c in places(op)), op)


@rewrite
def gather_of_all(op: ChannelGather) -> Result:
    """gather(x) -> x   of all channels in order"""
    return op.xs[0] if len(op.xs) == 1 and op.channels == tuple(range(op.xs[0].shape[1])) else None


@rewrite
def order_is_free(op: Conv2d | IntConv2d) -> Result:
    """conv2d(gather(a, b), w) -> conv2d(gather(a, b), w'), channels once each and in the order of a and b

    w'[:, i] is the sum of w[:, j] over the j that read the same channel. This removes a shuffle before a convolution: the gather then takes
    contiguous channels.
    """
    source = op.x.op
    if not isinstance(source, ChannelGather) or op.groups > 1 or not op.x.single_use or not isinstance(op.w.op, Const):
        return None
    channels, where = np.unique(source.channels, return_inverse=True)
    if channels.tolist() == list(source.channels):
        return None
    integer = isinstance(op, IntConv2d)
    w = np.zeros((op.w.shape[0], len(channels), *op.kernel), np.int64 if integer else op.w.type.dtype)
    np.add.at(w.swapaxes(0, 1), where, op.w.op.array.swapaxes(0, 1))
    if integer and np.abs(w).max(initial=0) > 127:
        return refuse("sums of the weights of a channel that is read twice are beyond i8")
    w = w.astype(op.w.type.dtype, copy=False)
    return op.rebuilt(x=source.rebuilt(channels=tuple(channels.tolist())).out, w=Const(w, loc=op.w.op.loc))


RULES = (concat_channels, slice_channels, select_channels, shuffle_channels, shuffle_by_hand, gather_of_gather, gather_of_all, order_is_free)
