"""Reductions over axes, extremes with their indices, and functions along one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ....ir.op import Op, Value
from ....ir.ops import (
    Abs,
    Add,
    ArgMax,
    ArgMin,
    Cast,
    Equal,
    Exp,
    Log,
    LogSoftmax,
    Mean,
    Mul,
    NotEqual,
    Pow,
    Prod,
    ReduceMax,
    ReduceMin,
    Softmax,
    Sqrt,
    Sub,
    Sum,
    Where,
)
from ...call import Call, Number, StaticBatchNeeded
from ...registry import converter

Dims = int | Sequence[int] | None


def axes_of(call: Call, x: Value, dim: Dims) -> tuple[int, ...]:
    """Ascending axes; None and an empty list mean all."""
    rank = x.type.rank
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(rank))
    return tuple(sorted({call.axis(d, rank) for d in ([dim] if isinstance(dim, int) else dim)})) if rank else ()


@converter("aten.mean.dim", "aten.mean.default")
def mean(call: Call, x: Value, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Op:
    return Mean(call.cast(x, call.elem), axes_of(call, x, dim), keepdim)


@converter("aten.sum.dim_IntList", "aten.sum.default")
def sum_(call: Call, x: Value, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    # integers add up in i64 whatever they are stored in; a float result of an integer tensor is added up as float
    x = call.cast(x, call.elem) if x.type.elem == "bool" or call.elem in ("f16", "bf16", "f32", "f64") else x
    return call.cast(Sum(x, axes_of(call, x, dim), keepdim), call.elem)


@converter("prims.sum.default", "prims.prod.default")
def reduced(call: Call, x: Value, dims: Dims = None, *, output_dtype: Any = None) -> Value:
    return sum_(call, x, dims) if "sum" in call.target else call.cast(prod(call, x, dims), call.elem)


@converter("aten.prod.dim_int", "aten.prod.default")
def prod(call: Call, x: Value, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Op:
    if call.elem == "bool":
        return all_(call, x, dim, keepdim)
    return Prod(call.cast(x, call.elem), axes_of(call, x, dim), keepdim)


@converter("aten.amax.default", "aten.max.default")
def amax(call: Call, x: Value, dim: Dims = None, keepdim: bool = False) -> Op:
    return ReduceMax(x, axes_of(call, x, dim), keepdim)


@converter("aten.amin.default", "aten.min.default")
def amin(call: Call, x: Value, dim: Dims = None, keepdim: bool = False) -> Op:
    return ReduceMin(x, axes_of(call, x, dim), keepdim)


@converter("aten.any.default", "aten.any.dim", "aten.any.dims")
def any_(call: Call, x: Value, dim: Dims = None, keepdim: bool = False) -> Op:
    return ReduceMax(call.truth(x), axes_of(call, x, dim), keepdim)


@converter("aten.all.default", "aten.all.dim", "aten.all.dims")
def all_(call: Call, x: Value, dim: Dims = None, keepdim: bool = False) -> Op:
    return ReduceMin(call.truth(x), axes_of(call, x, dim), keepdim)


@converter("aten.max.dim")
def max_dim(call: Call, x: Value, dim: int, keepdim: bool = False) -> list[Op]:
    axis = call.axis(dim, x.type.rank)
    return [ReduceMax(x, (axis,), keepdim), ArgMax(x, axis, keepdim)]


@converter("aten.min.dim")
def min_dim(call: Call, x: Value, dim: int, keepdim: bool = False) -> list[Op]:
    axis = call.axis(dim, x.type.rank)
    return [ReduceMin(x, (axis,), keepdim), ArgMin(x, axis, keepdim)]


@converter("aten.argmax.default")
def argmax(call: Call, x: Value, dim: int | None = None, keepdim: bool = False) -> Op | Value:
    return _place(call, ArgMax, x, dim, keepdim)


@converter("aten.argmin.default")
def argmin(call: Call, x: Value, dim: int | None = None, keepdim: bool = False) -> Op | Value:
    return _place(call, ArgMin, x, dim, keepdim)


def _place(call: Call, kind: type[Op], x: Value, dim: int | None, keepdim: bool) -> Op | Value:
    if dim is not None:
        return kind(x, call.axis(dim, x.type.rank), keepdim)
    flat = call.reshape(x, (-1,) if -1 in call.dims(x) else (x.type.size,))
    return call.reshape(kind(flat, 0), call.shape)


@converter("aten.softmax.int", "aten._softmax.default")
def softmax(call: Call, x: Value, dim: int, dtype: Any = None) -> Op:
    return Softmax(call.cast(x, call.elem), call.axis(dim, x.type.rank))


@converter("aten.log_softmax.int", "aten._log_softmax.default")
def log_softmax(call: Call, x: Value, dim: int, dtype: Any = None) -> Op:
    return LogSoftmax(call.cast(x, call.elem), call.axis(dim, x.type.rank))


@converter("aten._safe_softmax.default")
def safe_softmax(call: Call, x: Value, dim: int, dtype: Any = None) -> Op:
    """softmax(x), but 0 in rows of -inf alone"""
    x, axis = call.cast(x, call.elem), call.axis(dim, x.type.rank)
    masked = Equal(ReduceMax(x, (axis,), True), call.cast(-math.inf, call.elem))
    return Where(masked, call.cast(0, call.elem), Softmax(x, axis))


@converter("aten.logsumexp.default")
def logsumexp(call: Call, x: Value, dim: Dims, keepdim: bool = False) -> Op:
    """log(sum(exp(x - m))) + m with m the maximum, or 0 where that is infinite"""
    x = call.cast(x, call.elem)
    axes = axes_of(call, x, dim)

    def shift(keepdim: bool) -> Op:
        largest = ReduceMax(x, axes, keepdim)
        return Where(Equal(Abs(largest), call.cast(math.inf, call.elem)), call.cast(0, call.elem), largest)

    return Add(Log(Sum(Exp(Sub(x, shift(True))), axes, keepdim)), shift(keepdim))


@converter("aten.var.correction", "aten.var.dim", "aten.var.default")
def var(call: Call, x: Value, dim: Dims | bool = None, unbiased: bool = True, keepdim: bool = False, *, correction: Number | None = None) -> Op:
    """sum((x - mean)^2) / max(n - correction, 0)"""
    if isinstance(dim, bool):  # aten.var.default(x, unbiased)
        return var(call, x, None, dim, keepdim, correction=correction)
    axes = axes_of(call, x, dim)
    correction = int(unbiased) if correction is None else correction
    if correction and any(call.dims(x)[a] < 0 for a in axes):
        raise StaticBatchNeeded(f"{call.target} divides by the batch size less {correction} [{call.loc}]")
    n = math.prod(x.shape[a] for a in axes)
    centered = Sub(x, Mean(x, axes, True)).out
    biased = Mean(Mul(centered, centered), axes, keepdim)
    return biased if not correction else Mul(biased, call.cast(n / (n - correction) if n > correction else math.inf, call.elem))


@converter("aten.std.correction", "aten.std.dim", "aten.std.default")
def std(call: Call, x: Value, dim: Dims | bool = None, unbiased: bool = True, keepdim: bool = False, *, correction: Number | None = None) -> Op:
    return Sqrt(var(call, x, dim, unbiased, keepdim, correction=correction))


@converter("aten.var_mean.correction")
def var_mean(call: Call, x: Value, dim: Dims = None, *, correction: Number | None = None, keepdim: bool = False) -> list[Op]:
    return [var(call, x, dim, True, keepdim, correction=correction), Mean(x, axes_of(call, x, dim), keepdim)]


@converter("aten.linalg_vector_norm.default")
def vector_norm(call: Call, x: Value, ord: Number = 2, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Op:
    """(sum |x|^ord)^(1/ord), with the limits at 0 and at infinity"""
    x = call.cast(x, call.elem)
    axes = axes_of(call, x, dim)
    if ord == 2:
        return Sqrt(Sum(Mul(x, x), axes, keepdim))
    if ord == 0:
        return Sum(Cast(NotEqual(x, call.cast(0, call.elem)), call.elem), axes, keepdim)
    size = Abs(x)
    if math.isinf(ord):
        return ReduceMax(size, axes, keepdim) if ord > 0 else ReduceMin(size, axes, keepdim)
    if ord == 1:
        return Sum(size, axes, keepdim)
    return Pow(Sum(Pow(size, call.cast(ord, call.elem)), axes, keepdim), call.cast(1 / ord, call.elem))


@converter("aten.norm.ScalarOpt_dim", "aten.norm.Scalar")
def norm(call: Call, x: Value, p: Number | None = 2, dim: Dims = None, keepdim: bool = False) -> Op:
    return vector_norm(call, x, 2 if p is None else p, dim, keepdim)
