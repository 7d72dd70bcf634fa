"""Latency of a graph on this machine, for passes with a latency budget (`passes.core.context.DEFAULT_LATENCY`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..ir.graph import Graph

#: Runs are timed until they took this many milliseconds together, and at least this many runs.
AT_LEAST_MS, AT_LEAST_RUNS = 200.0, 10


def latency(graph: Graph) -> float:
    """Time in ms of one run of the graph at batch 1 (or the batch it is traced with), compiled for one thread of this machine.

    The fastest of many runs, the one least disturbed by other processes: a budget compares graphs that are measured minutes apart.
    """
    from .compile import compile

    model = compile(graph)
    once = model.benchmark(repeat=3, warmup=2).min
    return model.benchmark(repeat=max(AT_LEAST_RUNS, round(AT_LEAST_MS / once)), warmup=0).min
