"""How far a graph that is stored in half precision is from its float64 values, by the interpreter: no device is needed."""

from __future__ import annotations

import math

import numpy as np

from ..ir.graph import Graph
from ..passes.core.check import outputs, relative_error
from ..passes.core.samples import runnable


def accuracy(graph: Graph, lowered: Graph) -> dict[str, float]:
    """`sqnr` in dB and `error` = max|y - y64| / max|y64| of a lowered graph on seeded normal inputs, the worst output; inf dB for no noise.

    graph: before lowering, at the same batch. Where a value leaves the range of f16, the error is inf and the SQNR -inf.
    """
    inputs = runnable(graph, np.random.default_rng(0))
    worst = {"sqnr": math.inf, "error": 0.0}
    for y64, y in zip(outputs(graph, inputs, exact=True), outputs(lowered, inputs)):
        worst["error"] = max(worst["error"], relative_error([y64], [y]))
        signal = float(np.square(y64.astype(np.float64)).sum())
        noise = float(np.square(y.astype(np.float64) - y64).sum())
        if not math.isfinite(noise):
            worst["sqnr"] = -math.inf
        elif noise and signal:
            worst["sqnr"] = min(worst["sqnr"], 10 * math.log10(signal / noise))
    return worst
