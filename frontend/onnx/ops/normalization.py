"""Normalizations, in inference form."""

from __future__ import annotations

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import Abs, Add, BatchNorm, Div, Equal, GroupNorm, LayerNorm, Mean, Mul, Rsqrt, Sqrt, Sub, Sum, Where
from ..node import Node
from ..registry import onnx_converter


@onnx_converter("BatchNormalization")
def batch_norm(
    node: Node,
    x: Value,
    scale: Value,
    b: Value,
    mean: Value,
    var: Value,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Op:
    if training_mode:
        raise node.unsupported("batch normalization in training mode; export the model in evaluation mode")
    elem = str(x.type.elem)
    if x.type.rank == 1:
        raise node.unsupported("batch normalization of a vector; valid: (N, C, ...)")
    return BatchNorm(x, *(node.cast(v, elem) for v in (scale, b, mean, var)), eps=epsilon)


@onnx_converter("InstanceNormalization")
def instance_norm(node: Node, x: Value, scale: Value, b: Value, *, epsilon: float = 1e-5) -> Op:
    return GroupNorm(x, scale, b, groups=x.shape[1], eps=epsilon)


@onnx_converter("GroupNormalization")
def group_norm(node: Node, x: Value, scale: Value, b: Value, *, epsilon: float = 1e-5, num_groups: int, stash_type: int = 1) -> Op:
    """Opset 18 had a scale for each group, 21 has one for each channel."""
    size = x.shape[1] // num_groups
    if scale.shape == (num_groups,) != (x.shape[1],):
        scale, b = (node.reshape(node.expand(node.reshape(v, (num_groups, 1)), (num_groups, size)), (x.shape[1],)) for v in (scale, b))
    return GroupNorm(x, scale, b, groups=num_groups, eps=epsilon)


@onnx_converter("LayerNormalization")
def layer_norm(
    node: Node, x: Value, scale: Value, b: Value | None = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> list[Op | None]:
    """Results: the normalized tensor, the mean and 1 / sqrt(var + epsilon)."""
    first = node.axis(axis, x.type.rank)
    shape = x.shape[first:]
    count = len(shape)
    fits = all(v is None or (v.type.size == np.prod(shape) and v.shape[-count:] == shape) for v in (scale, b))
    gamma, beta = ((None if v is None else node.reshape(v, shape)) for v in (scale, b)) if fits else (None, None)
    y: Op = LayerNorm(x, gamma, beta, axes=count, eps=epsilon)
    if not fits:
        y = Mul(y, scale)
        y = y if b is None else Add(y, b)
    if not node.used(1) and not node.used(2):
        return [y, None, None]
    axes = tuple(range(first, x.type.rank))
    mean = Mean(x, axes, True)
    centered = Sub(x, mean).out
    return [y, mean, Rsqrt(Add(Mean(Mul(centered, centered), axes, True), node.like(x, epsilon)))]


@onnx_converter("RMSNormalization")
def rms_norm(node: Node, x: Value, scale: Value, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Op:
    """x / sqrt(mean(x^2) + epsilon) * scale (1910.07467)"""
    axes = tuple(range(node.axis(axis, x.type.rank), x.type.rank))
    return Mul(Mul(x, Rsqrt(Add(Mean(Mul(x, x), axes, True), node.like(x, epsilon)))), scale)


@onnx_converter("LpNormalization")
def lp_norm(node: Node, x: Value, *, axis: int = -1, p: int = 2) -> Op:
    """x / (sum |x|^p)^(1/p); 0 where that is 0"""
    axes = (node.axis(axis, x.type.rank),)
    norm = Sqrt(Sum(Mul(x, x), axes, True)).out if p == 2 else Sum(Abs(x), axes, True).out
    zero = node.like(x, 0)
    return Div(x, Where(Equal(norm, zero), node.like(x, 1), norm))


@onnx_converter("MeanVarianceNormalization")
def mean_variance_norm(node: Node, x: Value, *, axes: tuple[int, ...] = (0, 2, 3)) -> Op:
    """(x - mean) / (sqrt(mean(x^2) - mean^2) + 1e-9)"""
    over = node.axes(axes, x.type.rank)
    mean = Mean(x, over, True).out
    centered = Sub(x, mean).out
    return Div(centered, Add(Sqrt(Mean(Mul(centered, centered), over, True)), node.like(x, 1e-9)))
