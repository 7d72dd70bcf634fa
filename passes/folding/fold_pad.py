"""fold-pad: explicit zero padding moved into the geometry of the operator that reads it."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.graph import Graph
from ...ir.ops import AvgPool2d, Conv2d, Pad
from ...ir.rewrite import Refusal, Result, refuse, rewrite
from ..core.base import Pass, register_pass
from ..core.context import Context


@register_pass
@dataclass(frozen=True)
class FoldPad(Pass):
    """Fold zero padding of height and width into convolutions and average pools.

    conv(pad(x, p), padding=q)      ->  conv(x, padding=p + q)
    avg_pool(pad(x, p), padding=0)  ->  avg_pool(x, padding=p, count_include_pad=true)

    The same sums; only their order may differ, so it is numeric. Such pads are how frameworks write "same" and asymmetric padding.
    """

    name = "fold-pad"
    keeps = "numeric"

    def run(self, graph: Graph, ctx: Context) -> None:
        ctx.greedy(graph, pad_into_conv, pad_into_avg_pool)


@rewrite
def pad_into_conv(conv: Conv2d) -> Result:
    """conv(pad(x, p), padding=q) -> conv(x, padding=p + q)"""
    match conv.x.op:
        case Pad() as pad:
            sides = zero_padding(pad)
            if isinstance(sides, Refusal):
                return sides
            t, b, le, r = (p + q for p, q in zip(sides, conv.padding))
            return conv.rebuilt(x=pad.x, padding=(t, b, le, r))
    return None


@rewrite
def pad_into_avg_pool(pool: AvgPool2d) -> Result:
    """avg_pool(pad(x, p), padding=0) -> avg_pool(x, padding=p, count_include_pad=true)"""
    match pool.x.op:
        case Pad() as pad:
            sides = zero_padding(pad)
            if isinstance(sides, Refusal):
                return sides
            if any(pool.padding) or pool.ceil_mode:
                return refuse("the pool pads already or rounds its size up, so it counts its windows otherwise")
            if any(side >= pool.kernel[i // 2] for i, side in enumerate(sides)):
                return refuse("a window would lie in the padding alone")
            return pool.rebuilt(x=pad.x, padding=sides, count_include_pad=True)
    return None


def zero_padding(pad: Pad) -> tuple[int, int, int, int] | Refusal:
    """(top, bottom, left, right) of a pad that adds zeros to the last two axes and nothing else."""
    if pad.mode != "constant" or pad.value != 0:
        return refuse(f"the pad is filled by {pad.mode} {pad.value}, not by zeros")
    if any(pad.pads[:-4]) or min(pad.pads) < 0:
        return refuse(f"the pad {list(pad.pads)} crops or touches batch or channels")
    top, bottom, left, right = pad.pads[-4:]
    return top, bottom, left, right
