"""equalize: give channels equal ranges, so that one scale fits them all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Op, Value
from ...ir.ops import BatchNorm, Conv2d, Relu
from ...ir.rewrite import Refusal
from ..core.base import Pass, register_pass
from ..core.context import Context
from ..folding.affine import F64, array_of, scale_input, scale_output
from .observe import watch
from .spaces import Space, spaces_of

if TYPE_CHECKING:
    import torch

#: Sweeps over all spaces until the ranges of weights agree.
SWEEPS = 20
#: Largest factor of a channel.
MOST = 64.0


@register_pass
@dataclass(frozen=True)
class Equalize(Pass):
    """Scale channels between convolutions, down where they are made and up where they are read, without changing the network's function.

    conv(relu(conv(x, w1, b1)), w2)  ->  conv(relu(conv(x, w1/s, b1/s)), w2*s)        s > 0 per channel: relu(t/s) = relu(t)/s

    The same holds through sums and pooling: all layers that read or write a residual stream are scaled together.

    by=activations: r1 is the largest activation of a channel on calibration data, so that one scale of activations fits all channels.
    by=weights: r1 is the largest weight that makes the channel, for weights with one scale per tensor; needs no data where there is no clip.
    s = sqrt(r1 r2) / r2, with r2 the largest weight that reads the channel; a depthwise reader has a scale per channel, so there s = r1 alone
    under by=activations.

    clip(x, 0, 6) is not homogeneous: channels that go through one are not scaled. by=weights turns a clip into a relu where on calibration
    data that changes less than `clip_share` of the energy. (Scaling channels up to a clip's bound lowers the SQNR: activations of other
    images exceed those of the calibration.)

    Run it on folded weights, before quantize (cross-layer equalization: Nagel et al., 1906.04721, section 4.1). samples: images used at most.
    """

    name = "equalize"
    keeps = "lossy"

    by: Literal["activations", "weights"] = "activations"
    clip_share: float = 1e-3
    samples: int = 64

    def run(self, graph: Graph, ctx: Context) -> None:
        if norms := graph.find(BatchNorm):
            raise TersorError(f"{norms[0].name} [{norms[0].loc}] is not folded: run fold-bn first")
        if self.by == "activations":
            spaces = [space for space in spaces_of(graph) if not space.clips]
            peaks = self._peaks(graph, spaces, ctx)
            scales = {space: by_activations(space, peaks) for space in spaces}
        else:
            self._remove_clips(graph, ctx)
            scales = by_weights([space for space in spaces_of(graph) if not space.clips])
        apply(graph, scales)
        ctx.record(Counter({"equalized": len(scales)} if scales else {}))

    def _peaks(self, graph: Graph, spaces: list[Space], ctx: Context) -> dict[Value, F64]:
        """The largest magnitude of each channel, by value."""
        peaks = {v: np.zeros(v.shape[1]) for space in spaces for v in space.values}

        def visit(v: Value, x: torch.Tensor) -> None:
            np.maximum(peaks[v], x.abs().amax((0, 2, 3)).double().numpy(), out=peaks[v])

        if peaks:
            watch(graph, peaks, visit, ctx.need_calibration(self), ctx, self.name, self.samples)
        return peaks

    def _remove_clips(self, graph: Graph, ctx: Context) -> None:
        """Turn the clips of spaces that cut little off into relus."""
        clips = {clip.x: clip for space in spaces_of(graph) for clip in space.clips}
        cut = {v: np.zeros(2) for v in clips}

        def visit(v: Value, x: torch.Tensor) -> None:
            relu = x.clamp(min=0).double()
            cut[v] += [float((relu - relu.clamp(max=clips[v].max)).square().sum()), float(relu.square().sum())]

        if clips:
            watch(graph, cut, visit, ctx.need_calibration(self), ctx, self.name, self.samples)
        for v, (lost, whole) in cut.items():
            if lost <= self.clip_share * whole:
                graph.replace(clips[v], Relu(v, loc=clips[v].loc))


# -- scales ------------------------------------------------------------------------------------


def by_activations(space: Space, peaks: dict[Value, F64]) -> F64:
    """s per channel, 1 for the channel with the largest range."""
    # inputs of convolutions and sums are rounded, each tensor with its own scale
    read = [v for v in space.values if any(reader.x is v for reader in space.readers)]
    r1 = np.max([peaks[v] / max(peaks[v].max(initial=0), 1e-30) for v in read], axis=0)
    live = r1 > 0
    s = r1 if all(op.depthwise for op in space.readers) else balanced(r1, relative_inputs(space))
    s = s * np.divide(r1, s, out=np.zeros_like(r1), where=live & (s > 0)).max(initial=0)
    return np.where(live, np.clip(s, 1 / MOST, MOST), 1.0)


def relative_inputs(space: Space) -> F64:
    """The largest weight that reads each channel, relative to the largest of its output channel."""
    found = []
    for op in space.readers:
        w = np.abs(array_of(op.w))
        found.append(inputs_of(op, w / np.maximum(w.reshape(len(w), -1).max(1), 1e-30).reshape(-1, 1, 1, 1)))
    result: F64 = np.max(found, axis=0)
    return result


def by_weights(spaces: list[Space]) -> dict[Space, F64]:
    """s per channel for all spaces together: each changes the ranges that the next one sees."""
    weights: dict[Op, F64] = {op: array_of(op.w) for space in spaces for op in (*space.producers, *space.readers)}
    total = {space: np.ones(space.channels) for space in spaces}
    for _ in range(SWEEPS):
        for space in spaces:
            r1 = np.max([np.abs(weights[op]).reshape(space.channels, -1).max(1) for op in space.producers], axis=0)
            r2 = np.max([inputs_of(op, np.abs(weights[op])) for op in space.readers], axis=0)
            s = np.clip(total[space] * balanced(r1, r2), 1 / MOST, MOST) / total[space]
            for op in space.producers:
                weights[op] = weights[op] / s.reshape(-1, 1, 1, 1)
            for op in space.readers:
                weights[op] = weights[op] * spread(op, s)
            total[space] = total[space] * s
    return total


def balanced(r1: F64, r2: F64) -> F64:
    """sqrt(r1 r2) / r2, 1 where one of them is 0."""
    live = (r1 > 0) & (r2 > 0)
    return np.sqrt(np.divide(r1, r2, out=np.ones_like(r1), where=live))


def inputs_of(conv: Conv2d, w: F64) -> F64:
    """The largest |w| (O, C/groups, kh, kw) that reads each input channel."""
    groups = w.reshape(conv.groups, -1, *w.shape[1:])
    result: F64 = groups.max(axis=(1, 3, 4)).reshape(-1)
    return result


def spread(conv: Conv2d, s: F64) -> F64:
    """s per input channel, shaped to multiply w."""
    rows = np.repeat(s.reshape(conv.groups, 1, -1), conv.w.shape[0] // conv.groups, axis=1)
    return rows.reshape(*conv.w.shape[:2], 1, 1)


def apply(graph: Graph, scales: dict[Space, F64]) -> None:
    """Divide the producers' weights by s and multiply the readers' by it; each layer is rebuilt once."""
    outputs = {op: s for space, s in scales.items() for op in space.producers}
    inputs = {op: s for space, s in scales.items() for op in space.readers}
    for op in [op for op in graph.ops if op in outputs or op in inputs]:
        assert isinstance(op, Conv2d)
        new: Op | Refusal = op
        if op in inputs:
            new = scale_input(op, inputs[op], np.zeros_like(inputs[op]))
        if op in outputs and isinstance(new, Conv2d):
            new = scale_output(new, 1 / outputs[op], np.zeros_like(outputs[op]))
        if isinstance(new, Refusal):
            raise TersorError(f"{op.name} [{op.loc}]: {new.reason}")
        graph.replace(op, new)
    graph.remove_dead()
