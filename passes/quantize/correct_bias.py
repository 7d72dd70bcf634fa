"""correct-bias: add to each bias the mean error that quantization causes in its output channel."""

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

#: Pixels of each image that the median is taken of, at most.
PIXELS = 256
#: A layer with a bias.
Biased = Conv2d | ConvTranspose2d | Linear


@register_pass
@dataclass(frozen=True)
class CorrectBias(Pass):
    """Correct the bias of each quantized layer for the shift of its outputs by quantization, layer after layer.

    layer(x, w, b)  ->  layer(x, w, b + m)      m: mean over images of the median over pixels of y - y', per channel

    y is the response in the network without quantize/dequantize pairs, y' in the one with them, whose earlier layers are already corrected.
    Rounding weights shifts whole channels, and shifts add up over layers where noise averages out (Nagel et al., 1906.04721, section 4.2, with
    means). The median ignores the large errors of a few clipped activations, which would move all other pixels with a mean. The part of m
    that chance explains is left out, too.

    Run it between quantize and to-integer. samples: images used at most.
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
            if isinstance(op, Biased) and isinstance(op.w.op, Dequantize):
                replay.replace_layer(op, op.rebuilt(b=corrected(op, replay)))
        for old, new in replay.put_in.items():
            graph.replace(old, new)
        graph.remove_dead()
        ctx.record(Counter({"corrected": len(replay.put_in)}))


def corrected(op: Biased, replay: PairedReplay) -> Const:
    """The bias plus the part of the responses' shift that is consistent across images."""
    differences = []
    for i in range(replay.chunks):
        difference = (replay.original(op.out, i).double() - replay.current(op.out, i)).movedim(channel_axis(op), -1)
        pixels = difference.reshape(len(difference), -1, difference.shape[-1])
        differences.append(pixels[:, :: -(-pixels.shape[1] // PIXELS)].quantile(0.5, dim=1).numpy())
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
    share: F64 = np.maximum(0, 1 - np.divide(chance, mean**2, out=np.ones_like(mean), where=mean != 0))
    return mean * share
