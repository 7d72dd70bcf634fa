"""fold-bn: batch norms moved into the weights of the layer before or after them, or left as a scale and a shift."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import Add, BatchNorm, Conv2d, ConvTranspose2d, Linear, Mul
from ...ir.rewrite import Refusal, Result, Trace, greedy, refuse, rewrite
from ...ir.types import storage_elem
from ..core.base import Pass, register_pass
from ..core.context import Context
from .affine import F64, array_of, channel_axis, constant, held, rounded, scale_input, scale_output


@register_pass
@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """Fold batch norms into convolutions, transposed convolutions and linear layers.

    batch_norm(conv(x, w, b))  ->  conv(x, w*k, (b - mean)*k + beta),         k = gamma / sqrt(var + eps)
    conv(batch_norm(x), w, b)  ->  conv(x, w*k, b + sum(w*(beta - mean*k)))   no padding, or nothing to shift
    batch_norm(x)              ->  x*k + (beta - mean*k)                      where there is nothing to fold into

    k is computed in float64 and the weights are rounded once. A layer whose result has other readers keeps its weights, and shared
    weights are copied (Jacob et al., 1712.05877, section 3.2; Ioffe and Szegedy, 1502.03167).
    """

    name = "fold-bn"
    keeps = "numeric"
    tolerance = 1e-5

    def run(self, graph: Graph, ctx: Context) -> None:
        ctx.record(fold_batch_norms(graph, ctx.why))


def fold_batch_norms(graph: Graph, why: Trace | None = None) -> Counter[str]:
    """Fold in place; norms become scale-shifts only once no more can fold. Returns the counts per pattern."""
    return greedy(graph, fold_bn, fold_bn_forward, why=why) + greedy(graph, bn_to_scale_shift, why=why)


@rewrite
def fold_bn(bn: BatchNorm) -> Result:
    """batch_norm(conv(x, w, b)) -> conv(x, w*k, (b - mean)*k + beta),   k = gamma / sqrt(var + eps)"""
    match bn.x.op:
        case Conv2d() | ConvTranspose2d() | Linear() as layer:
            if channel_axis(layer) != 1:
                return refuse("the linear layer's features are its last axis, the norm's channels axis 1")
            if not layer.out.single_use:
                return refuse(f"the result of {layer.name} [{layer.loc}] has other readers")
            affine = scale_and_shift(bn)
            return affine if isinstance(affine, Refusal) else scale_output(layer, *affine)
    return None


@rewrite
def fold_bn_forward(layer: Conv2d | ConvTranspose2d | Linear) -> Result:
    """conv(batch_norm(x), w, b) -> conv(x, w*k, b + sum(w*(beta - mean*k)))   where nothing is padded, or nothing shifted"""
    match layer.x.op:
        case BatchNorm() as bn:
            if channel_axis(layer) != 1:
                return refuse("the linear layer's features are its last axis, the norm's channels axis 1")
            if not bn.out.single_use:
                return refuse("the norm has other readers")
            affine = scale_and_shift(bn)
            if isinstance(affine, Refusal):
                return affine
            folded = scale_input(layer, *affine)
            return folded if isinstance(folded, Refusal) else folded.rebuilt(x=bn.x)
    return None


@rewrite
def bn_to_scale_shift(bn: BatchNorm) -> Op | Refusal:
    """batch_norm(x) -> x*k + (beta - mean*k),   k = gamma / sqrt(var + eps), both of shape (1, C, 1, ...)"""
    affine = scale_and_shift(bn)
    if isinstance(affine, Refusal):
        return affine
    elem = storage_elem(bn.x.type.elem)
    if not held(affine[0].reshape(-1, 1), elem, affine[1]) or not np.isfinite(rounded(affine[1], elem)).all():
        return refuse(f"{elem} cannot hold the norm's scale or shift")
    k, shift = (_per_channel(bn, value) for value in affine)
    return Add(Mul(bn.x, k, loc=bn.loc), shift, loc=bn.loc)


def scale_and_shift(bn: BatchNorm) -> tuple[F64, F64] | Refusal:
    """k and beta - mean*k, in float64."""
    operands: dict[str, Value] = {"gamma": bn.gamma, "beta": bn.beta, "mean": bn.mean, "var": bn.var}
    for name, value in operands.items():
        if not constant(value):
            return refuse(f"{name} of the norm is not constant")
    gamma, beta, mean, var = map(array_of, operands.values())
    if not (var + bn.eps > 0).all():
        return refuse("var + eps of the norm is not positive")
    k = gamma / np.sqrt(var + bn.eps)
    return k, beta - mean * k


def _per_channel(bn: BatchNorm, values: F64) -> Const:
    return Const(values.reshape(1, -1, *[1] * (bn.x.type.rank - 2)).astype(bn.x.type.dtype), loc=bn.loc)
