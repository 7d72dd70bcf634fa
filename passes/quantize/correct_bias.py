"""correct-bias: biases moved by what quantization moves the mean of each output channel by."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Const, Op
from ...ir.ops import Conv2d, ConvTranspose2d, Dequantize, Linear, Quantize
from ..core.base import Pass, register_pass
from ..core.context import Context
from ..folding.affine import F64, channel_axis
from .paired import PairedReplay

#: A layer with a bias.
Biased = Conv2d | ConvTranspose2d | Linear


@register_pass
@dataclass(frozen=True)
class CorrectBias(Pass):
    """Give each quantized layer the mean output per channel that it had before, layer after layer.

    layer(x, w, b)  ->  layer(x, w, b + E[y - y'])        y in the network without quantize/dequantize pairs, y' in the one with them,
                                                          in which the layers before are corrected already

    Rounding weights and clipping activations shifts means, and shifts add up over layers where noise averages out (Nagel et al., 1906.04721,
    section 4.2; here from calibration data). It runs between quantize and to-integer. samples: images used at most.
    """

    name = "correct-bias"
    keeps = "lossy"

    samples: int = 64

    def run(self, graph: Graph, ctx: Context) -> None:
        if not graph.find(Quantize):
            raise TersorError("the graph has no quantize/dequantize pairs: run correct-bias after quantize and before to-integer")
        if self.samples < 1:
            raise TersorError(f"samples must be at least 1, got {self.samples}")
        replay = PairedReplay(graph, ctx.need_calibration(self), ctx, self.name, self.samples)
        for op in replay.walk((Conv2d, ConvTranspose2d, Linear)):
            if isinstance(op.w.op, Dequantize):
                replay.replace_layer(op, op.rebuilt(b=corrected(op, replay)))
        for old, new in replay.put_in.items():
            graph.replace(old, new)
        graph.remove_dead()
        ctx.record(Counter({"corrected": len(replay.put_in)}))


def corrected(op: Biased, replay: PairedReplay) -> Const:
    """The bias plus the mean difference of the responses, as far as it is the same from image to image."""
    differences = []
    for i in range(replay.chunks):
        difference = (replay.original(op.out, i).double() - replay.current(op.out, i)).movedim(channel_axis(op), -1)
        differences.append(difference.reshape(len(difference), -1, difference.shape[-1]).mean(1).numpy())
    shift = significant(np.concatenate(differences))
    old: Op | None = None if op.b is None else op.b.op
    b = shift + old.array if isinstance(old, Const) else shift
    const = Const(b.astype(np.float32), loc=op.loc if old is None else old.loc)
    if op.b is not None:
        const.out.name = op.b.name
    return const


def significant(samples: F64) -> F64:
    """Means over images (images, channels), each shrunk by the share of its square that chance explains: m * max(0, 1 - (s^2 / n) / m^2)."""
    mean: F64 = samples.mean(0)
    if len(samples) < 2:
        return mean
    chance = samples.var(0, ddof=1) / len(samples)
    return mean * np.maximum(0, 1 - np.divide(chance, mean**2, out=np.ones_like(mean), where=mean != 0))
