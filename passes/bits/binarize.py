"""binarize: weights of two values, and with `activations` inputs of two values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import Abs, Add, AvgPool2d, BatchNorm, BinarizeWeight, Clip, Conv2d, MaxPool2d, Mean, Mul, Relu, Reshape, Sign
from ..core.base import register_pass
from ..core.context import Context
from .layers import FewBits, FewBitsPass, Layer, name_of


@register_pass
@dataclass(frozen=True)
class Binarize(FewBitsPass):
    """Give layers weights +-alpha per filter; with activations=true inputs +-1 as well. Training has to follow: `binarize,finetune`.

    conv(x, w, b)        ->  conv(x, alpha sign(w), b),                      alpha = mean |w| of each filter       (BWN)
    conv(relu(n), w, b)  ->  conv(sign(n), alpha sign(w)) * K + b,           n = batch_norm(...)                    (XNOR-Net)
                             K = mean over channels of |n|, averaged over each window of the convolution

    The float weights stay, and training changes them; gradients pass straight through the sign, for inputs where |n| <= 1. All signs are equal
    after a ReLU, so the sign is taken before it. Where there is no batch norm a new one is inserted (mean 0, variance 1 until it is trained
    or recalibrated: BN -> sign -> conv). Padding counts as 0, so it adds nothing to a sum of +-1.

    activations: binarize inputs too. input_scale: multiply by K. insert_norm: insert a batch norm where there is none; without, the sign is
    taken of the layer's input as it is, as in Bi-Real Net, where it is a sum (Liu et al., 1808.00278). ends: the first and the last layers
    too. exclude: module paths that stay.
    (Rastegari et al., 1603.05279.)
    """

    name = "binarize"
    keeps = "lossy"

    activations: bool = False
    input_scale: bool = True
    insert_norm: bool = True

    def run(self, graph: Graph, ctx: Context) -> None:
        self.each_layer(graph, ctx, lambda layer: self.at(layer).change(graph, layer))

    def change(self, graph: Graph, layer: Layer) -> FewBits:
        """Replace a layer by its form of few bits."""
        if not self.activations:
            graph.replace(layer, layer.rebuilt(w=BinarizeWeight(layer.w, loc=layer.loc)))
            return FewBits(name_of(layer), "binary", "float")
        if why := _not_binary(layer, self.input_scale):
            return FewBits(name_of(layer), "float", "float", why)
        graph.replace(layer, self._xnor(layer))
        return FewBits(name_of(layer), "binary", "binary")

    def _xnor(self, layer: Layer) -> Op:
        """conv(sign(n), alpha sign(w)) * K + b"""
        n = normalized(layer, self.insert_norm)
        y: Op = layer.rebuilt(x=Sign(n, loc=layer.loc), w=BinarizeWeight(layer.w, loc=layer.loc), b=None)
        if self.input_scale:
            y = Mul(y, input_scale(layer, n), loc=layer.loc)
        if layer.b is None:
            return y
        column = (layer.b.shape[0], 1, 1) if isinstance(layer, Conv2d) else layer.b.shape
        return Add(y, Reshape(layer.b, column, loc=layer.loc), loc=layer.loc)


def _not_binary(layer: Layer, input_scale: bool) -> str:
    """Why a layer's inputs cannot be binarized; empty where they can. input_scale: they have the scale K."""
    if layer.x.type.rank < 2:
        return "its input has no batch"
    if not isinstance(layer, Conv2d):
        return "" if layer.x.type.rank == 2 else "its input is no matrix, so that its features are not channels of a batch norm"
    if not input_scale:
        return ""
    if layer.groups > 1:
        return "it is grouped: the scale of the inputs is defined over all channels"
    if layer.dilation != (1, 1) or any(p >= layer.kernel[i // 2] for i, p in enumerate(layer.padding)):
        return "the scale of the inputs is an average over the window, which must not be dilated or padded by its whole size"
    return ""


def normalized(layer: Layer, insert: bool = True) -> Value:
    """The batch norm whose result goes into the layer, through no more than a max pooling once the ReLU is left out; else a new one, or, without
    `insert`, the layer's input."""
    x = without_relu(layer.x)
    pool = x.op
    if isinstance(pool, MaxPool2d):
        inner = without_relu(pool.x)
        x = x if inner is pool.x else pool.rebuilt(x=inner).out
    elif isinstance(x.op, BatchNorm):
        return x
    return _new_norm(layer, x) if insert else layer.x


def without_relu(x: Value) -> Value:
    """The input of a ReLU, or of a clip with lower bound 0; any other value as it is."""
    relu = isinstance(x.op, Relu) or (isinstance(x.op, Clip) and x.op.min == 0)
    return x.op.operands[0] if relu and x.op is not None else x


def _new_norm(layer: Layer, x: Value) -> Value:
    channels, dtype = x.shape[1], x.type.dtype
    gamma, beta, mean, var = (Const(np.full(channels, value, dtype), loc=layer.loc) for value in (1, 0, 0, 1))
    for const, name in ((gamma, "gamma"), (beta, "beta"), (mean, "mean"), (var, "var")):
        const.out.name = f"{name_of(layer)}.norm.{name}"
    return BatchNorm(x, gamma, beta, mean, var, loc=layer.loc).out


def input_scale(layer: Layer, n: Value) -> Op:
    """K: mean |n| over channels, averaged over each window, padded with zeros; for a linear layer the mean over its features."""
    size = Mean(Abs(n, loc=layer.loc), (1,), True, loc=layer.loc)
    return AvgPool2d(size, layer.kernel, layer.stride, layer.padding, loc=layer.loc) if isinstance(layer, Conv2d) else size
