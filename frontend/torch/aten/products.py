"""Matrix products and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import Add, IndexSelect, Linear, Matmul, Mul, NotEqual, ReduceMax, Softmax, Sum, Transpose, Where
from ...call import Call, Number
from ...registry import converter


@converter("aten.linear.default")
def linear(call: Call, x: Value, w: Value, b: Value | None = None) -> Op | Value:
    if w.type.rank == 1:
        y = matmul(call, x, w)
        return y if b is None else Add(y, b)
    if not x.type.is_float:
        y = product(call, x, Transpose(w, (1, 0)).out)
        return y if b is None else Add(y, b)
    return Linear(x, w, b)


@converter("aten.addmm.default", "aten.baddbmm.default", "aten.addbmm.default")
def addmm(call: Call, bias: Value, a: Value, b: Value, *, beta: Number = 1, alpha: Number = 1) -> Op | Value:
    """beta * bias + alpha * a @ b, without the bias, NaN and all, where beta is 0; a linear layer when b is a transposed weight."""
    if beta == alpha == 1 and bias.type.rank == 1 and bias.type.is_float and isinstance(b.op, Transpose) and b.op.perm == (1, 0):
        return Linear(a, b.op.x, bias)
    y = product(call, a, b)
    if call.target == "aten.addbmm.default":
        y = Sum(y, (0,)).out
    if alpha != 1:
        y = Mul(y, call.cast(alpha, call.elem)).out
    if beta == 0:
        return call.expand(y, call.dims(y), call.shape)
    if beta != 1:
        bias = Mul(bias, call.cast(beta, call.elem)).out
    return Add(y, bias)


@converter("aten.mm.default", "aten.bmm.default", "aten._int_mm.default")
def mm(call: Call, a: Value, b: Value) -> Value:
    return product(call, a, b)


#: Integer products that no float type holds exactly are expanded element by element, up to this many multiplications.
WRITTEN_OUT = 1 << 24


def product(call: Call, a: Value, b: Value) -> Value:
    """a @ b. Integers of up to 16 bits are exact in f64; others are multiplied and summed one by one, and wrap."""
    if a.type.is_float:
        return Matmul(a, b).out
    if {str(a.type.elem), str(b.type.elem)} <= {"bool", "i8", "u8", "i16"} and a.shape[-1] < 1 << 20:
        return call.cast(Matmul(call.cast(a, "f64"), call.cast(b, "f64")), call.elem)
    rows, columns = call.reshape(a, (*call.dims(a), 1)), call.reshape(b, (*call.dims(b)[:-2], 1, *b.shape[-2:]))
    count = math.prod(np.broadcast_shapes(rows.shape, columns.shape))
    if count > WRITTEN_OUT:
        raise call.unsupported(f"a product of {a.type.elem} matrices with {count} multiplications; valid: at most {WRITTEN_OUT}, or floats")
    terms = Mul(call.cast(rows, "i64"), call.cast(columns, "i64")).out
    return call.cast(Sum(terms, (terms.type.rank - 2,)), call.elem)


@converter("aten.matmul.default", "aten.mv.default", "aten.dot.default")
def matmul(call: Call, a: Value, b: Value) -> Op | Value:
    """A vector is a row on the left and a column on the right, and its dimension disappears from the result."""
    left = call.reshape(a, (1, *call.dims(a))) if a.type.rank == 1 else a
    right = call.reshape(b, (*call.dims(b), 1)) if b.type.rank == 1 else b
    if a.type.rank > 1 and b.type.rank > 1:
        return product(call, a, b)
    return call.reshape(product(call, left, right), call.shape)


@converter("aten._trilinear.default")
def trilinear(
    call: Call,
    a: Value,
    b: Value,
    c: Value,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    sumdim: Sequence[int],
    unroll: int = 1,
) -> Value:
    """The sum over some axes of a product of three tensors, each given new axes of size 1."""
    factors = []
    for x, axes in ((a, expand1), (b, expand2), (c, expand3)):
        dims = list(call.dims(x))
        for axis in sorted(axes):
            dims.insert(axis, 1)
        factors.append(call.reshape(x, dims))
    return Sum(Mul(Mul(factors[0], factors[1]), factors[2]), tuple(sorted(sumdim))).out


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
        # each head of keys and values serves several heads of the query
        k, v = (_heads(call, q, x) for x in (k, v))
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


def _heads(call: Call, q: Value, x: Value) -> Value:
    """x with each head repeated, so that it has as many as the query."""
    axis = x.type.rank - 3
    have, wanted = call.static(x, axis), call.static(q, q.type.rank - 3)
    return x if have == wanted else IndexSelect(x, call.const(np.arange(wanted) // (wanted // have), "i64"), axis).out


def _any_left(call: Call, mask: Value) -> Value | None:
    """Whether a row of the mask leaves anything, (..., L, 1); None where that is known of every row."""
    lowest = call.cast(-math.inf, str(mask.type.elem))
    array = call.constant(mask)
    if array is not None and (array if mask.type.elem == "bool" else array != -math.inf).any(-1).all():
        return None
    largest = ReduceMax(mask, (mask.type.rank - 1,), True).out
    return largest if mask.type.elem == "bool" else NotEqual(largest, lowest).out
