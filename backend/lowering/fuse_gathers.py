"""fuse-gathers: fuse a channel gather into its consumers, so that its result is never stored.

    tile.fused { channel_gather; mul; add; relu } -> tile.fused { conv2d 1x1 }   =>   tile.fused { channel_gather; mul; add; relu; conv2d 1x1 }

A fused op means its ops in sequence, so this is exact. A gather with several consumers goes into each of them, if all of them can take it.
A template with a gather lists in `fuses_gather_into` the templates that it can replace. It takes over the parameters of the first one; if it
replaces another, the cost model chooses its parameters.
"""

from __future__ import annotations

from ...ir.graph import Graph
from ...ir.op import Op
from ..kernels.template import templates_for
from ..target import Target
from ..tile.fusion import Fusion, root
from ..tile.ops import Fused, TileChannelGather
from .fuse_chains import merged
from .select_kernels import Choice, modelled


def fuse_gathers(graph: Graph, target: Target, threads: int) -> Graph:
    """Merge gathers of a graph with selected kernels into their readers, in place."""
    outputs = {root(v) for v in graph.outputs}
    for op in graph.ops:
        if isinstance(op, Fused) and isinstance(op.body.ops[0], TileChannelGather) and not op.alias and op.out not in outputs:
            readers = list(dict.fromkeys(op.out.users))
            together = [_together(op, reader, target, threads) for reader in readers]
            for reader, new in zip(readers, together):
                if new is not None and None not in together:
                    graph.replace(reader, new)
            if not op.out.uses:
                graph.erase(op)
    return graph


def _together(gather: Fused, reader: Op, target: Target, threads: int) -> Fused | None:
    """The reader merged with its gather; None where no kernel can do both."""
    if not isinstance(reader, Fused):
        return None
    new = merged([gather, reader])
    fusion = Fusion(new)
    for template in templates_for(gather.body.ops[0]):
        readers = template.fuses_gather_into
        if reader.template in readers and template.accepts(fusion, target):
            if reader.template == readers[0]:
                choice = Choice(template.name, reader.params, reader.chosen)
            else:
                choice = modelled(fusion, target, [(template, params) for params in template.candidates(fusion, target, threads)])
            if reader.lane_offset >= 0 and not template.masked_stores:
                continue
            new.template, new.params, new.chosen = choice.template, choice.params, choice.chosen
            return new
    return None
