"""Depthwise convolution with strides, of a feature map that L2 does not hold: its rows are read one after the other, and the weights of a channel
block stay in registers. On a Zen 4, 83 GFLOP/s instead of 66 and 65 for 32 and 96 channels of 112 x 112 pixels (bench/kernels.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from ....codegen.builder import Expr, const
from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.fusion import Fusion
from ....tile.ops import TileConv2d
from ...template import Params, kernel
from ..chunks import chunks_of_rows
from ..sliding import Element, Sliding, beyond_l2
from .depthwise import BUSY, Depthwise, depthwise_cycles
from .template import conv_window

#: Cycles relative to those of the plain template: on a Zen 4 it takes 0.7 to 0.9 of the time for feature maps that L2 does not hold, and about as
#: long for others, for which the plain one is preferred.
STREAMED, HELD = 0.85, 1.05
#: Registers besides those of the weights: the bias, a sum and an input vector.
OTHERS = 3


@kernel(TileConv2d)
class StreamedDepthwise(Depthwise):
    name = "streamed_depthwise"
    strided_batch = True
    masked_stores = True
    row_partitioned = Depthwise.row_partitioned

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        if not super().accepts(fusion, target):
            return False
        g = conv_window(fusion)
        return g.sh > 1 and g.kh * g.kw < BUSY * g.sh * g.sw and g.kh * g.kw + OTHERS <= target.registers

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        return [{"chunk": params["chunk"]} for params in super().candidates(fusion, target, threads)]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        g = conv_window(fusion)
        return depthwise_cycles(g) * (STREAMED if beyond_l2(g, target) else HELD)

    def emit(self, k: KernelBuilder) -> None:
        g, b, op = conv_window(k.fusion), k.b, k.anchor
        with chunks_of_rows(k, g) as chunk:

            def weight(r: Expr, s: int) -> Expr:
                return b.let("w", b.load(k.args[op.w], ((chunk.block * g.kh + r) * g.kw + s) * g.lanes, g.lanes))

            bias = const(0.0, lanes=g.lanes) if op.b is None else b.let("bias", b.load(k.args[op.b], chunk.block * g.lanes, g.lanes))
            weights = [[weight(r, s) for s in range(g.kw)] for r in range(g.kh)]

            def add(columns: Sequence[Sequence[Element]], before: Expr | None) -> Expr:
                total = bias if before is None else before
                for column in columns:
                    for r, s, x in column:
                        total = b.value(total + x * (weights[r][s] if isinstance(r, int) else weight(r, s)))
                return total

            Sliding(k, g, beyond_l2(g, k.target), bias, add).rows(chunk)
