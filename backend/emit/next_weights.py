"""Weights that one kernel fetches for another. A dense layer of few rows takes as long as its weights take to come from memory, while the
convolution before it computes and leaves memory idle: such a convolution asks for them, a few cache lines after each run of multiply-adds.
"""

from __future__ import annotations

from ...ir.graph import Graph
from ..kernels.cpu.dense import Geometry
from ..kernels.template import template_named
from ..target import Target
from ..tile.fusion import Fusion
from ..tile.ops import Fused

#: Rows that a weight serves in a dense layer which is bound by memory.
ROWS = 4
#: Multiples of the second-level cache that weights may fill, to be in the third when they are read, and in which other kernels may come between.
ROOM = 8


def next_weights(graph: Graph, target: Target) -> dict[Fused, Fused]:
    """For each fusion whose kernel fetches the weights of one behind it: which one. Both have their templates."""
    result: dict[Fused, Fused] = {}
    busy: Fused | None = None
    between = 0
    for op in graph.ops:
        if not isinstance(op, Fused) or op.alias:
            continue
        anchor = Fusion(op).anchor
        if busy is not None and op.template == "dense" and _streams(op, target):
            result[busy] = op
            busy = None
        elif getattr(template_named(op.template, anchor), "prefetches_next_weights", False):
            busy, between = op, 0
        else:
            between += op.out.type.nbytes
            busy = busy if between <= target.l2 else None
    return result


def _streams(op: Fused, target: Target) -> bool:
    """Whether a dense layer reads each weight for few rows, and all its weights stay in the third-level cache."""
    g = Geometry(Fusion(op), target)
    return g.constant and g.m <= ROWS and g.right.type.elem == "f32" and g.right.type.nbytes <= ROOM * target.l2
