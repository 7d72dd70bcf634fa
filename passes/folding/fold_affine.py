"""fold-affine: constant scales and shifts of channels moved into the weights of the layer before or after them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Const, Value
from ...ir.ops import Add, Conv2d, ConvTranspose2d, Div, Linear, Mul, Neg, Sub
from ...ir.rewrite import Refusal, Result, Trace, greedy, refuse, rewrite
from ..core.base import Pass, register_pass
from ..core.context import Context
from .affine import F64, Layer, array_of, channel_axis, constant, scale_input, scale_output

#: A shift this many times as large as any weight costs digits of the sum that it is added to.
LARGE_SHIFT = 2.0**16
#: Operators that scale or shift by a constant.
Affine = Add | Sub | Mul | Div | Neg


@register_pass
@dataclass(frozen=True)
class FoldAffine(Pass):
    """Fold multiplications and additions of constants, one number or one per channel, into layers.

    layer(x, w, b)*k + s    ->  layer(x, w*k, b*k + s)              conv2d, conv_transpose2d, linear
    layer(x*k + s, w, b)    ->  layer(x, w*k, b + sum(w*s))         a shift only where nothing is padded

    Such factors come from normalized inputs, layer scales and the scale-shifts of `fold-bn`. Products are taken in float64 and rounded once.
    """

    name = "fold-affine"
    keeps = "numeric"
    tolerance = 1e-5

    def run(self, graph: Graph, ctx: Context) -> None:
        ctx.record(fold_affine_constants(graph, ctx.why))


def fold_affine_constants(graph: Graph, why: Trace | None = None) -> Counter[str]:
    """Fold in place; returns the counts per pattern."""
    return greedy(graph, fold_affine, fold_affine_forward, why=why)


@rewrite
def fold_affine(op: Add | Sub | Mul | Div | Neg) -> Result:
    """layer(x, w, b)*k + s -> layer(x, w*k, b*k + s)   k, s constant numbers or one per output channel"""
    parts = scale_and_shift(op)
    if parts is None:
        return None
    x, k, s = parts
    match x.op:
        case Conv2d() | ConvTranspose2d() | Linear() as layer:
            if not x.single_use:
                return refuse(f"the result of {layer.name} [{layer.loc}] has other readers")
            channels = per_channel(op, layer, layer.out, k, s)
            if isinstance(channels, Refusal):
                return channels
            return refuse("the constant is so large that adding it rounds") if rounds(layer, *channels) else scale_output(layer, *channels)
    return None


@rewrite
def fold_affine_forward(layer: Conv2d | ConvTranspose2d | Linear) -> Result:
    """layer(x*k + s, w, b) -> layer(x, w*k, b + sum(w*s))   k, s constant numbers or one per input channel"""
    match layer.x.op:
        case Add() | Sub() | Mul() | Div() | Neg() as op:
            parts = scale_and_shift(op)
            if parts is None:
                return None
            x, k, s = parts
            if not op.out.single_use:
                return refuse(f"the result of {op.name} [{op.loc}] has other readers")
            channels = per_channel(op, layer, layer.x, k, s)
            folded = channels if isinstance(channels, Refusal) else scale_input(layer, *channels)
            return folded if isinstance(folded, Refusal) else folded.rebuilt(x=x)
    return None


def scale_and_shift(op: Affine) -> tuple[Value, F64, F64] | None:
    """x, k and s of `x*k + s`, where one operand is a constant and x is not."""
    one, zero = np.ones(()), np.zeros(())
    match op:
        case Neg(x=x) if x.type.is_float:
            return x, -one, zero
        case Neg():
            return None
        case Add(a=x, b=Value(op=Const()) as c) | Add(a=Value(op=Const()) as c, b=x):
            parts = x, one, array_of(c)
        case Mul(a=x, b=Value(op=Const()) as c) | Mul(a=Value(op=Const()) as c, b=x):
            parts = x, array_of(c), zero
        case Sub(a=x, b=Value(op=Const()) as c):
            parts = x, one, -array_of(c)
        case Sub(a=Value(op=Const()) as c, b=x):
            parts = x, -one, array_of(c)
        case Div(a=x, b=Value(op=Const()) as c):
            with np.errstate(divide="ignore"):
                parts = x, 1 / array_of(c), zero
        case _:
            return None
    return None if isinstance(parts[0].op, Const) or not parts[0].type.is_float else parts


def rounds(layer: Layer, k: F64, s: F64) -> bool:
    """Whether a shift is so large that adding it rounds the layer's results: (y + 2^23) - 2^23 rounds y, and must still do so."""
    return constant(layer.w) and bool(np.abs(s).max() > LARGE_SHIFT * np.abs(array_of(layer.w)).max() * np.abs(k).max())


def per_channel(op: Affine, layer: Layer, at: Value, k: F64, s: F64) -> tuple[F64, F64] | Refusal:
    """k and s as (C,) for the value `at` that the layer writes or reads."""
    if (op.out.shape != op.operands[0].shape and op.out.shape != op.operands[-1].shape) or op.out.shape != at.shape:
        return refuse("the constant changes the shape")
    axis = channel_axis(layer)
    channels = at.shape[axis]
    result = []
    for array in (k, s):
        shape = (1,) * (at.type.rank - array.ndim) + array.shape
        if any(size != 1 for i, size in enumerate(shape) if i != axis):
            return refuse(f"the constant of shape {list(array.shape)} is neither one number nor one per channel")
        result.append(np.broadcast_to(array.reshape(-1), (channels,)))
    return result[0], result[1]
