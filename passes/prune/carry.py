"""The walk through a network that is pruned: at each layer what it reads is decided, and the layer refitted to its original response."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Const, Op
from ...ir.ops import Add, Conv2d, ConvTranspose2d, Matmul
from ...ir.ties import Index, Mask
from ..context import Batch, Context
from ..coupling import Coupling, Layer, inputs_of, source, weight
from ..reconstruct.moments import Moments
from ..reconstruct.replay import Replay, summand
from ..reconstruct.rows import Fitted, gather, refit, weights_of
from .constants import Contributions, array_of, bias_of
from .remove import Weights, remove_channels, removed_positions
from .select import Method, by_score, lasso_order
from .spaces import Counts, Space

#: Ridge of a refit, relative to each column's sum of squares: it helps with few images and costs nothing with many.
RIDGE = 1e-3


@dataclass(frozen=True)
class Settings:
    """What the walk needs of the options of `prune-channels`."""

    method: Method
    samples: int
    positions: int
    reconstruct: bool
    residual_target: bool
    name: str

    def per_image(self, layer: Fitted, images: int, share: float = 1.0) -> int:
        """Responses per image: twice as many rows as unknowns where the map has them."""
        unknowns = max(len(w) for w in weights_of(layer, array_of(weight(layer)))) * share
        return max(self.positions, math.ceil(2 * unknowns / images))


@dataclass
class Pruning:
    """Which sets are gone, and the weights of the layers that were refitted, so far."""

    coupling: Coupling
    spaces: Sequence[Space]
    keep: Counts
    settings: Settings
    ctx: Context
    weights: dict[Op, Weights] = field(default_factory=dict)
    sampled: dict[Op, Index] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gone: Mask = np.zeros(self.coupling.count, np.bool_)
        self.rng = self.ctx.rng
        # the sets along each axis, once where several axes hold the same
        self._axes = list({labels.tobytes(): np.unique(labels) for _, labels in self.coupling.axes()}.values())

    # -- the walk ------------------------------------------------------------------------------

    def carry(self, calibration: Sequence[Batch]) -> None:
        """Decide and refit layer after layer, activations of both networks carried forward."""
        waiting = [(s, int(k)) for s, k in zip(self.spaces, self.keep) if k < len(s.sets)]
        replay = Replay(self.coupling.graph, calibration, self.ctx, self.settings.name, self.settings.samples)
        for layer in replay:
            due = [(s, k) for s, k in waiting if s.readers and s.readers[0] is layer]
            waiting = [w for w in waiting if w not in due]
            moments = self._decide(replay, layer, due)
            lost = self.lost(layer)
            if lost.any():
                self._repair(replay, layer, lost, moments)
        for space, k in waiting:
            self._drop(space, by_score("l1", self.coupling, space, self.rng), k)

    def choose_all(self) -> None:
        """Decide by scores that look at no data, and refit nothing."""
        for space, k in zip(self.spaces, self.keep):
            if k < len(space.sets):
                self._drop(space, by_score(self.settings.method, self.coupling, space, self.rng), int(k))
        for layer in self.sampled:
            assert isinstance(layer, Conv2d)
            self.weights[layer] = Weights(array_of(layer.w))

    def result(self) -> Graph:
        """The pruned network."""
        return remove_channels(self.coupling.graph, self.coupling, np.flatnonzero(self.gone), self.weights, self.sampled)

    def lost(self, layer: Layer) -> Mask:
        """The input channels that a layer does without."""
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

    def _decide(self, replay: Replay, layer: Layer, due: Sequence[tuple[Space, int]]) -> list[Moments] | None:
        """Choose among the spaces that the layer is the first to read; the moments of its own response where they were gathered."""
        own: list[Moments] | None = None
        judges = dict.fromkeys(s.judge for s, _ in due)
        for judge in judges:
            mine = [(s, k) for s, k in due if s.judge is judge]
            if self.settings.method != "lasso" or judge is None or not isinstance(judge, Fitted):
                method: Method = "l1" if self.settings.method == "lasso" else self.settings.method
                for space, k in mine:
                    self._drop(space, by_score(method, self.coupling, space, self.rng), k)
                continue
            moments = self.moments(replay, judge)
            own = moments if judge is layer else own
            value, axis = source(judge)
            labels = self.coupling.sets(value, axis)
            sets = np.concatenate([s.sets for s, _ in mine])
            order = lasso_order(judge, moments, labels, sets, self.lost(judge), sum(k for _, k in mine))
            for space, k in mine:
                self._drop(space, order[np.isin(order, space.sets)], k)
        return own

    def moments(self, replay: Replay, layer: Fitted) -> list[Moments]:
        """Second moments of a layer's patches now and its responses then."""
        per_image = self.settings.per_image(layer, replay.images)
        return gather(replay, layer, layer, self.rng, per_image, self.settings.residual_target)

    def _drop(self, space: Space, order: Index, keep: int) -> None:
        """Let all but the first `keep` sets of an order go."""
        if space.sampled:
            labels = self.coupling.sets(*source(space.readers[0]))
            self.sampled[space.readers[0]] = np.flatnonzero(np.isin(labels, order[:keep]))
            return
        self.gone[np.setdiff1d(order, space.stay(order, keep))] = True
        # a slice may read none but removed channels: its best one stays
        rank = {int(s): i for i, s in enumerate(order)}
        for sets in self._axes:
            if self.gone[sets].all():
                mine = [int(s) for s in sets if int(s) in rank]
                if mine:
                    self.gone[min(mine, key=rank.__getitem__)] = False

    # -- repair --------------------------------------------------------------------------------

    def _repair(self, replay: Replay, layer: Layer, lost: Mask, moments: list[Moments] | None) -> None:
        value = weight(layer)
        if self.settings.reconstruct and isinstance(layer, Fitted) and isinstance(value.op, Const) and inputs_of(layer) is not None:
            moments = moments or self.moments(replay, layer)
            solved = refit(layer, moments, value.op.array, ~lost, ridge=RIDGE)
            if solved.rows <= solved.unknowns:
                warnings.warn(
                    f"{self.settings.name}: {layer.name} [{layer.loc}] has {solved.unknowns} unknowns and only {solved.rows} responses in the "
                    "calibration data; a ridge holds it near its old weights. Give more images",
                    stacklevel=2,
                )
            w, b = solved.w, solved.b
            self.weights[layer] = Weights(w, b)
        else:
            w, b = _without(layer, array_of(value), lost), self._bias(layer)
            if layer in self.sampled:
                self.weights[layer] = Weights(w, b)
        new_w, new_b = (Const(a.astype(value.type.dtype), loc=layer.loc) for a in (w, b))
        replay.put(layer, Add(layer.rebuilt(b=new_w), new_b) if isinstance(layer, Matmul) else layer.rebuilt(w=new_w, b=new_b))

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


def _without(layer: Layer, w: np.ndarray, lost: Mask) -> np.ndarray:
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


def sensitivities(
    coupling: Coupling, spaces: Sequence[Space], shares: Sequence[float], settings: Settings, ctx: Context, calibration: Sequence[Batch]
) -> list[np.ndarray]:
    """For each space, the relative error of its judge's response when shares of it stay and the judge is refitted, all else as it was.

    Where the response is added to something else, the error is relative to the sum: that is what the network goes on with.
    """
    errors = [np.zeros(len(shares)) for _ in spaces]
    replay = Replay(coupling.graph, calibration, ctx, f"{settings.name}: sensitivity", settings.samples)
    walk = Pruning(coupling, spaces, np.array([len(s.sets) for s in spaces]), settings, ctx)
    for layer in replay:
        mine = [(i, s) for i, s in enumerate(spaces) if s.judge is layer]
        if not mine or not isinstance(layer, Fitted) or not isinstance(weight(layer).op, Const):
            continue
        moments = walk.moments(replay, layer)
        of_sum = _share_of_sum(replay, layer)
        w = array_of(weight(layer))
        labels = coupling.sets(*source(layer))
        for i, space in mine:
            if settings.method == "lasso":
                most = space.keep(shares[-1])
                order = lasso_order(layer, moments, labels, space.sets, np.zeros(len(labels), np.bool_), most)
            else:
                order = by_score(settings.method, coupling, space, walk.rng)
            for j, share in enumerate(shares):
                kept = ~np.isin(labels, order[space.keep(share) if share else 0 :])
                errors[i][j] = of_sum * (refit(layer, moments, w, kept).error if kept.any() else 1.0)
    return errors


def _share_of_sum(replay: Replay, layer: Layer) -> float:
    """Variance of a layer's response relative to that of the sum it goes into; 1 where it goes into none."""
    found = summand(layer)
    if found is None:
        return 1.0
    term = layer.out if found[1] is None else layer.out.users[0].out
    (total,) = (v.out for v in term.users)
    variances = np.zeros(2)
    for i in range(replay.chunks):
        for j, value in enumerate((term, total)):
            y = replay.then(value, i)
            variances[j] += float(y.double().var(dim=0, correction=0).sum() * len(y))
    return float(variances[0] / variances[1]) if variances[1] > 0 else 1.0
