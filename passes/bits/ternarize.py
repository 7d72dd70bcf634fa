"""ternarize: weights of three values."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.ops import TernarizeWeight
from ..core.base import register_pass
from ..core.context import Context
from .layers import FewBits, FewBitsPass, Layer, name_of


@register_pass
@dataclass(frozen=True)
class Ternarize(FewBitsPass):
    """Give layers weights -alpha, 0, alpha per filter. Training has to follow: `ternarize,finetune`.

    conv(x, w, b)  ->  conv(x, alpha sign(w) [|w| > delta], b),   delta = threshold * mean |w|,   alpha = mean of |w| over |w| > delta

    The float weights stay, and training changes them; gradients pass straight through. threshold: 0.7 is near the best for weights with a
    normal or a uniform distribution. ends: the first and the last layers too. exclude: module paths that stay.
    (Li et al., 1605.04711.)
    """

    name = "ternarize"
    keeps = "lossy"

    threshold: float = 0.7

    def run(self, graph: Graph, ctx: Context) -> None:
        if self.threshold < 0:
            raise TersorError(f"threshold must be at least 0, got {self.threshold}")

        def change(layer: Layer) -> FewBits:
            graph.replace(layer, layer.rebuilt(w=TernarizeWeight(layer.w, self.at(layer).threshold, loc=layer.loc)))
            return FewBits(name_of(layer), "ternary", "float")

        self.each_layer(graph, ctx, change)
