"""adaround: round each weight up or down so as to keep the layer's response, instead of to the nearest integer."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Const, Op
from ...ir.ops import Conv2d, Dequantize, Linear, Quantize
from ...ir.types import Uniform
from ..core.base import Pass, register_pass
from ..core.context import Context
from ..folding.affine import F64, array_of
from ..reconstruct.moments import Moments, penalty_of
from ..reconstruct.rows import MOST_UNKNOWNS, array_of_weights, gather, pixels, weights_of
from .paired import PairedReplay
from .weights import scale_axis

#: Responses per unknown.
ROWS = 4
#: Coordinates between two updates of all gradients.
BLOCK = 64
#: Sweeps over all weights at most.
SWEEPS = 8


@register_pass
@dataclass(frozen=True)
class AdaRound(Pass):
    """Choose for each weight whether it is rounded up or down, layer after layer, by the layer's response on calibration data.

    dequantize(round(w / S))  ->  dequantize(q)
    min over q in {floor(w/S), ceil(w/S)}   E |w x - b - (S q) x'|^2 + ridge |S q - w|^2        and the bias that goes with it

    x is the layer's input in the network without pairs, x' that in the network with pairs, whose earlier layers are already rounded. The
    problem is quadratic in q (Nagel et al., 2004.10568, section 3). Instead of their relaxation, coordinate descent starts at the nearest
    integers and flips one weight at a time while that lowers the error, on the second moments of x'. So on the data a layer is never worse
    than with nearest rounding.

    Run it instead of correct-bias, between quantize and to-integer. Transposed convolutions keep nearest rounding. samples: images used at most.
    ridge: weight of the distance from w, relative to the mean square of each input.
    """

    name = "adaround"
    keeps = "lossy"

    samples: int = 256
    ridge: float = 1e-2

    def run(self, graph: Graph, ctx: Context) -> None:
        if not graph.find(Quantize):
            raise TersorError("the graph has no quantize/dequantize pairs: run adaround after quantize and before to-integer")
        if self.samples < 1 or not self.ridge > 0:
            raise TersorError(f"samples must be at least 1 and ridge above 0, got {self.samples} and {self.ridge:g}")
        rng, flipped = ctx.rng, 0
        replay = PairedReplay(graph, ctx.need_calibration(self), ctx, self.name, self.samples)
        for op in replay.walk((Conv2d, Linear)):
            if not isinstance(op, Conv2d | Linear):
                continue
            unknowns = math.prod(op.w.shape[1:])
            if isinstance(op.w.op, Dequantize) and isinstance(op.w.op.x.op, Quantize) and unknowns <= MOST_UNKNOWNS:
                per_image = min(pixels(op), max(10, -(-ROWS * unknowns // replay.images)))
                new, count = rounded(op, gather(replay, op, op, rng, per_image, residual=False), self.ridge)
                replay.replace_layer(op, new)
                flipped += count
        for old, new in replay.put_in.items():
            graph.replace(old, new)
        graph.remove_dead()
        ctx.record(Counter({"rounded": len(replay.put_in), "flipped": flipped}))


def rounded(op: Conv2d | Linear, moments: list[Moments], ridge: float) -> tuple[Op, int]:
    """The layer with rounded weights and a new bias, and how many weights are not rounded to the nearest number."""
    assert isinstance(op.w.op, Dequantize) and isinstance(op.w.op.x.op, Quantize)
    quantize = op.w.op.x.op
    assert scale_axis(op) == 0 and isinstance(quantize.x.op, Const)
    scales = np.array(quantize.to.scales, np.float64)
    parts, biases, flipped = [], [], 0
    groups = zip(weights_of(op, array_of(quantize.x)), np.split(np.broadcast_to(scales, op.w.shape[:1]), len(moments)), moments, strict=True)
    for w, s, m in groups:
        q, count = descend(w / s, s, m, quantize.to, ridge)
        parts.append(q * s)
        biases.append((m.y - m.x @ parts[-1]) / max(m.rows, 1))
        flipped += count
    array = array_of_weights(op, parts, op.w.shape).astype(np.float32)
    const = Const(array, loc=quantize.x.op.loc)
    bias = Const(np.concatenate(biases).astype(np.float32), loc=op.loc if op.b is None or op.b.op is None else op.b.op.loc)
    const.out.name, bias.out.name = quantize.x.name, "" if op.b is None else op.b.name
    return op.rebuilt(w=Dequantize(Quantize(const, quantize.to, loc=op.loc), loc=op.loc), b=bias), flipped


def descend(real: F64, s: F64, m: Moments, elem: Uniform, ridge: float) -> tuple[F64, int]:
    """Integers (k, m) for weights real * s (k, m), each the next below or above, and how many are not the nearest ones."""
    low, high = elem.range
    below = np.clip(np.floor(real), low, high)
    above = np.clip(np.ceil(real), low, high)
    nearest = np.clip(np.rint(real), low, high)
    g = m.covariance()
    penalty = penalty_of(np.diag(g), ridge)
    g[np.diag_indices_from(g)] += penalty
    wanted = m.cross() + penalty[:, None] * real * s
    q = nearest.copy()
    for _ in range(SWEEPS):
        gradient = g @ (q * s) - wanted
        changed = 0
        for start in range(0, len(q), BLOCK):
            block = slice(start, min(start + BLOCK, len(q)))
            moved = _sweep(q[block], below[block], above[block], s, g[block, block], gradient[block])
            changed += int((moved != 0).sum())
            gradient += g[:, block] @ moved
        if not changed:
            break
    return q, int((q != nearest).sum())


def _sweep(q: F64, below: F64, above: F64, s: F64, g: F64, gradient: F64) -> F64:
    """Flip weights of a block in place, row by row, wherever that lowers the error; returns the change of the weights."""
    moved = np.zeros_like(q)
    gradient = gradient.copy()
    for j in range(len(q)):
        step = (below[j] + above[j] - 2 * q[j]) * s
        step = np.where(2 * step * gradient[j] + step * step * g[j, j] < 0, step, 0.0)
        q[j] += np.rint(step / s)
        moved[j] = step
        gradient += np.outer(g[:, j], step)
    return moved
