"""quantize: ranges from calibration data, and quantize/dequantize pairs on the operands of operators that will run on integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import escape
from typing import Literal

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Loc, Op, Value, having
from ...ir.ops import BatchNorm, Cast, Conv2d, ConvTranspose2d, Dequantize, Fake, Linear, Quantize
from ...ir.types import Uniform
from ..core.base import LayerPass, register_pass
from ..core.context import Context
from ..core.transform import transform
from ..folding.fold_bn import fold_batch_norms
from .histogram import Histogram, RangeMethod, activation_type, choose_range
from .mixed import Mixed
from .observe import observe
from .paired import Noise, PairedReplay
from .placement import Placement, place
from .qat import fake_activations, fake_weights, join_norms
from .report import QuantizedLayer, QuantizedLayers
from .roles import grid
from .scale_shift import scale_shift_to_conv
from .weights import WeightFormat, weight_type

#: Images on which a layer's noise is measured.
MEASURED = 8


@register_pass
@dataclass(frozen=True)
class QuantizePass(LayerPass):
    """Place quantize/dequantize pairs, so that the network computes what its integer form will (`to-integer` translates it).

    conv2d(x, w, b)             ->  conv2d(dq(q(x)), dq(q(w)), b)          dq(q(x)) = S (clamp(rint(x / S) + Z) - Z)
    relu(add(conv2d(…), y))     ->  relu(add(conv2d(…), dq(q(y))))         the sum is rounded once, after the relu
    concat(a, b)                ->  concat(dq(q(a)), dq(q(b)))             of one type

    Activations are u8 with one scale and zero point for the tensor, weights s8 with a scale per output channel and zero point 0. Weights stay
    f32 constants behind their pair, so that later passes and training still see them (Jacob et al., 1712.05877, section 2; Nagel et al., 2106.08295).

    range: the range of activations that a type covers. minmax: all values seen. percentile: all but a share beyond each end. mse: least squared
    rounding and clipping error within that. samples: images used at most. skip: patterns of module paths that stay float.
    sqnr: dB that the outputs keep on calibration images, by leaving the fewest further layers float; those with the most noise come first.
    latency: ms that the network may take, measured on this machine (or by `transform(..., latency=)`): as many layers stay float as it allows.
    granularity: a scale of weights for each output channel, or one for the tensor.
    weights: s8, or a form for which AVX2's saturating multiply is exact: s7, or pairs (see docs/quantization.md).
    sums: of a layer's accumulator, or of its rounded result, which costs precision and is what onnxruntime runs on integers.
    qat: for training (`quantize{qat=true},finetune,to-integer`): fake-quantize operators instead of pairs; training moves their ranges, and
    batch norms that are still there train with their layers. Weights are s8.
    """

    name = "quantize"
    keeps = "lossy"

    range: RangeMethod = "mse"
    percentile: float = 99.99
    weights: WeightFormat = "s8"
    granularity: Literal["channel", "tensor"] = "channel"
    sums: Literal["accumulated", "rounded"] = "accumulated"
    skip: tuple[str, ...] = ()
    samples: int = 256
    sqnr: float | None = None
    latency: float | None = None
    qat: bool = False

    def run(self, graph: Graph, ctx: Context) -> None:
        self._check(graph)
        calibration = ctx.need_calibration(self)
        if self.sqnr is not None or self.latency is not None:
            floats = self._floats(graph, ctx)
            return replace(self, skip=(*self.skip, *floats), sqnr=None, latency=None).run(graph, ctx)
        if self.qat:
            ctx.greedy(graph, join_norms(self.granularity == "channel"))
            fold_batch_norms(graph, ctx.why)
        ctx.greedy(graph, scale_shift_to_conv)
        graph.remove_dead()
        placement = place(graph, self.skip, self.sums == "rounded")
        if not placement.integer:
            raise TersorError(f"no operator can run on integers: {_reasons(placement)}")
        histograms = observe(graph, placement.values, calibration, ctx, self.name, self.samples)
        ranges = self._ranges(placement, histograms)
        layers = [op for op, role in placement.integer.items() if role == "layer"]
        if self.qat:
            fake_activations(graph, ranges)
            for op in layers:
                fake_weights(graph, op, self.at(op).granularity == "channel")
        else:
            order = {op: i for i, op in enumerate(graph.ops)}
            elems = {v: activation_type(*ends) for group, ends in ranges for v in group}
            for v in placement.values:
                insert_pair(graph, v, elems[v], min(v.users, key=order.__getitem__))
            for op in layers:
                self._quantize_weights(graph, op)
        ctx.record(Counter({"activations": len(placement.values), "layers": len(layers)}))
        ctx.layers = trainable(graph, placement) if self.qat else measured(graph, placement, ctx, self.name)

    def _check(self, graph: Graph) -> None:
        if not 50 < self.percentile <= 100:
            raise TersorError(f"percentile must be above 50 and at most 100, got {self.percentile:g}")
        if self.samples < 1:
            raise TersorError(f"samples must be at least 1, got {self.samples}")
        if self.sqnr is not None and self.latency is not None:
            raise TersorError("give sqnr or latency: each alone says which layers stay float")
        if self.qat and self.weights != "s8":
            raise TersorError(f"qat=true trains weights of 8 bits (weights=s8), got weights={self.weights}")
        if not self.qat and (norms := graph.find(BatchNorm)):
            raise TersorError(f"{norms[0].name} [{norms[0].loc}] is not folded: run fold-bn first (the preset int8 does)")
        if graph.find(Quantize) or graph.find(Dequantize) or graph.find(Fake):
            raise TersorError("the graph is quantized already")

    def _floats(self, graph: Graph, ctx: Context) -> list[str]:
        """Layers that stay float: the fewest that the SQNR needs, or the most that the latency allows."""

        def quantized(floats: Sequence[str]) -> Graph:
            copy = graph.clone()
            replace(self, skip=(*self.skip, *map(escape, floats)), sqnr=None, latency=None).run(copy, replace(ctx, progress=None, layers=[]))
            return copy

        mixed = Mixed(graph, quantized, ctx.need_calibration(self), ctx)
        if self.latency is None:
            assert self.sqnr is not None
            floats = mixed.enough(self.sqnr)
        else:
            measure = ctx.need_latency(self)
            floats = mixed.affordable(self.latency, lambda g: measure(transform(g, "to-integer,canonicalize")))
        return [escape(path) for path in floats]

    def _ranges(self, placement: Placement, histograms: dict[Value, Histogram]) -> list[tuple[list[Value], tuple[float, float]]]:
        """Values that share a type, and its range."""
        found = []
        for group in placement.domains.groups(placement.values):
            merged = Histogram()
            for v in group:
                merged.merge(histograms[v])
            options = next((self.at(v.op) for v in group if v.op is not None), self)
            ends = (0.0, 255.0) if all(map(is_bytes, group)) else choose_range(merged, options.range, options.percentile)
            found.append((group, ends))
        return found

    def _quantize_weights(self, graph: Graph, op: Op) -> None:
        if not isinstance(op, Conv2d | ConvTranspose2d | Linear):
            return
        x = grid(op.x)
        assert x is not None
        options = self.at(op)
        quantized = Quantize(op.w, weight_type(op, x, options.weights, options.granularity == "channel"), loc=op.loc)
        op.replace_operand(op.w, graph.insert_before(op, Dequantize(quantized, loc=op.loc)))


def is_bytes(v: Value) -> bool:
    """Whether a value is u8 cast to float: its type is known without calibration."""
    return isinstance(v.op, Cast) and v.op.x.type.elem == "u8"


def insert_pair(graph: Graph, v: Value, elem: Uniform, first: Op) -> None:
    """Insert a pair after a value, before `first`, the first operator that reads it; every reader then reads the pair."""
    readers = v.users
    loc = v.op.loc if v.op is not None else Loc()
    pair = graph.insert_before(first, Dequantize(Quantize(v, elem, loc=loc), loc=loc))
    for reader in readers:
        reader.replace_operand(v, pair)
    if v in graph.outputs:
        graph.set_outputs([pair if o is v else o for o in graph.outputs], graph.output_names, graph.structure)


def measured(graph: Graph, placement: Placement, ctx: Context, what: str) -> QuantizedLayers:
    """A row for each layer: its noise on the first images, alone and in the network."""
    found: dict[Op, tuple[Noise, Noise]] = {}
    replay = PairedReplay(graph, ctx.calibration or (), ctx, what, MEASURED)
    for op in replay.walk(having("contraction")):
        if op in placement.integer:
            alone, so_far = found.setdefault(op, (Noise(), Noise()))
            for i in range(replay.chunks):
                y = replay.original(op.out, i)
                alone.add(y, replay.alone(op, i))
                so_far.add(y, replay.current(op.out, i))
    layers = [op for op in graph.ops if op.contraction]
    rows = [(op, found.get(op)) for op in layers]
    return QuantizedLayers(
        QuantizedLayer.of(op, "int8", noise[0].sqnr, noise[1].sqnr) if noise else QuantizedLayer.of(op, "float", reason=placement.reasons.get(op, ""))
        for op, noise in rows
    )


def trainable(graph: Graph, placement: Placement) -> QuantizedLayers:
    """A row for each layer, without noise: that is known only after training."""
    layers = [op for op in graph.ops if op.contraction]
    return QuantizedLayers(
        QuantizedLayer.of(op, "int8") if op in placement.integer else QuantizedLayer.of(op, "float", reason=placement.reasons.get(op, ""))
        for op in layers
    )


def _reasons(placement: Placement) -> str:
    shown = [f"{op.name} [{op.loc}]: {reason}" for op, reason in placement.reasons.items()]
    return "; ".join(shown[:5]) + ("; …" if len(shown) > 5 else "")
