"""to-bits: a trained simulation of few bits as operators on stored bits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.errors import TersorError
from ...ir.evaluate import run, to_numpy, to_torch
from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import (
    Add,
    BinarizeWeight,
    BitsConv2d,
    BitsWeightConv2d,
    Concat,
    Conv2d,
    Dequantize,
    DorefaWeight,
    Linear,
    MaxPool2d,
    Mul,
    QuantizeActivation,
    QuantizeGradient,
    Reshape,
    Sign,
    SignBit,
    Slice,
    TernarizeWeight,
    ToLevels,
)
from ...ir.ops.bits import WeightQuantizer
from ...ir.ops.bits_layers import SIGNS, TERNARY, weight_levels
from ...ir.types import BitsAffine
from ..core.base import Pass, register_pass
from ..core.context import Context
from .layers import Layer, name_of
from .thresholds import as_threshold

#: Channels of a group at least, for a packed convolution of it: a word of bits.
GROUP = 32


@dataclass(frozen=True)
class Packed:
    """A layer: bits of its weights and inputs, and the bytes of its weights. kept: why it stays a float simulation."""

    layer: str
    weights: str
    inputs: str
    bytes: int
    kept: str = ""


@dataclass(frozen=True)
class Weight:
    """A weight of few levels: stored integers, their type, and the scale of each filter (or one for all)."""

    stored: np.ndarray
    elem: BitsAffine
    alpha: np.ndarray | None


@register_pass
@dataclass(frozen=True)
class ToBits(Pass):
    """After training, replace the simulation of few bits by operators on stored bits, which run on packed kernels.

    conv(sign(x), binarize(w), b)      ->  dequantize(bits.conv2d(sign_bit(x), w_1bit)) * alpha + b
    conv(quantize_a(x), dorefa(w), b)  ->  dequantize(bits.conv2d(to_levels(x), w_kbit)) + b
    conv(x, ternarize(w), b)           ->  bits.weight_conv2d(x, w_2bit) * alpha + b
    to_levels(f(dequantize(acc)))      ->  threshold(acc)       f: batch norm, scale, bias, relu, clip of each channel
    to_levels(max_pool(x))             ->  max_pool(to_levels(x))

    Linear layers become convolutions of one pixel. A grouped convolution becomes one for each group, and a concat of their results, where a
    group has 32 channels or more; with fewer it is kept as a float simulation, with the reason in the row's `layers`. Sums are exact
    integers; thresholds are those of the simulation in float64. The float weights are dropped, so run it after training and before `compile`.
    """

    name = "to-bits"
    keeps = "numeric"

    def run(self, graph: Graph, ctx: Context) -> None:
        for gradient in [op for op in graph.ops if isinstance(op, QuantizeGradient)]:
            graph.replace(gradient, gradient.x)
        found = [op for op in graph.ops if isinstance(op, Conv2d | Linear) and isinstance(op.w.op, WeightQuantizer)]
        if not found:
            raise TersorError("no layer has weights of few bits: run binarize, ternarize or dorefa first, and not freeze-bits")
        levels: dict[Any, Op] = {}
        for layer in found:
            ctx.layers.append(self._layer(graph, layer, levels))
        graph.remove_dead()
        pools = [op for op in graph.ops if isinstance(op, SignBit | ToLevels) and _pool_before(op)]
        for op in pools:
            pool = op.x.op
            assert isinstance(pool, MaxPool2d)
            graph.replace(op, pool.rebuilt(x=op.rebuilt(x=pool.x)))
        graph.remove_dead()
        thresholds = 0
        for op in [op for op in graph.ops if isinstance(op, SignBit | ToLevels)]:
            if (new := as_threshold(op)) is not None:
                graph.replace(op, new)
                thresholds += 1
        graph.remove_dead()
        kept = sum(bool(row.kept) for row in ctx.layers)
        ctx.record(Counter({"layers": len(found) - kept, "thresholds": thresholds, "kept": kept}))

    def _layer(self, graph: Graph, layer: Layer, levels: dict[Any, Op]) -> Packed:
        w = weight_of(layer.w.op)
        why = _why_not(layer)
        source = layer.x.op
        inputs = "float"
        if isinstance(source, Sign):
            inputs = "1 bit"
        elif isinstance(source, QuantizeActivation):
            inputs = _bits(source.bits)
        name, bits = name_of(layer), int(w.elem.storage[1:])
        if why:
            quantizer = layer.w.op
            if isinstance(quantizer, WeightQuantizer) and isinstance(quantizer.w.op, Const):
                frozen = run(quantizer, [to_torch(quantizer.w.op.array)])[0]
                graph.replace(layer, layer.rebuilt(w=_named(Const(np.array(to_numpy(frozen)), loc=layer.loc), layer)))
            return Packed(name, _bits(bits), inputs, layer.w.type.nbytes, why)
        x, stored = layer.x, w.stored
        geometry: dict[str, Any] = {}
        if isinstance(layer, Linear):
            stored = stored[:, :, None, None]
        else:
            geometry = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
        groups = layer.groups if isinstance(layer, Conv2d) else 1
        each = layer.w.shape[1]
        results: list[Op] = []
        nbytes = 0
        for number, part in enumerate(np.split(stored, groups)):
            const = _named(Const(np.ascontiguousarray(part), w.elem, loc=layer.loc), layer, f".{number}" if groups > 1 else "")
            nbytes += const.out.type.nbytes
            # the channels of a group, of what the quantizer reads where there is one
            which = slice(number * each, (number + 1) * each)
            if isinstance(source, Sign | QuantizeActivation):
                y: Op = Dequantize(BitsConv2d(_levels_of(source, layer, which, levels), const, **geometry, loc=layer.loc), loc=layer.loc)
            else:
                y = BitsWeightConv2d(_input(x, layer, which), const, **geometry, loc=layer.loc)
            results.append(y)
        y = results[0] if groups == 1 else Concat([r.out for r in results], 1, loc=layer.loc)
        if w.alpha is not None:
            y = Mul(y, _column(w.alpha, layer, "scale"), loc=layer.loc)
        if layer.b is not None:
            b = Reshape(layer.b, (layer.b.shape[0], 1, 1)) if not isinstance(layer.b.op, Const) else _column(layer.b.op.array, layer, "bias")
            y = Add(y, b, loc=layer.loc)
        if isinstance(layer, Linear):
            y = Reshape(y, (-1, *layer.out.shape[1:]), loc=layer.loc)
        graph.replace(layer, y)
        return Packed(name, _bits(bits), inputs, nbytes)


def _why_not(layer: Layer) -> str:
    """Why a layer has no packed form; empty where it has one."""
    if layer.x.type.elem != "f32":
        return f"its input is {layer.x.type.elem}, and packed layers read f32"
    if isinstance(layer, Conv2d) and layer.groups > 1 and layer.w.shape[1] < GROUP:
        return f"its groups have fewer than {GROUP} channels"
    return ""


def _levels_of(source: Sign | QuantizeActivation, layer: Layer, which: slice, levels: dict[Any, Op]) -> Op:
    """Stored levels of what a quantizer reads, of some channels. levels: those that were made before, for other readers."""
    key = (source.out, type(layer).__name__, which.start, which.stop)
    if key not in levels:
        given = _input(source.x, layer, which)
        levels[key] = SignBit(given, loc=layer.loc) if isinstance(source, Sign) else ToLevels(given, source.bits, loc=layer.loc)
    return levels[key]


def _input(x: Value, layer: Layer, which: slice) -> Value:
    """Some channels of a layer's input, as a map."""
    if isinstance(layer, Linear):
        return _as_map(x, layer).out
    return x if which == slice(0, x.shape[1]) else Slice(x, 1, which.start, which.stop, loc=layer.loc).out


def weight_of(op: Op | None) -> Weight:
    """The result of a weight quantizer, as stored integers and scales."""
    assert isinstance(op, WeightQuantizer)
    if not isinstance(op.w.op, Const):
        raise TersorError(f"the weight of {op.name} [{op.loc}] is not constant but of {op.w.op.name if op.w.op else 'an input'}")
    (value,) = run(op, [to_torch(op.w.op.array)])
    w = to_numpy(value)
    if isinstance(op, DorefaWeight) and op.bits > 1:
        steps = (1 << op.bits) - 1
        return Weight(np.rint((w + 1) * steps / 2).astype(np.uint8), weight_levels(op.bits), None)
    alpha = np.abs(w).reshape(len(w), -1).max(1)
    if isinstance(op, TernarizeWeight):
        return Weight((np.sign(w) + 1).astype(np.uint8), TERNARY, alpha)
    assert isinstance(op, BinarizeWeight | DorefaWeight)
    # the sign of the trained weight: alpha may be 0
    return Weight((op.w.op.array >= 0).astype(np.uint8), SIGNS, alpha if isinstance(op, BinarizeWeight) else alpha[:1])


def _as_map(v: Value, layer: Layer) -> Op:
    """(..., K) -> (rows, K, 1, 1)"""
    return Reshape(v, (-1, layer.w.shape[1], 1, 1), loc=layer.loc)


def _column(array: np.ndarray, layer: Layer, what: str) -> Const:
    const = Const(np.ascontiguousarray(array, np.float32).reshape(1, -1, 1, 1), loc=layer.loc)
    const.out.name = f"{name_of(layer)}.{what}"
    return const


def _named(const: Const, layer: Layer, group: str = "") -> Const:
    const.out.name = f"{name_of(layer)}.weight{group}"
    return const


def _pool_before(op: SignBit | ToLevels) -> bool:
    """Whether it is the only reader of a max pool. Quantizing keeps the order of values, so the two can be exchanged."""
    return isinstance(op.x.op, MaxPool2d) and op.x.single_use and op.out.type.rank == 4


def _bits(count: int) -> str:
    return "1 bit" if count == 1 else f"{count} bits"
