"""Rules that turn operators into elementwise ones."""

from __future__ import annotations

import numpy as np

from ....ir.op import Const, Op, Value
from ....ir.ops import (
    Add,
    BatchNorm,
    Conv2d,
    Div,
    Equal,
    Greater,
    GreaterEqual,
    LessEqual,
    LogicalNot,
    LogicalOr,
    Mul,
    NotEqual,
    Prelu,
    Reshape,
    Sqrt,
    Sub,
)
from ....ir.ops.elementwise import Binary
from ....ir.rewrite import Result, rewrite
from ...tile.moves import BroadcastPrelu


def per_channel(v: Value, rank: int) -> Op | Value:
    """(C,) as (1, C, 1, …) of a rank."""
    shape = (1, v.shape[0], *[1] * (rank - 2))
    return Const(v.op.array.reshape(shape), loc=v.op.loc) if isinstance(v.op, Const) else Reshape(v, shape, loc=v.op.loc if v.op else None)


@rewrite
def batch_norm_of_computed(bn: BatchNorm) -> Result:
    """batch_norm(x) -> (x - mean) * (gamma / sqrt(var + eps)) + beta   where a parameter is computed; each (1, C, 1, …)"""
    scale = Div(bn.gamma, Sqrt(Add(bn.var, Const(np.asarray(bn.eps, bn.x.type.dtype)))), loc=bn.loc)
    mean, k, beta = (per_channel(v, bn.x.type.rank) for v in (bn.mean, scale.out, bn.beta))
    return Add(Mul(Sub(bn.x, mean, loc=bn.loc), k, loc=bn.loc), beta, loc=bn.loc)


@rewrite
def prelu_by_channel(op: Prelu) -> Result:
    """prelu(x, w) -> x where x > 0, else w * x,   w (1, C, 1, …)"""
    return BroadcastPrelu(op.x, per_channel(op.w, max(op.x.type.rank, 2)) if op.x.type.rank > 1 else op.w, loc=op.loc)


@rewrite
def operands_of_full_rank(op: Binary) -> Result:
    """x + c -> x + reshape(c, [1, C, 1, 1])   where x is a feature map and c is (C, 1, 1), so that an epilogue can read it"""
    if op.out.type.rank != 4:
        return None
    for name in ("a", "b"):
        v = op.a if name == "a" else op.b
        if v.type.rank < 4 and v.type.size > 1:
            shape = (*[1] * (4 - v.type.rank), *v.shape)
            full: Op = Const(v.op.array.reshape(shape), loc=v.op.loc) if isinstance(v.op, Const) else Reshape(v, shape, loc=op.loc)
            return op.rebuilt(a=full.out if name == "a" else op.a, b=full.out if name == "b" else op.b)
    return None


@rewrite
def single_tap_depthwise(conv: Conv2d) -> Result:
    """conv2d(x, w, b; a filter of one tap for each channel) -> x * w + b,   each (1, C, 1, 1): it only moves memory, so it is better fused"""
    channels = conv.x.shape[1]
    if not (conv.groups == channels == conv.w.shape[0] and conv.kernel == conv.stride == (1, 1) and not any(conv.padding)):
        return None
    w = Const(conv.w.op.array.reshape(1, channels, 1, 1), loc=conv.loc) if isinstance(conv.w.op, Const) else Reshape(conv.w, (1, channels, 1, 1))
    scaled = Mul(conv.x, w, loc=conv.loc)
    return scaled if conv.b is None else Add(scaled, per_channel(conv.b, 4), loc=conv.loc)


@rewrite
def compared_with_itself(op: NotEqual | Equal | LessEqual | GreaterEqual) -> Result:
    """x != x -> not (x <= 0 or x > 0),   x == x -> x <= 0 or x > 0   for floats: TVM simplifies x == x to true, but nan is not equal to itself"""
    if op.a is not op.b or not op.a.type.is_float:
        return None
    zero = Const(np.zeros((), op.a.type.dtype), loc=op.loc)
    number = LogicalOr(LessEqual(op.a, zero, loc=op.loc), Greater(op.a, zero, loc=op.loc), loc=op.loc)
    return LogicalNot(number, loc=op.loc) if isinstance(op, NotEqual) else number


RULES = (compared_with_itself, single_tap_depthwise, batch_norm_of_computed, prelu_by_channel, operands_of_full_rank)
