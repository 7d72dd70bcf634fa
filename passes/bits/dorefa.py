"""dorefa: weights, activations and gradients of k bits."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from ...ir.graph import Graph
from ...ir.op import Op
from ...ir.ops import BatchNorm, DorefaWeight, QuantizeActivation, QuantizeGradient
from ..core.base import register_pass
from ..core.context import Context
from .layers import FewBits, FewBitsPass, Layer, name_of


@register_pass
@dataclass(frozen=True)
class Dorefa(FewBitsPass):
    """Give layers weights of w bits, inputs of a bits and gradients of g bits. Training has to follow: `dorefa{w=1 a=2},finetune`.

    conv(x, w, b)  ->  gradient_g(conv(quantize_a(clip(x, 0, 1)), weight_w(w), b)),   quantize_k(r) = round((2^k - 1) r) / (2^k - 1)

    weight_k is 2 quantize_k(tanh w / (2 max |tanh w|) + 1/2) - 1, with one bit mean |w| sign(w). gradient_k is the identity for values;
    to gradients it adds noise and rounds them to few levels. Gradients pass straight through other rounding; the float weights stay, and
    training changes them. The largest weight becomes 1, so a batch norm should follow each layer: run it before fold-bn.

    w, a, g: bits from 1 to 8; without a, inputs stay as they are; without g, gradients do. ends: the first and the last layers too.
    exclude: module paths that stay. (Zhou et al., 1606.06160.)
    """

    name = "dorefa"
    keeps = "lossy"

    w: int = 1
    a: int | None = 2
    g: int | None = None

    def run(self, graph: Graph, ctx: Context) -> None:
        unscaled: list[str] = []

        def change(layer: Layer) -> FewBits:
            options = self.at(layer)
            if options.w > 1 and not any(isinstance(user, BatchNorm) for user in layer.out.users):
                unscaled.append(name_of(layer))
            return options.change(graph, layer)

        self.each_layer(graph, ctx, change)
        if unscaled:
            warnings.warn(
                f"dorefa: no batch norm follows {', '.join(unscaled[:5])}{', …' if len(unscaled) > 5 else ''}, so nothing takes up the scale of "
                "the new weights: run dorefa before fold-bn",
                stacklevel=2,
            )

    def change(self, graph: Graph, layer: Layer) -> FewBits:
        """Replace a layer by its form of few bits."""
        x = layer.x if self.a is None else QuantizeActivation(layer.x, self.a, loc=layer.loc)
        new: Op = layer.rebuilt(x=x, w=DorefaWeight(layer.w, self.w, loc=layer.loc))
        graph.replace(layer, new if self.g is None else QuantizeGradient(new, self.g, loc=layer.loc))
        return FewBits(name_of(layer), _bits(self.w), "float" if self.a is None else _bits(self.a))


def _bits(count: int) -> str:
    return "1 bit" if count == 1 else f"{count} bits"
