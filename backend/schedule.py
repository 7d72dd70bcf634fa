"""schedule: each region gets the kernel template and the parameters of the lowest modelled cost."""

from __future__ import annotations

from ..ir.errors import UnsupportedError
from ..ir.graph import Graph
from .kernels.template import templates_for
from .region import Region
from .target import Target
from .tile import Fused


def schedule(graph: Graph, target: Target, threads: int) -> Graph:
    """Write `template` and `params` on every region, in place."""
    for op in graph.ops:
        if isinstance(op, Fused):
            op.template, op.params = choose(Region(op), target, threads)
    return graph


def choose(region: Region, target: Target, threads: int) -> tuple[str, dict[str, object]]:
    """Name and parameters of the best template; raises `UnsupportedError` when none accepts the region."""
    best: tuple[float, str, dict[str, object]] | None = None
    for template in templates_for(region.anchor):
        if template.accepts(region, target):
            for params in template.candidates(region, target, threads):
                cost = template.cost(region, target, params)
                if best is None or cost < best[0]:
                    best = (cost, template.name, params)
    if best is None:
        known = ", ".join(t.name for t in templates_for(region.anchor)) or "none"
        raise UnsupportedError(
            f"no kernel for {region.anchor.name} {region.anchor.out.type} [{region.anchor.loc}]; templates registered for it: {known}. "
            "Register one with @tersor.kernel, or rewrite the operator with a pass"
        )
    return best[1], best[2]
