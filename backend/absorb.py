"""absorb: gathers of channels that have to copy are done by the kernels that read them, which need no map for it.

    tile.fused { channel_gather; mul; add; relu } -> tile.fused { conv2d 1x1 }   =>   tile.fused { channel_gather; mul; add; relu; conv2d 1x1 }

A region means its ops in sequence, so this is exact. A gather with several readers goes into each of them, if all can take it. Which kernels can,
templates say by `reader`: the name of the template that they are with a gather before it. Parameters, and who chose them, are those of the reader.
"""

from __future__ import annotations

from ..ir.graph import Graph
from ..ir.op import Op
from .chain import merged
from .kernels.template import templates_for
from .region import Region, root
from .target import Target
from .tile import Fused, TileChannelGather


def absorb(graph: Graph, target: Target, threads: int) -> Graph:
    """Merge gathers of a scheduled graph into their readers, in place."""
    outputs = {root(v) for v in graph.outputs}
    for op in graph.ops:
        if isinstance(op, Fused) and isinstance(op.body.ops[0], TileChannelGather) and not op.view and op.out not in outputs:
            readers = list(dict.fromkeys(op.out.users))
            together = [_together(op, reader, target) for reader in readers]
            for reader, new in zip(readers, together):
                if new is not None and None not in together:
                    graph.replace(reader, new)
            if not op.out.uses:
                graph.erase(op)
    return graph


def _together(gather: Fused, reader: Op, target: Target) -> Fused | None:
    """A reader that gathers by itself; None where its kernel cannot."""
    if not isinstance(reader, Fused):
        return None
    new = merged([gather, reader])
    for template in templates_for(gather.body.ops[0]):
        if getattr(template, "reader", None) == reader.template and template.accepts(Region(new), target):
            new.template, new.params, new.chosen = template.name, reader.params, reader.chosen
            return new
    return None
