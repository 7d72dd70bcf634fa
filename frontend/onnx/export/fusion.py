"""Which layers of an exported model onnxruntime runs on integers, and why others stay float: the rules of its CPU provider's optimized graphs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....ir.evaluate import to_numpy, to_torch
from ....ir.graph import Graph
from ....ir.op import Const, Op, Value
from ....ir.ops import Clip, Conv2d, ConvTranspose2d, Dequantize, QuantAdd, QuantConv2d, QuantConvTranspose2d, Quantize, Relu, Requantize
from ....ir.types import STORAGE, Uniform

#: Above this |w|, two products with u8 may not fit 16 bits: 2 * 255 * 64 < 2^15.
SATURATES = 64
TRANSPOSED = "onnxruntime has no transposed convolution of integers"


@dataclass(frozen=True)
class ExportedLayer:
    """One convolution or product. reason: why onnxruntime runs it in floats, empty where it runs on integers.

    saturates: on x86 without VNNI onnxruntime adds pairs of its products in 16 bits, which may saturate.
    """

    op: str
    layer: str
    reason: str
    saturates: bool = False


class ExportReport(list[ExportedLayer]):
    """The layers of an exported model, in order."""

    @property
    def floats(self) -> list[ExportedLayer]:
        """The layers that onnxruntime runs in floats."""
        return [row for row in self if row.reason]

    @property
    def quantized(self) -> bool:
        """Whether onnxruntime runs any layer on integers."""
        return any(not row.reason for row in self)

    def __str__(self) -> str:
        lines = [f"{len(self) - len(self.floats)} of {len(self)} layers run on integers in onnxruntime"]
        return "\n".join(lines + [f"  {row.op} [{row.layer}] is float there: {row.reason}" for row in self.floats])


def report_of(graph: Graph) -> ExportReport:
    """A row for each layer of a graph."""
    return ExportReport(ExportedLayer(op.name, op.loc.path or op.out.name, _reason(op), _saturates(op)) for op in graph.ops if op.macs())


def _reason(op: Op) -> str:
    if isinstance(op, ConvTranspose2d | QuantConvTranspose2d):
        return TRANSPOSED
    for v in op.operands[:2]:
        source = _source(v)
        if v.type.is_float and not isinstance(source.op, Dequantize):
            moved = source.op is not None and source.op.selects
            return f"it reads {source.op.name} of floats; to-integer makes that one of integers" if moved and source.op else "it is float"
    convolution = isinstance(op, Conv2d | QuantConv2d)
    for user, clamps in _readers(op.out):
        if isinstance(user, QuantAdd):
            return "an add reads its accumulator; quantize{sums=rounded} rounds before the add"
        if isinstance(user, Quantize) and not all(_redundant(c, user.to) for c in clamps):
            return f"{clamps[0].name} clamps it above the lowest integer of what follows; export the graph as to-integer makes it"
        if not isinstance(user, Requantize | Quantize) and convolution:
            return "its result is not quantized"
    return ""


def _source(v: Value) -> Value:
    """The value before ops that only move its elements: onnxruntime moves integers there, where one tensor is read."""
    while v.op is not None and v.op.selects and len(v.op.operands) == 1:
        v = v.op.operands[0]
    return v


def _readers(v: Value) -> list[tuple[Op | None, list[Op]]]:
    """The readers of a value after its clamps, with those clamps; None is the output of the graph."""
    found: list[tuple[Op | None, list[Op]]] = []
    for user in v.uses:
        if isinstance(user, Relu | Clip):
            found += [(end, [user, *clamps]) for end, clamps in _readers(user.out)]
        else:
            found.append((user, []))
    return found


def _redundant(clamp: Op, to: Uniform) -> bool:
    """Whether the range of the type already clamps as much."""
    bounds = np.array([0.0, np.inf] if isinstance(clamp, Relu) else [clamp.min, clamp.max] if isinstance(clamp, Clip) else [], np.float32)
    low, high = to_numpy(Quantize(Const(bounds), to).evaluate(to_torch(bounds)))
    return (int(low), int(high)) == to.range


def _saturates(op: Op) -> bool:
    x, w = (_integers(v) for v in op.operands[:2])
    if x is None or w is None or not isinstance(w.op, Const) or not isinstance(x.type.elem, Uniform) or not isinstance(w.type.elem, Uniform):
        return False
    mixed = x.type.elem.storage.startswith("u") and STORAGE[w.type.elem.storage] == (8, True)
    return mixed and bool(np.abs(w.op.array.astype(np.int32)).max(initial=0) > SATURATES)


def _integers(v: Value) -> Value | None:
    """The quantized tensor of an operand; of weights under a quantize op, their integers."""
    v = v.op.x if isinstance(v.op, Dequantize) else v
    if isinstance(v.op, Quantize) and isinstance(v.op.x.op, Const):
        return Const(to_numpy(v.op.evaluate(to_torch(v.op.x.op.array))), v.op.to).out
    return v if isinstance(v.type.elem, Uniform) else None
