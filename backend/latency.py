"""Latency as a budget: `transform` with a default for what measures it, since passes know no backend."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec

from ..passes import transform as _transform

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..ir.graph import Graph

P = ParamSpec("P")

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


def _measuring(transform: Callable[P, Graph]) -> Callable[P, Graph]:
    @functools.wraps(transform)
    def with_latency(*args: P.args, **kwargs: P.kwargs) -> Graph:
        if kwargs.get("latency") is None:
            kwargs["latency"] = latency
        return transform(*args, **kwargs)

    return with_latency


transform = _measuring(_transform)
