"""lower: a graph of nn operators becomes a sequence of kernels with their places in memory. The whole way, from top to bottom.

    prepare    the preset `default`: batch norms folded, constants computed, dead code gone
    legalize   only operators that have kernels
    fuse       each operator and the elementwise ops behind it in one region
    layout     maps blocked by the vector width, packs where plain and blocked meet
    schedule   a kernel template and its parameters for each region
    views      concats and slices of channels that need no kernel, as their operands lie where they have them
    absorb     other gathers of channels in the kernels that read them
    chain      neighbouring regions in one kernel, where that is faster
    bands      each thread's rows of a map together, where threads divide rows
    plan       a place in the arena for each result

Every stage gives a graph that can be printed, parsed in a fresh process, and resumed to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..ir.errors import TersorError
from ..ir.graph import Graph
from ..ir.verify import verify
from ..passes import transform
from .lowering.alias_concats import views
from .lowering.apply_metaschedule import schedule_or_found
from .lowering.assign_layouts import layout
from .lowering.fuse_chains import chain
from .lowering.fuse_epilogues import fuse
from .lowering.fuse_gathers import absorb
from .lowering.legalize import legalize
from .lowering.partition_rows import bands
from .lowering.plan_memory import plan
from .lowering.select_kernels import WINOGRAD
from .target import Target
from .tuned.database import Tuned, find

Stage = Callable[[Graph, Target, int], Graph]
Observer = Callable[[str, Graph], None]

STAGES: dict[str, Stage] = {
    "prepare": lambda graph, target, threads: transform(graph, "default"),
    "legalize": lambda graph, target, threads: legalize(graph, target),
    "fuse": lambda graph, target, threads: fuse(graph),
    "layout": lambda graph, target, threads: layout(graph, target.lanes),
    "schedule": schedule_or_found,
    "views": views,
    "absorb": absorb,
    "chain": chain,
    "bands": bands,
    "plan": plan,
}


def lower(
    graph: Graph,
    target: Target,
    threads: int = 1,
    observe: Observer | None = None,
    tuned: Tuned = None,
    until: str | None = None,
    winograd: int = WINOGRAD,
) -> Graph:
    """Lower a copy of a graph; `observe(stage, graph)` sees it after each stage.

    tuned, winograd: as for `compile`. until: the last stage to run.
    """
    names = list(STAGES)
    return _run(graph, names[: names.index(until) + 1] if until else names, target, threads, observe, tuned, winograd)


def resume(
    graph: Graph,
    stage: str,
    target: Target,
    threads: int = 1,
    observe: Observer | None = None,
    tuned: Tuned = None,
    winograd: int = WINOGRAD,
) -> Graph:
    """Continue with the stages behind `stage`, from a graph as it was after that one. Target and threads must be those of its beginning."""
    names = list(STAGES)
    if stage not in STAGES:
        raise TersorError(f"unknown stage {stage!r}; stages: {', '.join(names)}")
    return _run(graph, names[names.index(stage) + 1 :], target, threads, observe, tuned, winograd)


def _run(graph: Graph, stages: list[str], target: Target, threads: int, observe: Observer | None, tuned: Tuned, winograd: int) -> Graph:
    graph = graph.clone()
    database = find(tuned, target)
    run = STAGES | {"schedule": partial(schedule_or_found, tuned=database, winograd=winograd), "chain": partial(chain, tuned=database)}
    for name in stages:
        graph = run[name](graph, target, threads)
        verify(graph, constants=False)
        if observe is not None:
            observe(name, graph)
    return graph
