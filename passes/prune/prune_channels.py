"""prune-channels: remove whole channels, and refit on calibration data the layers that read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Op
from ..core.base import LayerPass, register_pass
from ..core.context import Context
from ..coupling import Coupling, explain
from ..reconstruct.blocks import refit_blocks
from ..reconstruct.moments import F64
from . import dcp
from .curvature import curvature
from .layerwise import Pruning, Settings
from .plan import BySensitivity, Plan, uniform, within
from .select import BY_RESPONSE, Method
from .sensitivity import sensitivities
from .spaces import Choice, Cost, Counts, Space, spaces_of

#: Shares of a space at which its sensitivity is measured.
SHARES = (0.0, 0.0625, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)


@register_pass
@dataclass(frozen=True)
class PruneChannels(LayerPass):
    """Remove channels, and refit by least squares the layers that read them.

    conv(x; C channels)  ->  conv(x; C' channels),   W' = argmin |Y - X'W'|^2,   Y the response in the original network

    Channels that must go together (sums, concatenations, groups, gates) do; what a removed channel still contributed goes into the next
    bias. One of `ratio` (share of channels removed), `macs` (share of multiply-accumulates left) or `latency` (share of the measured
    latency left) says how much.

    method: which channels stay: dcp (those whose weights have the largest gradient of a classification loss inside the network and of the
    response's error; it needs training data with labels and fine-tunes the network before each of `stages`), obs (remove one by one the
    channels that cost least when the others are refitted), lasso (min |Y - sum_i b_i X_i W_i'|^2 + lambda |b|_1, then exchanged while the
    refitted error falls), l1 (norm of the filters), bn-gamma (|gamma| of batch norms), random, first-k.
    per_layer: sensitivity (least error of the network's outputs for the time saved, as modelled: MACs, and the weights of large linear
    layers) or uniform (the same share everywhere).
    round_to: the channels that stay are a multiple of it. exclude: patterns of module paths whose output channels stay.
    streams: also prune the channels of residual streams. sample_inputs: let the first layer of a residual branch read only some channels of
    the stream, which keeps them all for others. residual_target: refit the last layer of a branch to Y1 - Y1' + Y2, so that the sum stays
    right. reconstruct: refit at all. clamped: refit to the response after the layer's ReLU. refit_all: also refit layers that lose nothing
    but come after others that do (they read a residual stream), except where responses are fewer than unknowns.
    repaired_later: later layers, as they are refitted, compensate for the errors of early ones; for the sensitivity, an error at the
    relative depth d (0 to 1) counts exp(-repaired_later (1 - d)) times.
    samples: images used. positions: responses per image at least; more where a layer has many unknowns.
    stages: for method=dcp, the number of losses inside the network; stage_epochs, stage_lr, stage_batch: of the fine-tuning before each choice;
    balance: weight of that loss beside the response's error; eps: relative change of both that ends a choice early, with fewer channels.
    block_epochs: passes over the images in which each block of layers is then fitted as a whole (`reconstruct.blocks`); 0 for none.

    He, Zhang and Sun, 1707.06168; Hassibi and Stork, NIPS 1992; Li et al., 1608.08710; Liu et al., 1708.06519; Zhuang et al.,
    1810.11809.
    """

    name = "prune-channels"
    keeps = "lossy"

    ratio: float | None = None
    macs: float | None = None
    latency: float | None = None
    method: Method = "obs"
    per_layer: Literal["sensitivity", "uniform"] = "sensitivity"
    round_to: int = 1
    exclude: tuple[str, ...] = ()
    streams: bool = False
    sample_inputs: bool = True
    residual_target: bool = True
    reconstruct: bool = True
    clamped: bool = True
    refit_all: bool = False
    repaired_later: float = 1.5
    samples: int = 1024
    positions: int = 10
    block_epochs: int = 0
    stages: int = 2
    stage_epochs: int = 1
    stage_lr: float = 1e-3
    stage_batch: int = 64
    balance: float = 1.0
    eps: float = 0.0

    def run(self, graph: Graph, ctx: Context) -> Graph:
        self._check()
        coupling = Coupling(graph)
        if ctx.why is not None:
            for e in explain(coupling):
                for blocker in e.blockers:
                    ctx.why.add(self.name, e.layer, str(blocker))
        choice = Choice(self.exclude, self.streams, self.sample_inputs, self.round_to)
        spaces = spaces_of(coupling, choice)
        if not spaces:
            if spaces_of(coupling, replace(choice, streams=True)):
                raise TersorError("only channels that residual sums run through can be pruned, and these go with streams=true alone")
            raise TersorError("no channel of the graph can be pruned; tersor.passes.coupling.explain(graph) says what bars each layer")
        settings = Settings(
            self.method,
            self.samples,
            self.positions,
            self.reconstruct,
            self.residual_target,
            self.name,
            self.clamped,
            self.repaired_later,
            self.refit_all,
        )
        by_data = self.method in BY_RESPONSE or self.per_layer == "sensitivity"
        sensitivity = curvature(graph, ctx.need_calibration(self), min(self.samples, 256), ctx.rng) if by_data else {}
        plan = self._plan(ctx, coupling, spaces, settings, sensitivity)
        if self.method == "dcp":
            return self._by_stages(graph, ctx, coupling, spaces, choice, settings, self._counts(plan, 1.0, ctx, coupling, spaces, settings))
        tighter = 1.0
        while True:
            pruning = Pruning(coupling, spaces, self._counts(plan, tighter, ctx, coupling, spaces, settings), settings, ctx, sensitivity)
            if self.reconstruct or self.method in BY_RESPONSE:
                pruning.run(ctx.need_calibration(self))
            else:
                pruning.choose_all()
            small = pruning.result()
            if self.macs is None or small.macs() <= self.macs * graph.macs():
                break
            # where sets differ in size, the cost is known only once they are chosen
            tighter *= 0.999 * self.macs * graph.macs() / small.macs()
        pruning.warn()
        ctx.record(Counter({"channel sets removed": int(pruning.gone.sum())}))
        if self.block_epochs:
            fitted = refit_blocks(
                small,
                graph,
                pruning.pairs(small),
                ctx.need_calibration(self),
                ctx,
                f"{self.name}: blocks",
                images=self.samples,
                epochs=self.block_epochs,
            )
            ctx.record(Counter({"blocks fitted": sum(f.after < f.before for f in fitted)}))
        return small

    def _by_stages(
        self, graph: Graph, ctx: Context, coupling: Coupling, spaces: list[Space], choice: Choice, settings: Settings, keep: Counts
    ) -> Graph:
        """method=dcp: stage after stage, fine-tune with the stage's loss, choose, and remove what was not chosen."""
        ctx.need_train(self)
        dcp.check_output(graph)
        options = dcp.Options(self.stages, self.stage_epochs, self.stage_lr, self.stage_batch, self.balance, self.eps)
        at = dcp.places(graph, self.stages)
        if not at:
            raise TersorError("method=dcp finds no feature map (N, C, H, W) that all data passes through, to put a loss on: use another method")
        order = {op: i for i, op in enumerate(graph.ops)}
        ends = [order[v.op] for v in at if v.op is not None]
        of_stage = [dcp.stage_of(space, ends, order) for space in spaces]
        names = [space.name for space in spaces]
        # a stage after the last loss trains with that one, and chooses by the network's own
        numbers = [i for i, op in enumerate(graph.ops) if op in {v.op for v in at}]
        paths = [graph.ops[i].out.name for i in numbers]
        for stage in range(len(at) + 1):
            mine = [i for i, s in enumerate(of_stage) if s == stage and keep[i] < len(spaces[i].sets)]
            if not mine:
                continue
            head = next(v for op in graph.ops for v in op.outs if v.name == paths[min(stage, len(paths) - 1)])
            tuned, loss = dcp.fine_tuned(dcp.with_head(graph, head, ctx.rng), options, ctx, stage)
            graph, of = dcp.without_head(tuned)
            coupling = Coupling(graph)
            spaces = spaces_of(coupling, choice)
            # a space with one set left is not a space any more
            now = {space.name: j for j, space in enumerate(spaces)}
            if missing := [names[i] for i in mine if names[i] not in now]:
                raise TersorError(f"method=dcp: {missing[0]} cannot be pruned any more after an early stage was: use stages=1")
            chooser = dcp.Chooser(tuned, coupling, of, options, ctx, stage, final=stage == len(at))
            counts = np.array([len(space.sets) for space in spaces], np.int64)
            orders, taken = {}, []
            for i in mine:
                j = now[names[i]]
                orders[j], took = chooser.order(spaces[j], int(keep[i]))
                counts[j] = spaces[j].keep(took / len(spaces[j].sets))
                taken.append(int(counts[j]))
            pruning = Pruning(coupling, spaces, counts, settings, ctx, orders=orders)
            pruning.run(ctx.need_calibration(self)) if self.reconstruct else pruning.choose_all()
            pruning.warn()
            graph = pruning.result()
            ctx.record(Counter({"channel sets removed": int(pruning.gone.sum())}))
            ctx.layers.append(dcp.Stage(stage + 1, head.name, loss, tuple(names[i] for i in mine), tuple(taken)))
        return graph

    def _check(self) -> None:
        meaning = {"ratio": "the share of channels to remove", "macs": "the share of MACs to leave", "latency": "the share of latency to leave"}
        given = {name: value for name in meaning if (value := getattr(self, name)) is not None}
        if len(given) != 1:
            got = " and ".join(f"{name}={value:g}" for name, value in given.items()) or "none"
            raise TersorError(f"expected one of ratio=, macs= and latency=, got {got}: prune-channels{{macs=0.5}}")
        for name, value in given.items():
            if not 0 < value < 1:
                raise TersorError(f"{name} is {meaning[name]}, above 0 and below 1; got {value:g}")
        if self.balance < 0 or self.eps < 0 or self.stage_lr <= 0:
            raise TersorError(f"balance and eps must not be negative and stage_lr above 0, got {self.balance:g}, {self.eps:g} and {self.stage_lr:g}")
        for name in ("round_to", "samples", "positions", "stages", "stage_epochs", "stage_batch"):
            if getattr(self, name) < 1:
                raise TersorError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.block_epochs < 0:
            raise TersorError(f"block_epochs is the number of passes over the images, 0 for none; got {self.block_epochs}")

    def _plan(self, ctx: Context, coupling: Coupling, spaces: list[Space], settings: Settings, sensitivity: Mapping[Op, F64]) -> Plan:
        """How spaces shrink as pruning gets stronger."""
        fixed = self._fixed(spaces)
        if self.per_layer == "uniform":
            return uniform(spaces, fixed)
        errors = sensitivities(coupling, spaces, SHARES, settings, ctx, ctx.need_calibration(self), sensitivity)
        return BySensitivity(spaces, Cost(coupling, spaces, memory=True), SHARES, errors, fixed)

    def _counts(self, plan: Plan, tighter: float, ctx: Context, coupling: Coupling, spaces: list[Space], settings: Settings) -> Counts:
        """How many sets of each space stay. tighter: factor on the budget."""
        if self.latency is not None:
            measure = ctx.need_latency(self)
            before = measure(coupling.graph)
            return within(plan, lambda keep: measure(sized(coupling, spaces, keep, settings)) / before, self.latency, f"latency={self.latency:g}", 32)
        cost, whole = Cost(coupling, spaces), coupling.graph.macs()
        even = all(s.even for s in spaces)

        def left(keep: Counts) -> float:
            return (cost(keep) if even else sized(coupling, spaces, keep, settings).macs()) / whole

        def at(budget: float, what: str) -> Counts:
            keep = within(plan, left, budget, what)
            return plan.filled(keep, lambda more: left(more) <= budget) if isinstance(plan, BySensitivity) else keep

        if self.macs is not None:
            return at(self.macs * tighter, f"macs={self.macs:g}")
        assert self.ratio is not None
        same = uniform(spaces, self._fixed(spaces))(self.ratio)
        # by sensitivity, a ratio saves as many MACs as the same share everywhere would
        return same if self.per_layer == "uniform" else at(left(same), f"ratio={self.ratio:g}")

    def _fixed(self, spaces: list[Space]) -> Counts | None:
        """Counts of the spaces for which `layers` gives a ratio; -1 for the others."""
        if not self.layers:
            return None
        own = [self.at(s.producers[0]).ratio for s in spaces]
        return np.array([s.keep(1 - r) if r is not None and r != self.ratio else -1 for s, r in zip(spaces, own)], np.int64)


def sized(coupling: Coupling, spaces: list[Space], keep: Counts, settings: Settings) -> Graph:
    """A network of the planned size, with any channels: which ones does not change its cost."""
    pruning = Pruning(coupling, spaces, keep, replace(settings, method="random"), Context())
    pruning.choose_all()
    return pruning.result()
