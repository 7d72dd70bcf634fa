"""The strength of each channel set by its filters alone: their l1 norms (Li et al., 1608.08710), zero where the channels cannot vary.

Removing a channel whose filters are zero loses nothing, even if a depthwise layer or a gate after it has weights of its own. So each
channel is followed from its filters to the readers: it is zero, constant, or varies with the input.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...ir.evaluate import to_torch
from ...ir.op import Const, Op, Value
from ...ir.ops import BatchNorm, Concat, Conv2d, ConvTranspose2d, Elementwise, GroupNorm, LayerNorm, Linear, Matmul, Mul, Pad
from ...ir.ties import computed
from ..coupling import Coupling, Layer, inputs_of, outputs_of, source, weight
from ..reconstruct.moments import F64
from ..reconstruct.rows import channel_axis
from .constants import array_of
from .spaces import Space

#: What a channel set holds: zero, one number, or what varies with the input.
ZERO, CONSTANT, VARIES = 0, 1, 2
State = NDArray[np.int8]


def strengths(coupling: Coupling, space: Space) -> F64:
    """For each set of a space the norms of its filters, relative to the layer's mean; zero where nothing that is read varies. For a sampled
    reader, the norms of its slices."""
    score = np.zeros(coupling.count)
    for layer in space.readers if space.sampled else space.producers:
        labels, norms = _slices(coupling, layer) if space.sampled else (coupling.sets(*outputs_of(layer)), filter_norms(layer))
        np.add.at(score, labels, norms / (norms.mean() or 1))
    return score[space.sets] if space.sampled else np.where(states(coupling, space) == VARIES, score[space.sets], 0)


def filter_norms(layer: Layer) -> F64:
    """l1 norm of the filter of each output channel, (O,)."""
    w = np.abs(array_of(weight(layer)))
    # a transposed convolution's are (C, O/groups, kh, kw): the rows of a group make its channels
    grouped = (
        w.reshape(layer.groups, -1, *w.shape[1:]).swapaxes(1, 2) if isinstance(layer, ConvTranspose2d) else np.moveaxis(w, outputs_of(layer)[1], 0)
    )
    norms: F64 = grouped.reshape(layer.out.shape[channel_axis(layer)], -1).sum(axis=1)
    return norms


def _slices(coupling: Coupling, layer: Layer) -> tuple[NDArray[np.int64], F64]:
    """The set of each input channel, and the norm of what a layer multiplies it with."""
    inputs = inputs_of(layer)
    assert inputs is not None
    value, axis = inputs
    return coupling.sets(value, axis), np.abs(np.moveaxis(array_of(value), axis, 0)).reshape(value.shape[axis], -1).sum(axis=1)


# -- what varies -------------------------------------------------------------------------------


def states(coupling: Coupling, space: Space) -> State:
    """For each set of a space, the state of its readers' inputs, or of its layers' results where it has no readers."""
    ends = [source(r)[0] for r in space.readers] or [p.out for p in space.producers]
    walk = _Walk(coupling, space)
    for op in walk.between(ends):
        walk.found[op.out] = walk.state(op)
    result: State = np.max([walk.of(v) for v in ends], axis=0)
    return result


class _Walk:
    """A walk from the layers that make the channels of a space to those that read them."""

    def __init__(self, coupling: Coupling, space: Space):
        self.coupling, self.space = coupling, space
        self.found: dict[Value, State] = {}

    def between(self, ends: list[Value]) -> list[Op]:
        """The producers and what lies between them and `ends`, in the order of the graph."""
        stack, seen = [v.op for v in ends], set[Op]()
        while stack:
            op = stack.pop()
            if op is None or op in seen or isinstance(op, Const) or len(op.outs) != 1:
                continue
            if not isinstance(op, Layer):
                stack.extend(v.op for v in op.operands)
            elif op not in self.space.producers:
                continue
            elif inputs_of(op) is None:
                stack.append(source(op)[0].op)
            seen.add(op)
        return sorted(seen, key=self.coupling.order.__getitem__)

    def of(self, v: Value) -> State:
        """The state of a value; values from outside the walk vary."""
        if v in self.found:
            return self.found[v]
        state = VARIES if not computed(v) else CONSTANT if array_of(v).any() else ZERO
        return np.full(len(self.space.sets), state, np.int8)

    def state(self, op: Op) -> State:
        """The state of an op's result, by those of its operands."""
        match op:
            case Conv2d() | ConvTranspose2d() | Linear() | Matmul():
                return self._of_filters(op)
            case Mul():
                a, b = self.of(op.a), self.of(op.b)
                return np.where((a == ZERO) | (b == ZERO), ZERO, np.maximum(a, b)).astype(np.int8)
            case Concat():
                # each operand describes only its own channels
                has = [np.isin(self.space.sets, self.coupling.sets(v, op.axis)) for v in op.xs]
                parts: State = np.max([np.where(mine, self.of(v), ZERO) for mine, v in zip(has, op.xs)], axis=0).astype(np.int8)
                return parts
        state: State = np.max([self.of(v) for v in op.operands if not computed(v)], axis=0, initial=CONSTANT if _shifts(op) else ZERO)
        return state

    def _of_filters(self, layer: Layer) -> State:
        """Zero filters give the bias alone. Others vary; a depthwise layer's keep the state of their input."""
        b = None if isinstance(layer, Matmul) else layer.b
        norms = filter_norms(layer)
        biased = np.ones(len(norms), np.bool_) if b is not None and not computed(b) else np.zeros(len(norms)) if b is None else array_of(b)
        none = np.where(self._holds(layer, biased != 0), CONSTANT, ZERO)
        given = self.of(source(layer)[0]) if inputs_of(layer) is None else np.full(len(self.space.sets), VARIES, np.int8)
        return np.where(self._holds(layer, norms > 0), np.maximum(given, none), none).astype(np.int8)

    def _holds(self, layer: Layer, channels: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """For each set, whether any of its output channels of the layer is marked."""
        marked = np.zeros(self.coupling.count, np.bool_)
        np.logical_or.at(marked, self.coupling.sets(*outputs_of(layer)), channels)
        return marked[self.space.sets]


def _shifts(op: Op) -> bool:
    """Whether zero operands give a result that is not zero: true for norms, sigmoids and x + 1, false for ReLU."""
    if not isinstance(op, Elementwise):
        return isinstance(op, BatchNorm | GroupNorm | LayerNorm | Pad) and not (isinstance(op, Pad) and op.value == 0)
    if any(v.type.elem == "bool" for v in (*op.operands, op.out)):
        return True
    zeros = [to_torch(array_of(v) if computed(v) else np.zeros(())) for v in op.operands]
    return bool((Elementwise.evaluate(op, *zeros) != 0).any())
