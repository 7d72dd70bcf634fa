"""canonicalize: fewer ops with the same bits as results."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ...ir.graph import Graph
from ...ir.rewrite import Trace, greedy
from ..core.base import Pass, register_pass
from ..core.context import Context
from .cse import merge_equal
from .fold_constants import constant_folding
from .identities import ELEMENTWISE
from .identities_shape import SHAPES, far_batch


@register_pass
@dataclass(frozen=True)
class Canonicalize(Pass):
    """Remove dead code and common subexpressions, compute constants, and apply identities that keep every bit.

    transpose(transpose(x, p), q)  ->  transpose(x, p[q])      concat(x[0:a], x[a:b])  ->  x[0:b]
    clip(relu(x), a, b)            ->  clip(x, max(a, 0), b)   f(c1, c2)               ->  c

    until nothing changes. Options: `merge_constants=false` keeps equal weights apart (before training), `fold_constants=false` computes
    nothing, `max_bytes` bounds the size of a computed constant that is larger than its operands.
    """

    name = "canonicalize"
    keeps = "exact"

    merge_constants: bool = True
    fold_constants: bool = True
    max_bytes: int = 1 << 20

    def run(self, graph: Graph, ctx: Context) -> None:
        folding = self.max_bytes if self.fold_constants else None
        ctx.record(canonicalize(graph, merge_constants=self.merge_constants, fold_bytes=folding, why=ctx.why))


def canonicalize(graph: Graph, *, merge_constants: bool = True, fold_bytes: int | None = 1 << 20, why: Trace | None = None) -> Counter[str]:
    """Rewrite in place until nothing changes; returns counts per identity. `fold_bytes=None` computes no constants."""
    patterns = (*ELEMENTWISE, *SHAPES, *(() if fold_bytes is None else (constant_folding(fold_bytes),)))
    total: Counter[str] = Counter()
    with far_batch(graph):
        while True:
            counts = Counter(remove_dead=graph.remove_dead(), merge_equal=merge_equal(graph, merge_constants))
            counts += greedy(graph, *patterns, why=why)
            if not counts:
                return total
            total += counts
