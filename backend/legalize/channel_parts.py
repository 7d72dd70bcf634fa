"""What computes each channel by itself is done before a gather that would have to copy, part by part, rather than behind it.

    depthwise(gather(a, b), w)   =>   gather(depthwise(a, w_a), depthwise(b, w_b))       where pointwise convolutions read the result
    pool(gather(a, b))           =>   gather(pool(a), pool(b))                           there too, and to copy fewer pixels

Pointwise convolutions gather by themselves (`absorb`). A pool that leaves fewer pixels is divided for any reader, unless another one needs the gather
before it copied in any case. Parts of whole channel blocks in order need no copy: they stay.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...ir.op import Const, Op, Value
from ...ir.ops import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, Conv2d, Elementwise, MaxPool2d
from ...ir.rewrite import Result, Rewrite, rewrite
from ..tile import ChannelGather
from .channels import gather, places

#: What a part becomes, given where its channels stand in the gather, in their order.
OfPart = Callable[[Value, np.ndarray], Value]


def only_multiplied(v: Value) -> bool:
    """Whether pointwise convolutions alone read a map, possibly with elementwise ops of it and constants and gathers of it between."""
    while len(v.uses) == 1 and isinstance(op := next(iter(v.uses)), Elementwise | ChannelGather):
        if not all(o is v or isinstance(o.op, Const) for o in op.operands):
            return False
        v = op.out
    return bool(v.uses) and all(map(gathers, v.uses))


def gathers(op: Op | None) -> bool:
    """Whether a reader (None for an output of the graph) can gather by itself."""
    return isinstance(op, Conv2d) and op.kernel == (1, 1) and op.groups == 1


def divided(source: ChannelGather, lanes: int, of_part: OfPart) -> ChannelGather | None:
    """The gather of what becomes of its operands; None where that is no gain: where it is a view, where it does not take every channel once, and
    where many small parts cost more apart than a copy."""
    order = np.argsort(source.channels, kind="stable")
    counts = [x.shape[1] for x in source.xs]
    every = np.array_equal(np.array(source.channels)[order], range(sum(counts)))
    whole = np.array_equal(order, range(sum(counts))) and all(count % lanes == 0 for count in counts[:-1])
    blocks = sum(-(-count // lanes) for count in counts)
    if not every or whole or 2 * blocks > 3 * -(-sum(counts) // lanes):
        return None
    parts = {x: of_part(x, here) for x, here in zip(source.xs, np.split(order, np.cumsum(counts)[:-1]))}
    return gather(((parts[x], c) for x, c in places(source)), source)


def rules(lanes: int) -> tuple[Rewrite, ...]:
    """The patterns for a vector width."""

    @rewrite
    def depthwise_of_parts(op: Conv2d) -> Result:
        """depthwise(gather(a, b), w) -> gather(depthwise(a, w_a), depthwise(b, w_b))"""
        source, w, b = op.x.op, op.w.op, None if op.b is None else op.b.op
        if not isinstance(source, ChannelGather) or not op.depthwise or op.out.shape[1] != op.groups or not only_multiplied(op.out):
            return None
        if not isinstance(w, Const) or not isinstance(b, Const | None):
            return None

        def of_part(x: Value, here: np.ndarray) -> Value:
            bias = None if b is None else Const(b.array[here], loc=b.loc)
            return op.rebuilt(x=x, w=Const(w.array[here], loc=w.loc), b=bias, groups=len(here)).out

        return divided(source, lanes, of_part)

    @rewrite
    def pool_of_parts(op: MaxPool2d | AvgPool2d | AdaptiveAvgPool2d | AdaptiveMaxPool2d) -> Result:
        """pool(gather(a, b)) -> gather(pool(a), pool(b))"""
        source = op.x.op
        if not isinstance(source, ChannelGather):
            return None
        fewer = op.out.type.size < op.x.type.size and all(reader is op or gathers(reader) for reader in op.x.uses)
        if not fewer and not only_multiplied(op.out):
            return None
        return divided(source, lanes, lambda x, here: op.rebuilt(x=x).out)

    return depthwise_of_parts, pool_of_parts
