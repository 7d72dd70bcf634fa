"""own-outputs: every output of a graph gets its own memory, so that kernels can write it directly to the caller's memory."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.graph import Graph
from ...ir.op import Const, Value
from ..tile.fusion import root
from ..tile.ops import Copy
from .fuse_epilogues import wrap


def copied_outputs(graph: Graph, outputs: Sequence[Value]) -> list[Value]:
    """The outputs of a graph under construction, with a copy of each that is an input, a constant or (a reshape of) another output."""
    seen: set[Value] = set()
    result = []
    for v in outputs:
        source = root(v)
        if source in seen or source.op is None or isinstance(source.op, Const):
            copy = Copy(v, loc=v.op.loc if v.op else None)
            graph.add(copy)
            v = source = wrap(graph, [copy]).out
        seen.add(source)
        result.append(v)
    return result


def own_outputs(graph: Graph) -> Graph:
    """Copy the outputs that share memory, in place."""
    graph.set_outputs(copied_outputs(graph, graph.outputs), graph.output_names, graph.structure)
    graph.remove_dead()
    return graph
