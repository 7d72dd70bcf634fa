"""Constant tensors whose sizes depend on the batch (torch computes all others during the trace), and identity calls."""

from __future__ import annotations

from typing import Any

from ....ir.op import Value
from ...call import Call, Number
from ...registry import converter


@converter("aten.full.default", symbolic=True)
def full(call: Call, size: list[int], value: Number, **kwargs: Any) -> Value:
    return call.expand(call.cast(value, call.elem), (), call.shape)


@converter("aten.full_like.default")
def full_like(call: Call, x: Value, value: Number, **kwargs: Any) -> Value:
    return call.expand(call.cast(value, call.elem), (), call.shape)


@converter("aten.new_full.default", symbolic=True)
def new_full(call: Call, x: Value, size: list[int], value: Number, **kwargs: Any) -> Value:
    return call.expand(call.cast(value, call.elem), (), call.shape)


@converter("aten.zeros.default", "aten.zeros_like.default", "aten.new_zeros.default", symbolic=True)
def zeros(call: Call, *args: Any, **kwargs: Any) -> Value:
    return call.expand(call.cast(0, call.elem), (), call.shape)


@converter("aten.ones.default", "aten.ones_like.default", "aten.new_ones.default", symbolic=True)
def ones(call: Call, *args: Any, **kwargs: Any) -> Value:
    return call.expand(call.cast(1, call.elem), (), call.shape)


@converter("aten.fill.Scalar", "aten.fill.Tensor")
def fill(call: Call, x: Value, value: Value | Number) -> Value:
    return call.expand(call.cast(value, call.elem), (), call.shape)


@converter("aten.copy.default")
def copy(call: Call, into: Value, x: Value, non_blocking: bool = False) -> Value:
    dims = call.dims(x)
    return call.expand(call.cast(x, call.elem), dims, call.shape)


@converter(
    "aten.alias.default",
    "aten.clone.default",
    "aten.contiguous.default",
    "aten.detach.default",
    "aten.lift_fresh_copy.default",
    "aten.detach_copy.default",
    "aten.alias_copy.default",
)
def identity(call: Call, x: Value) -> Value:
    return x
