"""to-integer: a network with quantize/dequantize pairs as a network of integer operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.ops import Dequantize
from ..core.base import Pass, register_pass
from ..core.context import Context
from ..precision import Precision
from .patterns import patterns
from .qat import SETTLE


@register_pass
@dataclass(frozen=True)
class ToInteger(Pass):
    """Translate operators between dequantize and quantize to integer ones. The pairs decide every rounding; nothing else changes.

    q(relu(conv2d(dq(x), dq(q(w)), b)))  ->  requantize(quant.conv2d(x, w_i8, b_i32)){low = Z}
    q(add(conv2d(dq(x), …), dq(y)))      ->  quant.add(quant.conv2d(x, …), y)
    q(silu(dq(x)))                       ->  lookup(x, table)
    fake(x, low, high)                   ->  dq(q(x))                     first, after training (`quantize{qat=true}`)

    Biases become i32 with scale S_x S_w. rounding: f32 (halves to even) or fixed (integers only, halves up). Operators that stay float are in
    the row's `layers`, with the reason (Jacob et al., 1712.05877, section 2).
    """

    name = "to-integer"
    keeps = "lossy"

    rounding: Literal["f32", "fixed"] = "f32"

    def run(self, graph: Graph, ctx: Context) -> None:
        ctx.greedy(graph, *SETTLE)
        if not graph.find(Dequantize):
            raise TersorError("the graph has no quantize/dequantize pairs: run quantize first")
        ctx.greedy(graph, *patterns(self.rounding))
        graph.remove_dead()
        ctx.layers = Precision.of(graph).rows
