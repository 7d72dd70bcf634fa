"""quantize: ranges from calibration data, and quantize/dequantize pairs in front of whatever will run on integers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Loc, Op, Value, having
from ...ir.ops import BatchNorm, Conv2d, ConvTranspose2d, Dequantize, Linear, Quantize
from ...ir.types import Uniform
from ..core.base import LayerPass, register_pass
from ..core.context import Context
from .histogram import Histogram, RangeMethod, activation_type, choose_range
from .observe import observe
from .paired import Noise, PairedReplay
from .placement import Placement, place
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

    range: how far a type reaches. minmax: all values seen. percentile: all but a share beyond each end. mse: least squared rounding and
    clipping error within that. samples: images used at most. skip: patterns of module paths that stay float.
    granularity: a scale of weights for each output channel, or one for the tensor.
    weights: s8, or what AVX2's saturating multiply needs to be exact: s7, or pairs (see docs/quantization.md).
    sums: of a layer's accumulator, or of its rounded result, which costs precision and is what onnxruntime runs on integers.
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

    def run(self, graph: Graph, ctx: Context) -> None:
        self._check(graph)
        calibration = ctx.need_calibration(self)
        ctx.greedy(graph, scale_shift_to_conv)
        graph.remove_dead()
        placement = place(graph, self.skip, self.sums == "rounded")
        if not placement.integer:
            raise TersorError(f"no operator can run on integers: {_reasons(placement)}")
        histograms = observe(graph, placement.values, calibration, ctx, self.name, self.samples)
        types = self._types(placement, histograms)
        order = {op: i for i, op in enumerate(graph.ops)}
        for v, elem in types.items():
            insert_pair(graph, v, elem, min(v.users, key=order.__getitem__))
        layers = [op for op, role in placement.integer.items() if role == "layer"]
        for op in layers:
            self._quantize_weights(graph, op)
        ctx.record(Counter({"activations": len(types), "layers": len(layers)}))
        ctx.layers = measured(graph, placement, ctx, self.name)

    def _check(self, graph: Graph) -> None:
        if not 50 < self.percentile <= 100:
            raise TersorError(f"percentile must be above 50 and at most 100, got {self.percentile:g}")
        if self.samples < 1:
            raise TersorError(f"samples must be at least 1, got {self.samples}")
        if norms := graph.find(BatchNorm):
            raise TersorError(f"{norms[0].name} [{norms[0].loc}] is not folded: run fold-bn first (the preset int8 does)")
        if graph.find(Quantize) or graph.find(Dequantize):
            raise TersorError("the graph is quantized already")

    def _types(self, placement: Placement, histograms: dict[Value, Histogram]) -> dict[Value, Uniform]:
        """The type of each value: one for each domain."""
        types: dict[Value, Uniform] = {}
        for group in placement.domains.groups(placement.values):
            merged = Histogram()
            for v in group:
                merged.merge(histograms[v])
            options = next((self.at(v.op) for v in group if v.op is not None), self)
            elem = activation_type(*choose_range(merged, options.range, options.percentile))
            types |= dict.fromkeys(group, elem)
        return types

    def _quantize_weights(self, graph: Graph, op: Op) -> None:
        if not isinstance(op, Conv2d | ConvTranspose2d | Linear):
            return
        x = grid(op.x)
        assert x is not None
        options = self.at(op)
        quantized = Quantize(op.w, weight_type(op, x, options.weights, options.granularity == "channel"), loc=op.loc)
        op.replace_operand(op.w, graph.insert_before(op, Dequantize(quantized, loc=op.loc)))


def insert_pair(graph: Graph, v: Value, elem: Uniform, first: Op) -> None:
    """Put a pair behind a value, before `first`, the first operator that reads it; every reader then reads the pair."""
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


def _reasons(placement: Placement) -> str:
    shown = [f"{op.name} [{op.loc}]: {reason}" for op, reason in placement.reasons.items()]
    return "; ".join(shown[:5]) + ("; …" if len(shown) > 5 else "")
