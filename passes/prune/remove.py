"""Remove channels physically: slice constants, adapt attributes, and add what the channels still contributed to the next bias."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import Add, Conv2d, ConvTranspose2d, IndexSelect, Linear, Matmul
from ...ir.ties import Mask, positions
from ..coupling import Coupling, inputs_of, source, weight
from .constants import Contributions, bias_of


@dataclass(frozen=True)
class Weights:
    """New weights of a layer at its old size, in place of its own; its bias then holds all that removed channels contributed."""

    w: np.ndarray
    b: np.ndarray | None = None


def remove_channels(
    graph: Graph, coupling: Coupling, sets: Iterable[int], weights: Mapping[Op, Weights] | None = None, gather: Mapping[Op, np.ndarray] | None = None
) -> Graph:
    """A new graph without the channels of `sets`; `graph` does not change. Raises where a set may not be removed.

    The result equals the graph in which the filters of the removed channels are zero (see `constants` for borders).

    coupling: of this graph. weights: layers with new weights. gather: layers (by op) that read only these channels of their input;
    the other channels stay for other readers.
    """
    removed = removed_positions(coupling, coupling.mask(sets))
    return narrowed(graph, removed, weights or {}, gather or {})


def removed_positions(coupling: Coupling, sets: Mask) -> dict[Value, dict[int, Mask]]:
    """For every value and axis that loses positions, a mask of the lost ones."""
    removed: dict[Value, dict[int, Mask]] = {}
    for (value, axis), labels in coupling.axes():
        mask = sets[labels]
        if mask.any():
            removed.setdefault(value, {})[axis] = mask
    return removed


class Kept:
    """kept(value, axis): what is left of an axis."""

    def __init__(self, removed: Mapping[Value, Mapping[int, Mask]]):
        self.removed = removed

    def __call__(self, value: Value, axis: int) -> Mask:
        lost = self.removed.get(value, {}).get(axis)
        return np.ones(value.shape[axis], np.bool_) if lost is None else ~lost

    def slice(self, value: Value, array: np.ndarray) -> np.ndarray:
        """What is left of an array of the value's old shape."""
        for axis, lost in self.removed.get(value, {}).items():
            array = np.compress(~lost, array, axis)
        return array


def narrowed(graph: Graph, removed: dict[Value, dict[int, Mask]], weights: Mapping[Op, Weights], gather: Mapping[Op, np.ndarray]) -> Graph:
    """`remove_channels` by positions instead of sets."""
    kept = Kept(removed)
    contributions = Contributions(removed)
    new = Graph(graph.name)
    to: dict[Value, Value] = {v: new.add_input(v.type, v.name, v.name in graph.batched) for v in graph.inputs}
    for op in graph.ops:
        contributions.visit(op)
        if isinstance(op, Const):
            array = kept.slice(op.out, op.array)
            copy: Op = op.rebuilt(array=array) if array is not op.array else op.rebuilt()
        else:
            copy = op.narrowed(kept, operands_of(op, to))
            if op in weights:
                copy = _with_weights(op, copy, kept, weights[op], gather.get(op))
            else:
                copy = _with_bias(op, copy, kept, bias_of(op, contributions))
        new.add(copy)
        for old, value in zip(op.outs, copy.outs):
            value.name = old.name
            to[old] = value
    new.set_outputs([to[v] for v in graph.outputs], graph.output_names, graph.structure)
    new.remove_dead()
    new.report = graph.report
    return new


def operands_of(op: Op, to: Mapping[Value, Value]) -> dict[str, Any]:
    """The operand fields of an op, with `to[v]` for each value."""
    fields: dict[str, Any] = {}
    for f in op.operand_fields:
        v = getattr(op, f.name)
        fields[f.name] = [to[o] for o in v] if f.kind == "list" else None if v is None else to[v]
    return fields


def _with_bias(op: Op, copy: Op, kept: Kept, gain: np.ndarray | None) -> Op:
    if gain is None:
        return copy
    if isinstance(op, Matmul):
        shift = gain[kept(op.b, op.b.type.rank - 1)]
        return Add(copy, Const(shift.astype(op.out.type.dtype), loc=op.loc), loc=op.loc)
    assert isinstance(op, Conv2d | ConvTranspose2d | Linear)
    old = np.zeros(len(gain)) if op.b is None else np.asarray(op.b.op.array) if isinstance(op.b.op, Const) else None
    axis = op.out.type.rank - 1 if isinstance(op, Linear) else 1
    shift = gain[kept(op.out, axis)]
    if old is None:
        shape = (-1,) if axis > 1 or isinstance(op, Linear) else (-1, 1, 1)
        return Add(copy, Const(shift.reshape(shape).astype(op.out.type.dtype), loc=op.loc), loc=op.loc)
    bias = (old.astype(np.float64) + gain)[kept(op.out, axis)]
    return copy.rebuilt(b=Const(bias.astype(op.out.type.dtype), loc=op.loc))


def _with_weights(op: Op, copy: Op, kept: Kept, weights: Weights, gather: np.ndarray | None) -> Op:
    """The layer with its new weights, cut to what is left, after a gather of its inputs where it has one."""
    assert isinstance(op, Conv2d | ConvTranspose2d | Linear | Matmul)
    value, inputs, (x, axis) = weight(op), inputs_of(op), source(op)
    dtype = value.type.dtype
    lost = dict(kept.removed.get(value, {}))
    w = weights.w
    changes: dict[str, Any] = {}
    if gather is not None:
        assert inputs is not None
        lost.pop(inputs[1], None)
        w = np.take(w, gather, inputs[1])
        changes[_field(op, x)] = IndexSelect(getattr(copy, _field(op, x)), Const(positions(kept(x, axis))[gather], loc=op.loc), axis, loc=op.loc)
    for a, mask in lost.items():
        w = np.compress(~mask, w, a)
    changes[_field(op, value)] = Const(w.astype(dtype), loc=value.op.loc if value.op else op.loc)
    if weights.b is None:
        return copy.rebuilt(**changes)
    b = weights.b[kept(op.out, op.out.type.rank - 1 if isinstance(op, Linear | Matmul) else 1)]
    bias = Const(b.astype(dtype), loc=op.loc)
    return Add(copy.rebuilt(**changes), bias, loc=op.loc) if isinstance(op, Matmul) else copy.rebuilt(**changes, b=bias)


def _field(op: Op, value: Value) -> str:
    """Name of the operand field that holds a value."""
    return next(f.name for f in op.operand_fields if getattr(op, f.name) is value)
