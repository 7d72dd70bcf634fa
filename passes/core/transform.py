"""Run a pipeline over a copy of a graph."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.rewrite import Trace
from .base import LayerPass, Pass
from .check import Finding, sqnr, verify_declaration
from .context import Context, Progress, batches, open_progress
from .instruments import Instrument, Step
from .pipeline import Pipeline, PipelineLike, format_pass
from .report import Ledger, Row, measure
from .samples import arguments, samples, tensors


def transform(
    graph: Graph,
    pipeline: PipelineLike,
    *,
    calibration: Any = None,
    train: Any = None,
    evaluate: Callable[[Graph], float] | None = None,
    teacher: Any = None,
    seed: int = 0,
    latency: Callable[[Graph], float] | None = None,
    check: bool = False,
    instruments: Sequence[Instrument] = (),
    progress: Progress | bool | None = None,
    why: Trace | None = None,
) -> Graph:
    """A new graph: `graph` after the passes of `pipeline`, verified after each. `graph` itself is never changed; arrays are shared.

    pipeline: `"fold-bn,prune{ratio=0.5}"`, a preset's name, `"@file"`, a `Path`, a `Pass`, a registered `@rewrite`, or a list of these.
    calibration: batches for passes that look at activations; a batch is what the graph is called with.
    train: data for passes that train: (images, labels), a torch Dataset, a loader of (inputs, labels), or a function of the epoch that gives one.
    teacher: a graph, module or function that they learn from, by default `graph`.
    evaluate: accuracy of a graph, measured before the first pass and after each inexact one.
    latency: function that gives the time of one run of a graph on the target, for passes with a latency budget; by default `tersor.transform`
    compiles for one thread of this machine and times that.
    check: test what each pass declares (exact, numeric, lossy) on the first calibration batch or random inputs; a breach is an error.
    progress: True for a bar on a terminal, or a function (what, done, total). why: collects refused matches.

    Returns the graph with `report`, the ledger. Errors are `TersorError` and name the pass.
    """
    passes = Pipeline.of(pipeline)
    given = batches(calibration)
    with open_progress(progress) as show:
        ctx = Context(given, train, evaluate, teacher, graph, seed, latency, show, why)
        run = _Run(graph, ctx, len(passes), check, tuple(instruments))
        for pass_ in passes:
            run.step(pass_)
    return run.graph


class _Run:
    """The state of one transform: the graph so far and its ledger."""

    def __init__(self, graph: Graph, ctx: Context, total: int, check: bool, instruments: tuple[Instrument, ...]):
        self.reference = graph
        self.graph = graph.clone().verify()
        self.ctx = ctx
        self.total = total
        self.check = check
        self.instruments = instruments
        self.inputs = samples(graph, ctx.calibration, ctx.seed) if check else []
        accuracy = ctx.evaluate(self.graph) if ctx.evaluate is not None else None
        self.ledger = Ledger([measure(self.graph, "input", accuracy=accuracy)])
        self.graph.report = self.ledger

    def step(self, pass_: Pass) -> None:
        ctx, graph = self.ctx, self.graph
        ctx.position += 1
        ctx.rewrites = Counter()
        ctx.layers = []
        step = Step(pass_, ctx.position, self.total, graph, ctx)
        for instrument in self.instruments:
            instrument.before(step)
        before = graph.clone() if self.check else graph
        start = time.perf_counter()
        try:
            if isinstance(pass_, LayerPass):
                pass_.check_layers(graph)
            result = pass_.run(graph, ctx)
            seconds = time.perf_counter() - start
            if not isinstance(result, Graph | None):
                raise TersorError(f"run must change the graph in place and return None, or return a new graph, got {type(result).__name__}")
            self.graph = (graph if result is None else result).verify()
            finding = verify_declaration(pass_, before, self.graph, self.reference, self.inputs) if self.check else self.loss(pass_)
            row = self.row(pass_, seconds, finding)
        except Exception as error:
            # do not name the pass twice
            text = str(error).removeprefix(f"pass {pass_.name!r}").removeprefix(":").strip()
            kind = "" if isinstance(error, TersorError) else f"{type(error).__name__}: "
            raise TersorError(f"{step}: {kind}{text}") from error
        self.ledger.rows.append(row)
        self.graph.report = self.ledger
        for instrument in self.instruments:
            instrument.after(Step(pass_, step.index, step.total, self.graph, ctx, row))
        if ctx.progress is not None:
            ctx.progress("passes", ctx.position, self.total)

    def loss(self, pass_: Pass) -> Finding:
        """The loss of a lossy pass, measured where there is calibration data."""
        if pass_.keeps != "lossy" or not self.ctx.calibration:
            return Finding()
        return Finding(sqnr=sqnr(self.reference, self.graph, tensors(arguments(self.reference, self.ctx.calibration[0]))))

    def row(self, pass_: Pass, seconds: float, finding: Finding) -> Row:
        accuracy = self.ctx.evaluate(self.graph) if self.ctx.evaluate is not None and pass_.keeps != "exact" else None
        return measure(
            self.graph,
            format_pass(pass_),
            pass_.keeps,
            seconds,
            rewrites=dict(self.ctx.rewrites),
            error=finding.error,
            sqnr=finding.sqnr,
            accuracy=accuracy,
            layers=self.ctx.layers,
        )
