"""Chains to measure: fusions that one kernel can compute together, against a kernel for each of them.

Both run with cold weights in the same race. The template `separate` in the database means that a chain lost; its fusions keep their entries.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.graph import Graph
from ..kernels.template import Params, Template
from ..lowering.fuse_chains import LONGEST, WORTH, linked, separate_cost
from ..lowering.select_kernels import candidates
from ..pipelines import lower
from ..target import Target
from ..tile.fusion import Fusion
from ..tile.ops import Fused
from ..tuned.database import Database
from ..tuned.key import shape_key
from .build import Separate, Task

#: Chains that by the model are this many times slower than their fusions are not measured, nor options this many times slower than the best.
HOPELESS = 1.5


def chain_tasks(graphs: Sequence[Graph], target: Target, threads: int, tuned: Database | None) -> list[Task]:
    """Distinct chains of graphs, those that save most by the model first. Choices for their fusions come from the database, else the model."""
    tasks: dict[str, Task] = {}
    gains: dict[str, float] = {}
    for graph in graphs:
        for op in lower(graph, target, threads, tuned=tuned or False, until="fuse-gathers").ops:
            for length in range(2, LONGEST + 1) if isinstance(op, Fused) else ():
                found = linked(op, length, target, threads)  # type: ignore[arg-type]
                if found is None:
                    continue
                parts, merged = found
                key = shape_key(merged)
                if key in tasks:
                    tasks[key].count += 1
                elif made := _task(key, parts, merged, target, threads):
                    tasks[key], gains[key] = made
    return sorted(tasks.values(), key=lambda task: -gains[task.key] * task.count)


def _task(key: str, parts: list[Fused], merged: Fused, target: Target, threads: int) -> tuple[Task, float] | None:
    """A chain's task, and what the chain saves by the model in cycles."""
    fusion = Fusion(merged)
    separate = separate_cost(parts, target, threads)
    costs = [(template.cost(fusion, target, params), template, params) for template, params in candidates(fusion, target, threads)]
    best = min(cost for cost, _, _ in costs)
    if best > HOPELESS * separate:
        return None
    chains: list[tuple[Template | Separate, Params]] = [(t, p) for cost, t, p in sorted(costs, key=lambda c: c[0]) if cost <= HOPELESS * best]
    apart: tuple[Template | Separate, Params] = (Separate(), {})
    options = [*chains, apart] if WORTH * best < separate else [apart, *chains]
    return Task(key, merged, options, parts=tuple(parts)), separate - best
