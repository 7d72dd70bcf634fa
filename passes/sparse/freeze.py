"""freeze-sparsity: masked and shared weights as plain constants."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Const
from ...ir.ops import Masked, Shared
from ..core.base import Pass, register_pass
from ..core.context import Context
from .layers import dense_of


@dataclass(frozen=True)
class Frozen:
    """A weight that became a constant: the share of zeros, how many other values it takes, and how the compiled network computes with it."""

    layer: str
    sparsity: float
    values: int
    runs: str = "expanded"


@register_pass
@dataclass(frozen=True)
class FreezeSparsity(Pass):
    """Replace masked and shared weights by plain constants, whose zeros and equal values later training may change.

    sparse.masked(w, mask)       ->  constant with zeros
    sparse.shared(codebook, i)   ->  constant of as many values as the codebook has

    Run it before passes that read weights (fold-bn, quantize). `compile` runs it by itself: shared weights are expanded, since there is no
    lookup kernel; weights with zeros may run on a sparse kernel.
    """

    name = "freeze-sparsity"
    keeps = "exact"

    def run(self, graph: Graph, ctx: Context) -> None:
        for found in freeze(graph):
            ctx.layers.append(found)
        ctx.record(Counter({"weights": len(ctx.layers)}))


def freeze(graph: Graph) -> list[Frozen]:
    """Run the pass in place; returns a report on each weight."""
    import numpy as np

    found = []
    for op in graph.ops:
        if isinstance(op, Masked | Shared):
            if isinstance(op, Masked) and op.sparsity > 0:
                raise TersorError(f"the weight of {op.out.name or op.name} [{op.loc}] is to be made sparse by finetune, which has not run")
            array = dense_of(op.out)
            if array is None:
                raise TersorError(f"the weight of {op.name} [{op.loc}] is not constant")
            const = Const(array, loc=op.loc)
            stored = op.w if isinstance(op, Masked) else op.codebook
            const.out.name = stored.name
            found.append(Frozen(op.loc.path or op.out.name, float((array == 0).mean()), len(np.unique(array[array != 0]))))
            graph.replace(op, const)
    graph.remove_dead()
    return found
