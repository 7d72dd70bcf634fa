"""Channel coupling: the ties of all ops, joined into sets of positions that must be removed together.

A position is an index along one axis of one value, constants included, so weights, even shared ones, need no separate rule.
Sets are the connected components of positions under the ties (Fang et al., 2301.12900, at the level of single channels).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..ir.errors import TersorError
from ..ir.graph import Graph
from ..ir.op import Const, Op, Value
from ..ir.ops import Conv2d, ConvTranspose2d, Linear, Matmul
from ..ir.ties import Index, Mask, Tie, computed

Axis = tuple[Value, int]
#: Layers whose weights make output channels of input channels.
Layer = Conv2d | ConvTranspose2d | Linear | Matmul


@dataclass(frozen=True)
class Blocker:
    """Why channels cannot be removed: an op that has no rule for an axis, or the graph's interface."""

    op: Op | None
    reason: str

    def __str__(self) -> str:
        return self.reason if self.op is None else f"{self.op.name} [{self.op.loc}]: {self.reason}"


class Coupling:
    """The channel sets of a graph. After the graph changes, build a new one.

    `sets(value, axis)` gives the set number of each position that a tie names; `removable` says which sets may be removed.
    """

    def __init__(self, graph: Graph):
        # imported here: only compression needs scipy
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        self.graph = graph
        self._start: dict[Axis, int] = {}
        self._size = 0
        ties = _ties_in_force(graph)
        rows, columns = [], []
        for tie in (t for of_op in ties.values() for t in of_op):
            rows.append(self._at(tie.a, tie.axis_a) + tie.index_a)
            columns.append(self._at(tie.b, tie.axis_b) + tie.index_b)
        i, j = (np.concatenate(x) if x else np.zeros(0, np.int64) for x in (rows, columns))
        pairs = coo_array((np.ones(len(i), np.bool_), (i, j)), shape=(self._size, self._size))
        self.count: int
        self._label: NDArray[np.int32]
        self.count, self._label = connected_components(pairs, directed=False) if self._size else (0, np.zeros(0, np.int32))
        self.blockers: list[Blocker] = []
        #: index of the first blocker of each set, -1 for none
        self._blocked = np.full(self.count, -1)
        self._bar(ties)
        self._bar_whole_axes()

    def _at(self, value: Value, axis: int) -> int:
        key = (value, axis)
        if key not in self._start:
            self._start[key] = self._size
            self._size += value.shape[axis]
        return self._start[key]

    # -- blockers ------------------------------------------------------------------------------

    def _block(self, labels: Index, op: Op | None, reason: str) -> None:
        fresh = labels[self._blocked[labels] < 0]
        if len(fresh):
            self._blocked[fresh] = len(self.blockers)
            self.blockers.append(Blocker(op, reason))

    def _bar(self, ties: dict[Op, list[Tie]]) -> None:
        graph = self.graph
        for kind, names, values in (("input", [v.name for v in graph.inputs], graph.inputs), ("output", graph.output_names, graph.outputs)):
            for name, v in zip(names, values):
                for axis in range(v.type.rank):
                    self._block(self.sets(v, axis), None, f"it is the graph's {kind} {name!r}")
        for op in graph.ops:
            if isinstance(op, Const):
                continue
            named = {(t.a, t.axis_a) for t in ties[op]} | {(t.b, t.axis_b) for t in ties[op]}
            for v in dict.fromkeys([*op.operands, *op.outs]):
                for axis in range(v.type.rank):
                    if (v, axis) in self._start and (v, axis) not in named:
                        what = "its result" if v in op.outs else next(f.name for f in op.operand_fields if _reads(getattr(op, f.name), v))
                        self._block(self.sets(v, axis), op, f"every position along axis {axis} of {what} {list(v.shape)} counts")

    def _bar_whole_axes(self) -> None:
        """Block sets that hold all of an axis: their removal would leave nothing there."""
        for (v, axis), start in self._start.items():
            labels = self._label[start : start + v.shape[axis]].astype(np.int64)
            if (labels == labels[0]).all():
                self._block(labels[:1], v.op, f"nothing would be left of axis {axis} of %{v.name} {list(v.shape)}")

    @cached_property
    def order(self) -> dict[Op, int]:
        """The place of each op in the graph."""
        return {op: i for i, op in enumerate(self.graph.ops)}

    # -- questions -----------------------------------------------------------------------------

    def sets(self, value: Value, axis: int) -> Index:
        """Number of the set of every position along an axis; empty where no tie names the axis."""
        start = self._start.get((value, axis))
        return np.zeros(0, np.int64) if start is None else self._label[start : start + value.shape[axis]].astype(np.int64)

    @property
    def removable(self) -> Mask:
        """For every set, whether it may be removed."""
        return self._blocked < 0

    def blocker(self, set_: int) -> Blocker | None:
        """Why a set may not be removed; None where it may."""
        return None if self._blocked[set_] < 0 else self.blockers[self._blocked[set_]]

    def axes(self) -> Iterator[tuple[Axis, Index]]:
        """Every axis with positions in sets, and their numbers."""
        for key in self._start:
            yield key, self.sets(*key)

    def mask(self, sets: Iterable[int]) -> Mask:
        """For every set, whether it is among `sets`; an error names the first that may not be removed."""
        chosen = np.zeros(self.count, np.bool_)
        numbers = np.fromiter(sets, np.int64)
        chosen[numbers] = True
        barred = numbers[self._blocked[numbers] >= 0]
        if len(barred):
            raise TersorError(f"set {barred[0]} cannot be removed: {self.blocker(int(barred[0]))}")
        return chosen


def weight(layer: Layer) -> Value:
    """A layer's weights."""
    return layer.b if isinstance(layer, Matmul) else layer.w


def source(layer: Layer) -> Axis:
    """A layer's input, and the axis of its channels."""
    match layer:
        case Matmul():
            return layer.a, layer.a.type.rank - 1
        case Linear():
            return layer.x, layer.x.type.rank - 1
    return layer.x, 1


def outputs_of(layer: Layer) -> Axis:
    """The axis of the weights that holds a layer's output channels. A transposed convolution's weights hold them in two axes (group and
    position), so for it the channel axis of the result."""
    match layer:
        case ConvTranspose2d():
            return layer.out, 1
        case Matmul():
            return layer.b, layer.b.type.rank - 1
    return layer.w, 0


def inputs_of(layer: Layer) -> Axis | None:
    """The axis of the weights that sums over input channels; None for a depthwise layer, which sums over none."""
    match layer:
        case Conv2d() | ConvTranspose2d() if layer.depthwise:
            return None
        case ConvTranspose2d():
            return layer.w, 0
        case Matmul():
            return layer.b, layer.b.type.rank - 2
    return layer.w, 1


def layers_of(graph: Graph) -> list[Layer]:
    """Layers with constant weights, in order."""
    found: list[Layer] = []
    for op in graph.ops:
        match op:
            case Conv2d(w=w) | ConvTranspose2d(w=w) | Linear(w=w) if computed(w):
                found.append(op)
            case Matmul(b=b) if computed(b) and b.type.rank == 2:
                found.append(op)
    return found


@dataclass(frozen=True)
class Explanation:
    """One layer: how many of its output channels may be removed, in how many sets, and why the others may not."""

    layer: Layer
    channels: int
    prunable: int
    sets: int
    blockers: tuple[Blocker, ...]

    def __str__(self) -> str:
        text = f"{self.layer.name} [{self.layer.loc}]: {self.prunable} of {self.channels} output channels can be pruned, in {self.sets} sets"
        return "".join([text, *(f"\n    blocked by {b}" for b in self.blockers)])


def explain(graph: Graph | Coupling) -> list[Explanation]:
    """For each layer whether its output channels can be pruned; if not, which ops prevent it, and where they are in the user's model."""
    coupling = graph if isinstance(graph, Coupling) else Coupling(graph)
    found = []
    for layer in layers_of(coupling.graph):
        labels = coupling.sets(*outputs_of(layer))
        free = labels[coupling.removable[labels]]
        barred = dict.fromkeys(coupling.blocker(int(s)) for s in np.unique(labels[~coupling.removable[labels]]))
        found.append(Explanation(layer, len(labels), len(free), len(np.unique(free)), tuple(b for b in barred if b is not None)))
    return found


def _ties_in_force(graph: Graph) -> dict[Op, list[Tie]]:
    """The ties of every op, alternatives resolved: the first whose axis is open, that is, not blocked by an earlier op."""
    open_: set[Axis] = set()
    ties: dict[Op, list[Tie]] = {}
    for op in graph.ops:
        if isinstance(op, Const):
            open_ |= {(op.out, axis) for axis in range(op.out.type.rank)}
            continue
        choices: dict[int, list[Tie]] = {}
        chosen: list[Tie] = []
        for tie in op.ties():
            (chosen if tie.choice is None else choices.setdefault(tie.choice, [])).append(tie)
        chosen += [next((t for t in of_one if (t.a, t.axis_a) in open_), of_one[0]) for of_one in choices.values()]
        ties[op] = chosen
        open_ |= _opened(op, chosen, open_)
    return ties


def _opened(op: Op, ties: list[Tie], open_: set[Axis]) -> set[Axis]:
    """Axes of the op's results that are tied only to open axes."""
    named: set[Axis] = set()
    closed: set[Axis] = set()
    for t in ties:
        ends = ((t.a, t.axis_a), (t.b, t.axis_b))
        for end, other in (ends, ends[::-1]):
            if end[0] in op.outs:
                named.add(end)
                if other[0] not in op.outs and other not in open_:
                    closed.add(end)
    return named - closed


def _reads(field: Value | list[Value] | None, v: Value) -> bool:
    return v in field if isinstance(field, list) else field is v
