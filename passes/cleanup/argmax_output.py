"""argmax-output: a classifier gives classes instead of logits."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.ops import ArgMax
from ..core.base import Pass, register_pass
from ..core.context import Context


@register_pass
@dataclass(frozen=True)
class ArgmaxOutput(Pass):
    """Return the index of the largest logit instead of the logits. Run it last: passes that measure an error compare logits.

    return logits (N, …, C)  ->  return arg_max(logits), i64 (N, …)

    axis: the axis of the classes, by default the last one. The graph must have one output.
    """

    name = "argmax-output"
    keeps = "lossy"

    axis: int = -1

    def run(self, graph: Graph, ctx: Context) -> None:
        if len(graph.outputs) != 1:
            raise TersorError(f"argmax-output needs one output of logits, and the graph has {len(graph.outputs)}: {', '.join(graph.output_names)}")
        (logits,) = graph.outputs
        rank = logits.type.rank
        if not 1 <= (self.axis + rank if self.axis < 0 else self.axis) < rank:
            raise TersorError(f"axis must name an axis of {logits.type} other than the batch, got {self.axis}")
        classes = graph.add(ArgMax(logits, self.axis % rank, loc=logits.op.loc if logits.op is not None else None))
        graph.set_outputs([classes], graph.output_names, graph.structure)
