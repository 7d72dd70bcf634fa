"""Matrix products and attention."""

from __future__ import annotations

import math

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import Add, Linear, Matmul, Mul, NotEqual, ReduceMax, Softmax, Transpose, Where
from ...call import Call, Number
from ...registry import converter


@converter("aten.linear.default")
def linear(call: Call, x: Value, w: Value, b: Value | None = None) -> Op | Value:
    if w.type.rank == 1:
        product = matmul(call, x, w)
        return product if b is None else Add(product, b)
    return Linear(x, w, b)


@converter("aten.addmm.default", "aten.baddbmm.default", "aten.addbmm.default")
def addmm(call: Call, bias: Value, a: Value, b: Value, *, beta: Number = 1, alpha: Number = 1) -> Op | Value:
    """beta * bias + alpha * a @ b, without the bias, NaN and all, where beta is 0; a linear layer when b is a transposed weight."""
    if call.target == "aten.addbmm.default":
        raise call.unsupported("addbmm; write it as torch.bmm and sum")
    if beta == alpha == 1 and bias.type.rank == 1 and isinstance(b.op, Transpose) and b.op.perm == (1, 0):
        return Linear(a, b.op.x, bias)
    product = Matmul(a, b).out
    if alpha != 1:
        product = Mul(product, call.cast(alpha, call.elem)).out
    if beta == 0:
        return call.expand(product, call.dims(product), call.shape)
    if beta != 1:
        bias = Mul(bias, call.cast(beta, call.elem)).out
    return Add(product, bias)


@converter("aten.mm.default", "aten.bmm.default")
def mm(call: Call, a: Value, b: Value) -> Op:
    return Matmul(a, b)


@converter("aten.matmul.default", "aten.mv.default", "aten.dot.default")
def matmul(call: Call, a: Value, b: Value) -> Op | Value:
    """A vector is a row on the left and a column on the right, and its dimension disappears from the result."""
    left = call.reshape(a, (1, *call.dims(a))) if a.type.rank == 1 else a
    right = call.reshape(b, (*call.dims(b), 1)) if b.type.rank == 1 else b
    if a.type.rank > 1 and b.type.rank > 1:
        return Matmul(a, b)
    return call.reshape(Matmul(left, right), call.shape)


@converter("aten.scaled_dot_product_attention.default")
def attention(
    call: Call,
    q: Value,
    k: Value,
    v: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Op:
    """softmax(q @ k.T * scale + mask) @ v (1706.03762), and 0 in rows whose mask leaves nothing"""
    if dropout_p > 0:
        raise call.unsupported("attention with dropout; pass dropout_p=0 when not training")
    if enable_gqa:
        raise call.unsupported("attention with enable_gqa=True; repeat the keys and values to the heads of the query")
    rank, elem = k.type.rank, call.elem
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    transposed = Transpose(k, (*range(rank - 2), rank - 1, rank - 2))
    scores = Matmul(Mul(q, call.cast(factor, elem)), transposed).out
    if is_causal:
        allowed = np.tril(np.ones((call.static(q, q.type.rank - 2), call.static(k, rank - 2)), bool))
        scores = Where(call.const(allowed, "bool"), scores, call.const(-math.inf, elem)).out
    if attn_mask is not None and attn_mask.type.elem == "bool":
        scores = Where(attn_mask, scores, call.const(-math.inf, elem)).out
    elif attn_mask is not None:
        scores = Add(scores, call.cast(attn_mask, elem)).out
    result = Matmul(Softmax(scores, scores.type.rank - 1), v)
    some = None if attn_mask is None else _any_left(call, attn_mask)
    return result if some is None else Where(some, result, call.cast(0, elem))


def _any_left(call: Call, mask: Value) -> Value | None:
    """Whether a row of the mask leaves anything, (..., L, 1); None where that is known of every row."""
    lowest = call.cast(-math.inf, str(mask.type.elem))
    array = call.constant(mask)
    if array is not None and (array if mask.type.elem == "bool" else array != -math.inf).any(-1).all():
        return None
    largest = ReduceMax(mask, (mask.type.rank - 1,), True).out
    return largest if mask.type.elem == "bool" else NotEqual(largest, lowest).out
