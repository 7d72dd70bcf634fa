"""search: per-layer ratios for prune-channels and sparsify, found by an agent under a budget."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ..core.base import Pass, register_pass
from ..core.check import sqnr
from ..core.context import Context
from ..core.pipeline import Pipeline, format_pass
from ..core.samples import arguments, tensors
from ..core.transform import transform
from .agents import AGENTS
from .environment import Environment
from .knobs import KNOBS


@dataclass(frozen=True)
class Found:
    """The result of a search, for the ledger: the pipeline that gives the same network, its reward, its cost, and how many were tried."""

    pipeline: str
    reward: float
    macs: float
    latency: float | None
    evaluations: int


@register_pass
@dataclass(frozen=True)
class Search(Pass):
    """Find how much of each layer to remove, and remove it.

    search{what=prune-channels macs=0.5}  ->  prune-channels{layers={...}}, the best of `evaluations` networks

    An agent walks through the layers and chooses a ratio for each; where later layers alone could not meet the budget, the ratio is raised.
    The resulting network is evaluated: by `transform(..., evaluate=)` where that is given, else by the SQNR (dB / 100) of its outputs on the
    first calibration batch against those of the original network.
    what: prune-channels, or sparsify, whose multiply-accumulates are those with weights that are not zero. macs: the share of
    multiply-accumulates to leave; latency: the share of the measured latency, kept to within 3 %.
    agent: ddpg (AMC, He et al., 1802.03494; needs stable-baselines3), greedy (a layer at a time, uphill) or random.
    most: the largest share to remove from a layer. options: of the pass that is searched for: "method=l1 reconstruct=false".
    then: passes to run before the evaluation: "recalibrate-bn". state: a file with all evaluations; a search that finds it repeats none of
    them, and ends like one that was never killed.
    """

    name = "search"
    keeps = "lossy"

    what: Literal["prune-channels", "sparsify"] = "prune-channels"
    agent: Literal["ddpg", "greedy", "random"] = "ddpg"
    macs: float | None = None
    latency: float | None = None
    evaluations: int = 50
    most: float = 0.8
    options: str = ""
    then: str = ""
    seed: int | None = None
    state: str | None = None

    def run(self, graph: Graph, ctx: Context) -> Graph:
        budget = self._check()
        knobs = KNOBS[self.what](graph, self.options)
        seed = ctx.seed if self.seed is None else self.seed
        measure = ctx.need_latency(self) if self.latency is not None else None
        before = measure(graph) if measure is not None else 1.0
        if ctx.evaluate is None:
            ctx.need_calibration(self)

        def judge(ratios: Sequence[float]) -> tuple[float, float | None]:
            small = self._made(graph, knobs.pipeline(ratios), ctx)
            return self._reward(graph, small, ctx), None if measure is None else measure(small) / before

        log = None if self.state is None else Path(self.state)
        environment = Environment(knobs, budget, self.most, judge, self.latency is not None, log, self._signature(graph, seed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a poor refit from few images is part of the reward
            AGENTS[self.agent](environment, self.evaluations, seed, lambda done: self._show(ctx, environment, done))
        best = environment.best
        if best is None:
            raise TersorError(f"none of {self.evaluations} networks kept to latency={budget:g} within 3 %: more evaluations, or a larger budget")
        pipeline = knobs.pipeline(best.ratios) + (f",{self.then}" if self.then else "")
        ctx.layers.append(Found(pipeline, best.reward, best.cost, best.measured, len(environment.trials)))
        ctx.record(Counter({"evaluations": len(environment.trials)}))
        return self._made(graph, knobs.pipeline(best.ratios), ctx)

    def _check(self) -> float:
        given = {n: v for n in ("macs", "latency") if (v := getattr(self, n)) is not None}
        if len(given) != 1:
            raise TersorError(f"expected one of macs= and latency=, the share to leave, got {' and '.join(given) or 'none'}: search{{macs=0.5}}")
        ((name, budget),) = given.items()
        if not 0 < budget < 1:
            raise TersorError(f"{name} is a share to leave, above 0 and below 1; got {budget:g}")
        if not 0 < self.most < 1:
            raise TersorError(f"most is the largest share of a layer that goes, above 0 and below 1; got {self.most:g}")
        if self.evaluations < 1:
            raise TersorError(f"evaluations must be at least 1, got {self.evaluations}")
        Pipeline.parse(self.then)
        return float(budget)

    def _made(self, graph: Graph, pipeline: str, ctx: Context) -> Graph:
        passes = pipeline + (f",{self.then}" if self.then else "")
        return transform(
            graph, passes, calibration=ctx.calibration, train=ctx.train, teacher=ctx.teacher or ctx.original, seed=ctx.seed, latency=ctx.latency
        )

    def _reward(self, graph: Graph, small: Graph, ctx: Context) -> float:
        if ctx.evaluate is not None:
            return float(ctx.evaluate(small))
        db = sqnr(graph, small, tensors(arguments(graph, ctx.need_calibration(self)[0])))
        return -1.0 if db is None else max(-1.0, min(1.0, db / 100))

    def _signature(self, graph: Graph, seed: int) -> str:
        content = hashlib.sha256(str(graph).encode())
        for op in graph.find("nn.constant"):
            content.update(op.array.tobytes())  # type: ignore[attr-defined]
        # a search with more evaluations or another agent may use the same file
        options = format_pass(replace(self, state=None, evaluations=1, agent="ddpg", seed=None))
        return f"{options}, graph {content.hexdigest()[:16]}"

    def _show(self, ctx: Context, environment: Environment, done: int) -> None:
        if ctx.progress is not None:
            best = environment.best
            ctx.progress(f"search: best {'none yet' if best is None else f'{best.reward:.4f}'}", done, self.evaluations)
