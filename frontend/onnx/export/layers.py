"""Convolutions, products, normalizations and pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....ir.op import Const
from ....ir.ops import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    GroupNorm,
    LayerNorm,
    Linear,
    Matmul,
    MaxPool2d,
    Pool2d,
)
from .builder import Builder
from .registry import onnx_exporter


@onnx_exporter(Conv2d)
def conv(b: Builder, op: Conv2d, x: str, w: str, bias: str | None) -> str:
    top, bottom, left, right = op.padding
    return b.node("Conv", x, w, bias, pads=(top, left, bottom, right), **_window(op), kernel_shape=op.kernel)


@onnx_exporter(ConvTranspose2d)
def conv_transpose(b: Builder, op: ConvTranspose2d, x: str, w: str, bias: str | None) -> str:
    kernel = op.w.shape[2:]
    return b.node("ConvTranspose", x, w, bias, pads=op.padding * 2, output_padding=op.output_padding, **_window(op), kernel_shape=kernel)


def _window(op: Conv2d | ConvTranspose2d) -> dict[str, Any]:
    return {"strides": op.stride, "dilations": op.dilation, "group": op.groups}


@onnx_exporter(Linear)
def linear(b: Builder, op: Linear, x: str, w: str, bias: str | None) -> str:
    """Gemm of matrices, else a product with the transposed weight."""
    if op.x.type.rank == 2:
        return b.node("Gemm", x, w, bias, transB=1)
    if isinstance(op.w.op, Const):
        transposed = b.const(op.w.op.array.T, str(op.w.type.elem), b.unique(f"{w}_t"))
    else:
        transposed = b.node("Transpose", w, perm=(1, 0))
    product = b.node("MatMul", x, transposed)
    return product if bias is None else b.node("Add", product, bias)


@onnx_exporter(Matmul)
def matmul(b: Builder, op: Matmul, x: str, y: str) -> str:
    return b.node("MatMul", x, y)


@onnx_exporter(BatchNorm)
def batch_norm(b: Builder, op: BatchNorm, *xs: str) -> str:
    return b.node("BatchNormalization", *xs, epsilon=op.eps)


@onnx_exporter(LayerNorm)
def layer_norm(b: Builder, op: LayerNorm, x: str, gamma: str | None, beta: str | None) -> str:
    ones = gamma or b.const(np.ones(op.x.shape[-op.axes :]), str(op.x.type.elem))
    return b.node("LayerNormalization", x, ones, beta, axis=-op.axes, epsilon=op.eps)


@onnx_exporter(GroupNorm)
def group_norm(b: Builder, op: GroupNorm, x: str, gamma: str | None, beta: str | None) -> str:
    channels, elem = op.x.shape[1], str(op.x.type.elem)
    scale, shift = gamma or b.const(np.ones(channels), elem), beta or b.const(np.zeros(channels), elem)
    if op.groups == channels:
        return b.node("InstanceNormalization", x, scale, shift, epsilon=op.eps)
    return b.node("GroupNormalization", x, scale, shift, num_groups=op.groups, epsilon=op.eps)


# -- pooling -----------------------------------------------------------------------------------


def ends(op: Pool2d, dilation: tuple[int, int], ceil_mode: bool) -> tuple[int, int, int, int]:
    """Padding as ONNX orders it, with as much after the map as the last window needs, so that ceil_mode is not needed."""
    top, _, left, _ = op.padding
    h, w = op.x.shape[2:]
    oh, ow = op.windows((h, w), dilation, ceil_mode)
    bottom = max(0, (oh - 1) * op.stride[0] + dilation[0] * (op.kernel[0] - 1) + 1 - top - h)
    right = max(0, (ow - 1) * op.stride[1] + dilation[1] * (op.kernel[1] - 1) + 1 - left - w)
    return top, left, bottom, right


def padded(b: Builder, x: str, pads: tuple[int, int, int, int], value: str | None = None) -> str:
    """x with rows and columns of a value (0 without one) around."""
    top, left, bottom, right = pads
    return b.node("Pad", x, b.ints((0, 0, top, left, 0, 0, bottom, right)), value)


@onnx_exporter(MaxPool2d)
def max_pool(b: Builder, op: MaxPool2d, x: str) -> str:
    """Padding as wide as the undilated kernel, which onnxruntime refuses, is a Pad with the lowest value."""
    pads = ends(op, op.dilation, op.ceil_mode)
    if any(p >= k for p, k in zip(pads, op.kernel * 2)):
        elem = str(op.x.type.elem)
        lowest = -np.inf if op.x.type.is_float else np.iinfo(op.x.type.dtype).min
        x, pads = padded(b, x, pads, b.const(lowest, elem)), (0, 0, 0, 0)
    return b.node("MaxPool", x, kernel_shape=op.kernel, strides=op.stride, dilations=op.dilation, pads=pads)


@onnx_exporter(AvgPool2d)
def avg_pool(b: Builder, op: AvgPool2d, x: str) -> str:
    """An AveragePool where all windows count the same elements, or those inside of the map; else one times a constant of corrections."""
    pads, elem = ends(op, (1, 1), op.ceil_mode), str(op.x.type.elem)
    window: dict[str, Any] = {"kernel_shape": op.kernel, "strides": op.stride}
    counts = np.outer(op.counts(0, op.x.shape[2]), op.counts(1, op.x.shape[3]))
    size = op.kernel[0] * op.kernel[1]
    if op.divisor is None and not op.count_include_pad:
        return b.node("AveragePool", x, **window, pads=pads, count_include_pad=0)
    x = padded(b, x, pads) if any(pads) else x
    mean = b.node("AveragePool", x, **window)
    if op.divisor is None and (counts == size).all():
        return mean
    factor = size / op.divisor if op.divisor is not None else size / counts
    return b.node("Mul", mean, b.const(factor, elem))


@onnx_exporter(AdaptiveAvgPool2d)
def adaptive_avg_pool(b: Builder, op: AdaptiveAvgPool2d, x: str) -> str:
    """One pooling where the windows are equal, else products with matrices of weights on both sides."""
    (h, w), (oh, ow) = op.x.shape[2:], op.size
    if (oh, ow) == (1, 1):
        return b.node("GlobalAveragePool", x)
    if h % oh == w % ow == 0:
        return b.node("AveragePool", x, kernel_shape=(h // oh, w // ow), strides=(h // oh, w // ow))
    elem = str(op.x.type.elem)
    rows, columns = _means(h, oh), _means(w, ow)
    return b.node("MatMul", b.node("MatMul", b.const(rows, elem), x), b.const(columns.T, elem))


def _bounds(size: int, count: int) -> list[tuple[int, int]]:
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _means(size: int, count: int) -> np.ndarray:
    weights = np.zeros((count, size))
    for i, (start, stop) in enumerate(_bounds(size, count)):
        weights[i, start:stop] = 1 / (stop - start)
    return weights


@onnx_exporter(AdaptiveMaxPool2d)
def adaptive_max_pool(b: Builder, op: AdaptiveMaxPool2d, x: str) -> str:
    """One pooling where the windows are equal, else the maxima of slices."""
    (h, w), (oh, ow) = op.x.shape[2:], op.size
    if (oh, ow) == (1, 1):
        return b.node("GlobalMaxPool", x)
    if h % oh == w % ow == 0:
        return b.node("MaxPool", x, kernel_shape=(h // oh, w // ow), strides=(h // oh, w // ow))
    return _maxima(b, _maxima(b, x, 2, h, oh), 3, w, ow)


def _maxima(b: Builder, x: str, axis: int, size: int, count: int) -> str:
    parts = []
    for start, stop in _bounds(size, count):
        part = b.node("Slice", x, b.ints([start]), b.ints([stop]), b.ints([axis]))
        parts.append(b.node("ReduceMax", part, b.ints([axis]), keepdims=1))
    return b.node("Concat", *parts, axis=axis)
