"""Latency of a graph on this machine, for passes with a budget of it (`passes.core.context.DEFAULT_LATENCY`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..ir.graph import Graph

#: Runs that are timed take so many milliseconds together, or so many runs where they are long.
AT_LEAST_MS, AT_LEAST_RUNS = 200.0, 10


def latency(graph: Graph) -> float:
    """Time in ms of one run of the graph at batch 1 (or the batch it is traced with), compiled for one thread of this machine.

    The fastest of many runs: other processes disturb it least, and a budget compares graphs that are measured minutes apart.
    """
    from .compile import compile

    model = compile(graph)
    once = model.benchmark(repeat=3, warmup=2).min
    return model.benchmark(repeat=max(AT_LEAST_RUNS, round(AT_LEAST_MS / once)), warmup=0).min
