"""Prune a network layer by layer: decide which of a layer's inputs stay, then refit the layer to its original response."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import Add, Conv2d, ConvTranspose2d, Matmul
from ...ir.ties import Index, Mask
from ..core.context import Batch, Context
from ..coupling import Coupling, Layer, inputs_of, source, weight
from ..reconstruct.blocks import Then
from ..reconstruct.clamp import clamp_after, refit_clamped
from ..reconstruct.holdout import Evidence
from ..reconstruct.moments import F64
from ..reconstruct.replay import Replay
from ..reconstruct.rows import MOST_UNKNOWNS, Fitted, Rows, channel_axis, draw, refit, refittable, weights_of
from ..reconstruct.shortage import Short, counted, named, warn_short
from .constants import Contributions, array_of, bias_of
from .remove import Weights, remove_channels, removed_positions
from .select import BY_RESPONSE, Method, by_response, by_score, settled
from .spaces import Counts, Space

#: Responses of a layer per unknown, where its feature maps have them.
ROWS_PER_UNKNOWN = 4

#: Least-squares problems of one refit through a ReLU.
SWEEPS = 5


@dataclass(frozen=True)
class Settings:
    """The options of `prune-channels` that the walk uses. clamped: refit to the response after the ReLU. all_layers: also layers that lost nothing.

    repaired_later: how much less errors in early layers count, since later ones are refitted.
    """

    method: Method
    samples: int
    positions: int
    reconstruct: bool
    residual_target: bool
    name: str
    clamped: bool = True
    repaired_later: float = 0.0
    all_layers: bool = False

    def per_image(self, layer: Fitted, images: int) -> int:
        """Responses per image: `ROWS_PER_UNKNOWN` where the feature map has them."""
        unknowns = max(len(w) for w in weights_of(layer, array_of(weight(layer))))
        return max(self.positions, math.ceil(ROWS_PER_UNKNOWN * unknowns / images))


@dataclass(frozen=True)
class Drawn:
    """Rows, chunk by chunk, and their moments."""

    rows: list[Rows]
    evidence: Evidence


@dataclass
class Pruning:
    """The state of the walk: removed sets, and new weights of refitted layers. sensitivity: from `curvature`, for method=lasso."""

    coupling: Coupling
    spaces: Sequence[Space]
    keep: Counts
    settings: Settings
    ctx: Context
    sensitivity: Mapping[Op, F64] = field(default_factory=dict)
    #: for method=dcp: by the space's number, its sets in the order in which they were chosen
    orders: Mapping[int, Index] = field(default_factory=dict)
    weights: dict[Op, Weights] = field(default_factory=dict)
    sampled: dict[Op, Index] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.images = 0
        self.short: list[Short] = []
        self.too_large: list[Layer] = []
        self.gone: Mask = np.zeros(self.coupling.count, np.bool_)
        self.rng = self.ctx.rng
        # the sets along each axis, once where several axes hold the same
        self._axes = list({labels.tobytes(): np.unique(labels) for _, labels in self.coupling.axes()}.values())

    # -- the walk ------------------------------------------------------------------------------

    def run(self, calibration: Sequence[Batch]) -> None:
        """Decide and refit layer after layer, activations of both networks carried forward."""
        waiting = [(s, int(k)) for s, k in zip(self.spaces, self.keep) if k < len(s.sets)]
        replay = Replay(self.coupling.graph, calibration, self.ctx, self.settings.name, self.settings.samples)
        self.images = replay.images
        for layer in replay:
            due = [(s, k) for s, k in waiting if s.readers and s.readers[0] is layer]
            waiting = [w for w in waiting if w not in due]
            drawn = self._decide(replay, layer, due)
            lost = self.lost(layer)
            if lost.any() or self._strayed(replay, layer):
                self._repair(replay, layer, lost, drawn)
        for space, k in waiting:
            self._drop(space, self._order("l1", space), k)

    def _strayed(self, replay: Replay, layer: Layer) -> bool:
        """Whether a layer is refitted though it lost nothing: its inputs have changed, and it can partly compensate for that."""
        asked = self.settings.reconstruct and self.settings.all_layers
        return asked and refittable(layer) and inputs_of(layer) is not None and not replay.same(source(layer)[0])

    def choose_all(self) -> None:
        """Decide by scores that need no data, and refit nothing."""
        for space, k in zip(self.spaces, self.keep):
            if k < len(space.sets):
                self._drop(space, self._order(self.settings.method, space), int(k))
        for layer in self.sampled:
            assert isinstance(layer, Conv2d)
            self.weights[layer] = Weights(array_of(layer.w))

    def warn(self) -> None:
        """One warning that names the layers that could not be refitted well, or at all."""
        warn_short(self.settings.name, self.short, self.images, "its old ones" if len(self.short) == 1 else "their old ones")
        if self.too_large:
            places = [f"{layer.name} [{layer.loc}]" for layer in self.too_large]
            layers = counted(len(places), f"has more than {MOST_UNKNOWNS:,} unknowns and is", f"have more than {MOST_UNKNOWNS:,} unknowns and are")
            warnings.warn(
                f"{self.settings.name}: {layers} not refitted: the weights stay, a bias makes up for the mean of what was lost: {named(places)}",
                stacklevel=2,
            )

    def result(self) -> Graph:
        """The pruned network."""
        return remove_channels(self.coupling.graph, self.coupling, np.flatnonzero(self.gone), self.weights, self.sampled)

    def pairs(self, result: Graph) -> dict[Value, Then]:
        """For each value of the result, what it was in the original graph."""
        removed = removed_positions(self.coupling, self.gone)
        graph = self.coupling.graph
        names = {v.name: v for v in [*graph.inputs, *(v for op in graph.ops for v in op.outs)]}
        was = {v: names[v.name] for v in [*result.inputs, *(v for op in result.ops for v in op.outs)] if v.name in names}
        return {v: Then(old, {axis: ~lost for axis, lost in removed.get(old, {}).items()}) for v, old in was.items()}

    def lost(self, layer: Layer) -> Mask:
        """The input channels that a layer has lost."""
        value, axis = source(layer)
        labels = self.coupling.sets(value, axis)
        if inputs_of(layer) is None or not len(labels):
            return np.zeros(value.shape[axis], np.bool_)
        lost = self.gone[labels]
        if layer in self.sampled:
            lost = lost.copy()
            lost[np.setdiff1d(np.arange(len(lost)), self.sampled[layer])] = True
        return lost

    # -- decisions -----------------------------------------------------------------------------

    def _decide(self, replay: Replay, layer: Layer, due: Sequence[tuple[Space, int]]) -> Drawn | None:
        """Choose among the spaces that the layer is the first to read; returns the rows of its own response where they were drawn."""
        own: Drawn | None = None
        scoring_layers = dict.fromkeys(s.scoring_layer for s, _ in due)
        for scoring_layer in scoring_layers:
            mine = [(s, k) for s, k in due if s.scoring_layer is scoring_layer]
            if self.settings.method not in BY_RESPONSE or scoring_layer is None or not refittable(scoring_layer):
                method: Method = "l1" if self.settings.method in BY_RESPONSE else self.settings.method
                for space, k in mine:
                    self._drop(space, self._order(method, space), k)
                continue
            drawn = self.drawn(replay, scoring_layer)
            own = drawn if scoring_layer is layer else own
            value, axis = source(scoring_layer)
            labels = self.coupling.sets(value, axis)
            sets = np.concatenate([s.sets for s, _ in mine])
            order = by_response(
                self.settings.method,
                scoring_layer,
                drawn.evidence,
                self.sensitivity[scoring_layer],
                labels,
                sets,
                self.lost(scoring_layer),
                sum(k for _, k in mine),
            )
            orders = [order[np.isin(order, space.sets)] for space, _ in mine]
            if self.settings.method == "lasso":
                orders = settled(scoring_layer, drawn.evidence, self.sensitivity[scoring_layer], labels, mine, orders, self.lost(scoring_layer))
            for (space, k), best in zip(mine, orders):
                self._drop(space, best, k)
        return own

    def _order(self, method: Method, space: Space) -> Index:
        """The sets of a space, ordered by a method that looks at no response."""
        chosen = self.orders.get(next(i for i, s in enumerate(self.spaces) if s is space))
        return by_score("l1" if method == "dcp" else method, self.coupling, space, self.rng) if chosen is None else chosen

    def drawn(self, replay: Replay, layer: Fitted) -> Drawn:
        """Rows of a layer's current patches and its original responses, and their moments."""
        per_image = self.settings.per_image(layer, replay.images)
        rows = list(draw(replay, layer, layer, self.rng, per_image, self.settings.residual_target))
        return Drawn(rows, Evidence.of(rows))

    def _drop(self, space: Space, order: Index, keep: int) -> None:
        """Remove all but the first `keep` sets of an order."""
        if space.sampled:
            labels = self.coupling.sets(*source(space.readers[0]))
            self.sampled[space.readers[0]] = np.flatnonzero(np.isin(labels, order[:keep]))
            return
        self.gone[np.setdiff1d(order, space.stay(order, keep))] = True
        # a slice may read only removed channels: its best one stays
        rank = {int(s): i for i, s in enumerate(order)}
        for sets in self._axes:
            if self.gone[sets].all():
                mine = [int(s) for s in sets if int(s) in rank]
                if mine:
                    self.gone[min(mine, key=rank.__getitem__)] = False

    # -- repair --------------------------------------------------------------------------------

    def _repair(self, replay: Replay, layer: Layer, lost: Mask, drawn: Drawn | None) -> None:
        value = weight(layer)
        if not isinstance(value.op, Const):
            return
        if self.settings.reconstruct and refittable(layer) and inputs_of(layer) is not None:
            drawn = drawn or self.drawn(replay, layer)
            moments, ridge = drawn.evidence.all, drawn.evidence.ridge(layer, value.op.array, ~lost)
            solved = refit(layer, moments, value.op.array, ~lost, ridge)
            if solved.rows <= solved.unknowns:
                if not lost.any():
                    return
                self.short.append(Short(layer, solved.unknowns, solved.rows))
            clamp = clamp_after(layer) if self.settings.clamped else None
            if clamp is not None and (not clamp.summed or (self.settings.residual_target and drawn.rows[0].other is not None)):
                solved = refit_clamped(layer, drawn.rows, moments, clamp, value.op.array, solved, ~lost, ridge, SWEEPS)
            w, b = solved.w, solved.b
            self.weights[layer] = Weights(w, b)
        else:
            w = without(layer, array_of(value), lost)
            if self.settings.reconstruct:
                self.too_large.append(layer)
                own = None if isinstance(layer, Matmul) else layer.b
                b = shortfall(replay, layer, w)[0] + (0 if own is None else array_of(own))
            else:
                b = self._bias(layer)
            if self.settings.reconstruct or layer in self.sampled:
                self.weights[layer] = Weights(w, b)
        replay.replace_layer(layer, changed_layer(layer, w, b))

    def _bias(self, layer: Layer) -> np.ndarray:
        """The layer's bias and the constants of removed channels that go into it."""
        contributions = Contributions(removed_positions(self.coupling, self.gone))
        for op in self.coupling.graph.ops:
            if op is layer:
                break
            contributions.visit(op)
        gain = bias_of(layer, contributions)
        axis = 1 if isinstance(layer, Conv2d | ConvTranspose2d) else layer.out.type.rank - 1
        own = None if isinstance(layer, Matmul) else layer.b
        total: np.ndarray = np.zeros(layer.out.shape[axis])
        for term in (gain, None if own is None else array_of(own)):
            total = total if term is None else total + term
        return total


def without(layer: Layer, w: np.ndarray, lost: Mask) -> np.ndarray:
    """Weights whose slices of lost input channels are zero."""
    axis = inputs_of(layer)
    assert axis is not None
    w = w.copy()
    if isinstance(layer, Conv2d) and layer.groups > 1:
        parts = np.split(w, layer.groups)
        for part, mask in zip(parts, np.split(lost, layer.groups)):
            part[:, mask] = 0
        return np.concatenate(parts)
    np.moveaxis(w, axis[1], 0)[lost] = 0
    return w


def shortfall(replay: Replay, layer: Layer, w: np.ndarray, chunks: int = 4) -> tuple[F64, F64]:
    """The mean and the variance (O,) of each response's error with weights `w`: a bias can correct the mean, not the variance."""
    axis = channel_axis(layer)
    new = Const(w.astype(weight(layer).type.dtype))
    changed = layer.rebuilt(b=new) if isinstance(layer, Matmul) else layer.rebuilt(w=new)
    lacks = [replay.original(layer.out, i) - replay.current(changed.out, i) for i in range(min(chunks, replay.chunks))]
    rows = np.concatenate([e.movedim(axis, -1).reshape(-1, e.shape[axis]).double().numpy() for e in lacks])
    return rows.mean(axis=0), rows.var(axis=0)


def changed_layer(layer: Layer, w: np.ndarray, b: np.ndarray) -> Op:
    """A layer with other weights and bias, unattached."""
    new_w, new_b = (Const(a.astype(weight(layer).type.dtype), loc=layer.loc) for a in (w, b))
    return Add(layer.rebuilt(b=new_w), new_b) if isinstance(layer, Matmul) else layer.rebuilt(w=new_w, b=new_b)
