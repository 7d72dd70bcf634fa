"""Normalizations, in inference form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import Add, BatchNorm, GroupNorm, LayerNorm, Mean, Mul, Rsqrt, Sub
from ...call import Call
from ...registry import converter


@converter("aten._native_batch_norm_legit_no_training.default")
def batch_norm_no_training(call: Call, x: Value, w: Value | None, b: Value | None, mean: Value, var: Value, momentum: float, eps: float) -> list[Any]:
    return [_batch_norm(call, x, w, b, mean, var, eps), None, None]


@converter("aten.native_batch_norm.default", "aten._native_batch_norm_legit.default")
def native_batch_norm(
    call: Call, x: Value, w: Value | None, b: Value | None, mean: Value | None, var: Value | None, training: bool, momentum: float, eps: float
) -> list[Any]:
    if not training and mean is not None and var is not None:
        return [_batch_norm(call, x, w, b, mean, var, eps), None, None]
    return batch_norm_no_stats(call, x, w, b, training, momentum, eps)


@converter("aten._native_batch_norm_legit.no_stats")
def batch_norm_no_stats(call: Call, x: Value, w: Value | None, b: Value | None, training: bool, momentum: float, eps: float) -> list[Any]:
    """A layer without running statistics normalizes by the statistics of its batch, in inference too."""
    axes = (0, *range(2, x.type.rank))
    centered = Sub(x, Mean(x, axes, True)).out
    variance = Mean(Mul(centered, centered), axes, True)
    y = Mul(centered, Rsqrt(Add(variance, call.cast(eps, call.elem)))).out
    column = (x.shape[1], *(1,) * (x.type.rank - 2))
    if w is not None:
        y = Mul(y, call.reshape(call.cast(w, call.elem), column)).out
    if b is not None:
        y = Add(y, call.reshape(call.cast(b, call.elem), column)).out
    return [y, *(call.reshape(s, (x.shape[1],)) for s in _statistics(call, x, axes, eps))]


@converter("aten.batch_norm.default")
def batch_norm(
    call: Call,
    x: Value,
    w: Value | None,
    b: Value | None,
    mean: Value | None,
    var: Value | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Any:
    return native_batch_norm(call, x, w, b, mean, var, training, momentum, eps)[0]


def _batch_norm(call: Call, x: Value, w: Value | None, b: Value | None, mean: Value, var: Value, eps: float) -> Op:
    channels = x.shape[1]
    gamma = call.const(np.ones(channels), call.elem) if w is None else call.cast(w, call.elem)
    beta = call.const(np.zeros(channels), call.elem) if b is None else call.cast(b, call.elem)
    return BatchNorm(x, gamma, beta, call.cast(mean, call.elem), call.cast(var, call.elem), eps)


@converter("aten.layer_norm.default")
def layer_norm(
    call: Call, x: Value, shape: Sequence[int], w: Value | None = None, b: Value | None = None, eps: float = 1e-5, cudnn_enable: bool = True
) -> Op:
    return LayerNorm(x, w, b, axes=len(shape), eps=eps)


@converter("aten.native_layer_norm.default")
def native_layer_norm(call: Call, x: Value, shape: Sequence[int], w: Value | None, b: Value | None, eps: float) -> list[Any]:
    """With the mean and 1 / sqrt(variance + eps) of each row."""
    axes = tuple(range(x.type.rank - len(shape), x.type.rank))
    return [layer_norm(call, x, shape, w, b, eps), *_statistics(call, x, axes, eps)]


def _statistics(call: Call, x: Value, axes: tuple[int, ...], eps: float) -> list[Op]:
    """Mean and 1 / sqrt(variance + eps) over axes, which stay as size 1."""
    mean = Mean(x, axes, True)
    centered = Sub(x, mean).out
    return [mean, Rsqrt(Add(Mean(Mul(centered, centered), axes, True), call.cast(eps, call.elem)))]


@converter("aten.group_norm.default")
def group_norm(
    call: Call, x: Value, groups: int, w: Value | None = None, b: Value | None = None, eps: float = 1e-5, cudnn_enabled: bool = True
) -> Op:
    return GroupNorm(x, w, b, groups=groups, eps=eps)


@converter("aten.native_group_norm.default", symbolic=True)
def native_group_norm(call: Call, x: Value, w: Value | None, b: Value | None, n: int, c: int, size: int, groups: int, eps: float) -> list[Any]:
    """With the mean and 1 / sqrt(variance + eps) of each group."""
    batch = call.dims(x)[0]
    rows = call.reshape(x, (batch, groups, x.type.size // (x.shape[0] * groups)))
    return [group_norm(call, x, groups, w, b, eps), *(call.reshape(s, (batch, groups)) for s in _statistics(call, rows, (2,), eps))]


@converter("aten.instance_norm.default")
def instance_norm(
    call: Call,
    x: Value,
    w: Value | None,
    b: Value | None,
    mean: Value | None,
    var: Value | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Op:
    """Each channel of each example by its own statistics, or by running ones where the layer tracks them."""
    if not use_input_stats and mean is not None and var is not None:
        return _batch_norm(call, x, w, b, mean, var, eps)
    return GroupNorm(x, w, b, groups=x.shape[1], eps=eps)


@converter("aten.rms_norm.default")
def rms_norm(call: Call, x: Value, shape: Sequence[int], w: Value | None = None, eps: float | None = None) -> Op:
    """x / sqrt(mean(x^2) + eps) * w (1910.07467)"""
    axes = tuple(range(x.type.rank - len(shape), x.type.rank))
    smallest = float(np.finfo(x.type.dtype).eps) if eps is None else eps
    y = Mul(x, Rsqrt(Add(Mean(Mul(x, x), axes, True), call.cast(smallest, call.elem))))
    return y if w is None else Mul(y, call.cast(w, call.elem))
