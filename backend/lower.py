"""lower: a graph of nn operators becomes a sequence of kernels with their places in memory. The whole way, from top to bottom.

    prepare    the preset `default`: batch norms folded, constants computed, dead code gone
    legalize   only operators that have kernels
    fuse       each operator and the elementwise ops behind it in one region
    layout     maps blocked by the vector width, packs where plain and blocked meet
    schedule   a kernel template and its parameters for each region
    plan       a place in the arena for each result

Every stage gives a graph that can be printed, parsed in a fresh process, and resumed to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ir.errors import TersorError
from ..ir.graph import Graph
from ..ir.verify import verify
from ..passes import transform
from .fuse import fuse
from .layout import layout
from .legalize import legalize
from .plan import plan
from .schedule import schedule
from .target import Target

Stage = Callable[[Graph, Target, int], Graph]
Observer = Callable[[str, Graph], None]

STAGES: dict[str, Stage] = {
    "prepare": lambda graph, target, threads: transform(graph, "default"),
    "legalize": lambda graph, target, threads: legalize(graph, target),
    "fuse": lambda graph, target, threads: fuse(graph),
    "layout": lambda graph, target, threads: layout(graph, target.lanes),
    "schedule": schedule,
    "plan": plan,
}


def lower(graph: Graph, target: Target, threads: int = 1, observe: Observer | None = None) -> Graph:
    """Lower a copy of a graph; `observe(stage, graph)` sees it after each stage."""
    return _run(graph, list(STAGES), target, threads, observe)


def resume(graph: Graph, stage: str, target: Target, threads: int = 1, observe: Observer | None = None) -> Graph:
    """Continue with the stages behind `stage`, from a graph as it was after that one. Target and threads must be those of its beginning."""
    names = list(STAGES)
    if stage not in STAGES:
        raise TersorError(f"unknown stage {stage!r}; stages: {', '.join(names)}")
    return _run(graph, names[names.index(stage) + 1 :], target, threads, observe)


def _run(graph: Graph, stages: list[str], target: Target, threads: int, observe: Observer | None) -> Graph:
    graph = graph.clone()
    for name in stages:
        graph = STAGES[name](graph, target, threads)
        verify(graph, constants=False)
        if observe is not None:
            observe(name, graph)
    return graph
