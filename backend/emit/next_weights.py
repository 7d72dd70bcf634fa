"""Prefetch of the next layer's weights: which kernel prefetches the weights of which later one.

The time of a dense layer with few rows is that of reading its weights from memory, while the convolution before it computes and leaves memory
idle. Such a convolution prefetches them, a few cache lines after each run of multiply-adds.
"""

from __future__ import annotations

from ...ir.graph import Graph
from ..kernels.template import template_named
from ..target import Target
from ..tile.fusion import Fusion
from ..tile.ops import Fused


def next_weights(graph: Graph, target: Target) -> dict[Fused, Fused]:
    """Kernels that prefetch the weights of a later kernel -> that kernel. Both have their templates."""
    result: dict[Fused, Fused] = {}
    busy: Fused | None = None
    between = 0
    for op in graph.ops:
        if not isinstance(op, Fused) or op.alias:
            continue
        anchor = Fusion(op).anchor
        template = template_named(op.template, anchor)
        if busy is not None and template.streamed_weights(Fusion(op), target) is not None:
            result[busy] = op
            busy = None
        elif template.prefetches_next_weights:
            busy, between = op, 0
        else:
            between += op.out.type.nbytes
            busy = busy if between <= target.l2 else None
    return result
