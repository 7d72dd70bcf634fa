"""What pruning decides on: spaces of interchangeable channel sets, and the cost of the layers around them."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ...ir.errors import TersorError
from ...ir.op import Const
from ...ir.ops import Add, Conv2d, Sub
from ...ir.ties import Index, Mask
from ..coupling import Coupling, Layer, inputs_of, layers_of, outputs_of, weight
from ..reconstruct.moments import F64
from ..reconstruct.replay import residual_order

Counts: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"


@dataclass(frozen=True, eq=False)
class Space:
    """Sets of which some are to stay: the output channels of one layer, or of several that share them.

    producers make the channels, readers sum over them, in the order in which they are run. scoring_layer: the reader whose response decides.
    With `sampled` the channels stay for others, and only one reader stops reading some of them.
    unit: sets come in multiples of it, so that channels come in multiples of `round_to`.
    weights: what each set costs, their mean 1; sets differ where slices and shuffles tie unlike channels.
    """

    sets: Index
    producers: tuple[Layer, ...]
    readers: tuple[Layer, ...]
    scoring_layer: Layer | None
    unit: int
    weights: F64
    sampled: bool = False

    @property
    def even(self) -> bool:
        """All sets cost the same."""
        return bool(np.allclose(self.weights, 1))

    def stay(self, order: Index, keep: int) -> Index:
        """The first sets of an order that cost no more than `keep` average ones, at least one."""
        if self.even:
            return order[:keep]
        weight = dict(zip(self.sets.tolist(), self.weights.tolist()))
        spent = np.cumsum([weight[int(s)] for s in order])
        return order[: max(1, int(np.searchsorted(spent, keep * (1 + 1e-9), side="right")))]

    @property
    def name(self) -> str:
        layer = self.readers[0] if self.sampled else self.producers[0]
        return f"{'inputs of ' * self.sampled}{layer.name} [{layer.loc}]"

    def keep(self, share: float) -> int:
        """How many sets stay of a share, a multiple of the unit, at least one unit."""
        size = len(self.sets)
        return min(size, max(self.unit, round(share * size / self.unit) * self.unit))


@dataclass(frozen=True)
class Choice:
    """exclude: patterns of module paths whose output channels stay. streams: channels of residual streams may be removed too.
    sample_inputs: layers that read such channels may read only some of them."""

    exclude: tuple[str, ...] = ()
    streams: bool = False
    sample_inputs: bool = False
    round_to: int = 1


def spaces_of(coupling: Coupling, choice: Choice) -> list[Space]:
    """All spaces of a graph that may be pruned, in the order of their first reader."""
    graph = coupling.graph
    order = {op: i for i, op in enumerate(residual_order(graph))}
    layers = sorted(layers_of(graph), key=order.__getitem__)
    _check_patterns(choice.exclude, layers)
    may_go = coupling.removable.copy()
    stream = _in_streams(coupling)
    for layer in layers:
        if any(fnmatch.fnmatchcase(layer.loc.path, p) for p in choice.exclude):
            may_go[coupling.sets(*outputs_of(layer))] = False
    free = may_go if choice.streams else may_go & ~stream
    made, read = ([coupling.sets(*outputs_of(layer)) for layer in layers], [_input_sets(coupling, layer) for layer in layers])
    members_of = _joined(made, free)
    producers, readers = (_touching(labels, members_of, coupling.count, layers) for labels in (made, read))
    cost = _costs(coupling.count, layers, made, read)
    spaces = []
    for members, makers, reading in zip(members_of, producers, readers):
        unit = _unit(coupling, makers, len(members), choice.round_to)
        spaces.append(Space(members, makers, reading, _judge(reading), unit, _relative(cost[members])))
    if choice.sample_inputs:
        spaces += [s for layer in layers if (s := _sampled(coupling, layer, free, stream, choice.round_to)) is not None]
    end = len(order)
    return sorted(spaces, key=lambda s: min((order[r] for r in s.readers), default=end))


def _input_sets(coupling: Coupling, layer: Layer) -> Index:
    axis = inputs_of(layer)
    return np.zeros(0, np.int64) if axis is None else coupling.sets(*axis)


def _joined(outputs: Sequence[Index], free: Mask) -> list[Index]:
    """Free sets, joined where one layer makes them; in the order of the last layers that do."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    mine = [np.unique(labels[free[labels]]) for labels in outputs]
    sets = np.concatenate([*mine, np.zeros(0, np.int64)])
    layer = np.repeat(np.arange(len(mine)), [len(m) for m in mine])
    size = len(free) + len(mine)
    pairs = coo_array((np.ones(len(sets), np.bool_), (sets, len(free) + layer)), shape=(size, size))
    _, part = connected_components(pairs, directed=False)
    last = np.full(size, -1)
    last[part[sets]] = layer
    space = last[part[: len(free)]]
    found = np.flatnonzero(space >= 0)
    found = found[np.argsort(space[found], kind="stable")]
    return [members for members in np.split(found, np.flatnonzero(np.diff(space[found])) + 1) if len(members) > 1]


def _numbers(members: Sequence[Index], count: int) -> Index:
    """For each of `count` sets, the index of the space that it is in, -1 for none; spaces do not overlap."""
    number = np.full(count, -1)
    for i, sets in enumerate(members):
        number[sets] = i
    return number


def _touching(labels: Sequence[Index], members: Sequence[Index], count: int, layers: Sequence[Layer]) -> list[tuple[Layer, ...]]:
    """For each space, the layers that have sets of it among their labels."""
    number = _numbers(members, count)
    found: list[list[Layer]] = [[] for _ in members]
    for layer, mine in zip(layers, labels):
        for i in np.unique(number[mine]):
            if i >= 0:
                found[i].append(layer)
    return [tuple(f) for f in found]


def _in_streams(coupling: Coupling) -> Mask:
    """Sets that run through a sum or difference of two computed values."""
    stream = np.zeros(coupling.count, np.bool_)
    for op in coupling.graph.ops:
        if isinstance(op, Add | Sub) and not any(isinstance(v.op, Const) for v in op.operands):
            for axis in range(op.out.type.rank):
                stream[coupling.sets(op.out, axis)] = True
    return stream


def _costs(count: int, layers: Sequence[Layer], made: Sequence[Index], read: Sequence[Index]) -> F64:
    """MACs that go with each set alone."""
    cost = np.zeros(count)
    for layer, *both in zip(layers, made, read):
        for labels in both:
            if len(labels):
                np.add.at(cost, labels, layer.macs() / len(labels))
    return cost


def _relative(cost: F64) -> F64:
    """Costs relative to their mean."""
    return cost / cost.mean() if cost.mean() > 0 else np.ones(len(cost))


def _judge(readers: Sequence[Layer]) -> Layer | None:
    """The scoring layer: the first reader with at least a quarter of the most MACs, so not a squeeze before a convolution."""
    most = max((r.macs() for r in readers), default=0)
    return next((r for r in readers if 4 * r.macs() >= most), None)


def _unit(coupling: Coupling, producers: Sequence[Layer], sets: int, round_to: int) -> int:
    channels = len(coupling.sets(*outputs_of(producers[0])))
    per_set = channels // sets if sets and channels % sets == 0 else 1
    return min(round_to // math.gcd(round_to, max(per_set, 1)), sets)


def _sampled(coupling: Coupling, layer: Layer, free: Mask, stream: Mask, round_to: int) -> Space | None:
    """The inputs of a convolution that reads a residual stream of fixed width."""
    labels = _input_sets(coupling, layer)
    if not isinstance(layer, Conv2d) or layer.groups > 1 or not len(labels) or len(np.unique(labels)) != len(labels):
        return None
    if not (stream[labels] & ~free[labels]).all():
        return None
    return Space(labels, (layer,), (layer,), layer, min(round_to, len(labels)), np.ones(len(labels)), sampled=True)


def _check_patterns(patterns: Sequence[str], layers: Sequence[Layer]) -> None:
    paths = sorted({layer.loc.path for layer in layers})
    for pattern in patterns:
        if not fnmatch.filter(paths, pattern):
            shown = ", ".join(paths[:12]) + (", …" if len(paths) > 12 else "")
            raise TersorError(f"exclude={pattern!r} matches no layer; layers: {shown or 'none'}")


#: About how many multiply-accumulates a core does while it reads one weight from memory (140 GMAC/s and 40 GB/s of f32).
WEIGHT = 14


class Cost:
    """Multiply-accumulates of the graph as a function of how many sets of each space stay: each layer's own, times the share of its
    outputs and of its inputs that is left.

    memory: instead a model of time, in multiply-accumulates: a layer costs at least the time to read its weights, which dominates in large
    linear layers.
    """

    def __init__(self, coupling: Coupling, spaces: Sequence[Space], memory: bool = False):
        self.sizes = np.array([len(s.sets) for s in spaces])
        layers = layers_of(coupling.graph)
        self.macs = np.array([float(layer.macs()) for layer in layers])
        self.rest = coupling.graph.macs() - self.macs.sum()
        if memory:
            self.macs = np.maximum(self.macs, [float(WEIGHT * weight(layer).type.size) for layer in layers])
        self.out, self.into = np.zeros((2, len(layers), len(spaces)))
        whole = [j for j, s in enumerate(spaces) if not s.sampled]
        number = _numbers([spaces[j].sets for j in whole], coupling.count)
        for i, layer in enumerate(layers):
            for share, labels in ((self.out, coupling.sets(*outputs_of(layer))), (self.into, _input_sets(coupling, layer))):
                mine = number[labels]
                share[i, whole] = np.bincount(mine[mine >= 0], minlength=len(whole)) / max(len(labels), 1)
        place = {layer: i for i, layer in enumerate(layers)}
        for j, space in enumerate(spaces):
            if space.sampled:
                self.into[place[space.readers[0]], j] = 1

    def __call__(self, keep: Counts) -> float:
        """The cost when `keep[j]` sets of space j stay."""
        gone = 1 - keep / self.sizes
        return float(self.rest + (self.macs * (1 - self.out @ gone) * (1 - self.into @ gone)).sum())
