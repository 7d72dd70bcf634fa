"""Pooling over one, two and three dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import (
    Abs,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    Add,
    AvgPool2d,
    Conv2d,
    Div,
    MaxPool2d,
    Mean,
    Mul,
    Pow,
    ReduceMax,
    Sqrt,
    StorageCast,
    Sum,
    out_size,
)
from ..integers import plain
from ..node import Node
from ..registry import onnx_converter
from .extremes import max_pool_with_places
from .geometry import as_image, four, pair, sides_of, spread

Numbers = Sequence[int] | None
#: (image, kernel, stride, sides, dilation) -> the pooled image, all over two dimensions
Pool = Callable[[Value, tuple[int, int], tuple[int, int], tuple[int, int, int, int], tuple[int, int]], Op | Value]


def _pooled(node: Node, x: Value, kernel: Sequence[int], strides: Numbers, auto_pad: str, pads: Numbers, dilations: Numbers, pool: Pool) -> Value:
    """Pool over 1 to 3 dimensions of space. Windows over three are pooled over the last two and then over the first."""
    space = len(kernel)
    if x.type.rank != space + 2 or space not in (1, 2, 3):
        raise node.unsupported(f"kernel_shape {list(kernel)} for x {list(x.shape)}; valid: (N, C, ...) with 1 to 3 dimensions of space")
    stride, dilation = spread(node, strides, space, "strides"), spread(node, dilations, space, "dilations")
    sides = sides_of(node, x, auto_pad, pads, kernel, stride, dilation)
    if space < 3:
        y = pool(as_image(node, x, space), pair(kernel, 1), pair(stride, 1), four(sides), pair(dilation, 1))
        y = y.out if isinstance(y, Op) else y
        dims = node.dims(y)
        return node.reshape(y, (*dims[:2], *dims[4 - space :]))
    n, c, d, h, w = node.dims(x)
    y = pool(node.reshape(x, (n, c * d, h, w)), pair(kernel[1:], 1), pair(stride[1:], 1), four(sides[1:]), pair(dilation[1:], 1))
    oh, ow = (y.out if isinstance(y, Op) else y).shape[2:]
    y = pool(node.reshape(y, (n, c, d, oh * ow)), (kernel[0], 1), (stride[0], 1), (*sides[0], 0, 0), (dilation[0], 1))
    od = (y.out if isinstance(y, Op) else y).shape[2]
    return node.reshape(y, (n, c, od, oh, ow))


@onnx_converter("MaxPool")
def max_pool(
    node: Node,
    x: Value,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Numbers = None,
    kernel_shape: Sequence[int],
    pads: Numbers = None,
    storage_order: int = 0,
    strides: Numbers = None,
) -> Value | list[Value]:
    space = len(kernel_shape)
    if node.used(1):
        if x.type.rank != space + 2 or space > 2:
            raise node.unsupported(f"the indices of the maxima, of x {list(x.shape)}; valid: 1 or 2 dimensions of space, or one output")
        stride, steps = spread(node, strides, space, "strides"), spread(node, dilations, space, "dilations")
        sides = sides_of(node, x, auto_pad, pads, kernel_shape, stride, steps)
        return max_pool_with_places(node, x, kernel_shape, stride, sides, steps, bool(ceil_mode), bool(storage_order))

    def pool(x: Value, kernel: tuple[int, int], stride: tuple[int, int], sides: tuple[int, int, int, int], dilation: tuple[int, int]) -> Op:
        return MaxPool2d(x, kernel, stride, sides, dilation, bool(ceil_mode))

    if isinstance(x.op, StorageCast):
        return plain(_pooled(node, x.op.x, kernel_shape, strides, auto_pad, pads, dilations, pool))
    elem = str(x.type.elem)
    # bytes are exact in f32, for which there are kernels
    wide = node.cast(x, "f32") if elem in ("i8", "u8") else x
    return node.cast(_pooled(node, wide, kernel_shape, strides, auto_pad, pads, dilations, pool), elem)


@onnx_converter("AveragePool")
def average_pool(
    node: Node,
    x: Value,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Numbers = None,
    kernel_shape: Sequence[int],
    pads: Numbers = None,
    strides: Numbers = None,
) -> Value:
    def pool(x: Value, kernel: tuple[int, int], stride: tuple[int, int], sides: tuple[int, int, int, int], dilation: tuple[int, int]) -> Op | Value:
        if dilation == (1, 1):
            return AvgPool2d(x, kernel, stride, sides, bool(ceil_mode), bool(count_include_pad))
        return _dilated_mean(node, x, kernel, stride, sides, dilation, bool(ceil_mode), bool(count_include_pad))

    return _pooled(node, x, kernel_shape, strides, auto_pad, pads, dilations, pool)


def _dilated_mean(
    node: Node,
    x: Value,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    sides: tuple[int, int, int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
    with_padding: bool,
) -> Op:
    """Sums by a depthwise convolution with ones, divided by how many elements each window counts."""
    total, counts = _dilated_sum(node, x, kernel, stride, sides, dilation, ceil_mode, with_padding)
    return Div(total, node.const(counts, str(x.type.elem)))


def _dilated_sum(
    node: Node,
    x: Value,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    sides: tuple[int, int, int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
    with_padding: bool,
) -> tuple[Op, np.ndarray]:
    counts, ends = [], []
    for i in (0, 1):
        size, lo, hi = x.shape[2 + i], *sides[2 * i : 2 * i + 2]
        windows = out_size(size, kernel[i], stride[i], lo, hi, dilation[i], ceil_mode)
        places = np.arange(windows)[:, None] * stride[i] + np.arange(kernel[i]) * dilation[i] - lo
        first, last = (-lo, size + hi) if with_padding else (0, size)
        counts.append(((places >= first) & (places < last)).sum(1))
        ends.append(max(0, int(places.max()) + 1 - size))
    ones = node.const(np.ones((x.shape[1], 1, *kernel)), str(x.type.elem))
    padding = (sides[0], ends[0], sides[2], ends[1])
    return Conv2d(x, ones, None, stride, padding, dilation, x.shape[1]), np.outer(*counts)


@onnx_converter("LpPool")
def lp_pool(
    node: Node,
    x: Value,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Numbers = None,
    kernel_shape: Sequence[int],
    p: int = 2,
    pads: Numbers = None,
    strides: Numbers = None,
) -> Op:
    """(sum |x|^p)^(1/p)"""

    def pool(x: Value, kernel: tuple[int, int], stride: tuple[int, int], sides: tuple[int, int, int, int], dilation: tuple[int, int]) -> Op | Value:
        if dilation == (1, 1):
            return AvgPool2d(x, kernel, stride, sides, bool(ceil_mode), True, 1)
        return _dilated_sum(node, x, kernel, stride, sides, dilation, bool(ceil_mode), True)[0]

    return root(node, _pooled(node, power(node, x, p), kernel_shape, strides, auto_pad, pads, dilations, pool), p)


def power(node: Node, x: Value, p: int) -> Value:
    """|x|^p"""
    if p == 1:
        return Abs(x).out
    return Mul(x, x).out if p == 2 else Pow(Abs(x), node.like(x, p)).out


def root(node: Node, x: Value, p: int) -> Op:
    """x^(1/p)"""
    return Sqrt(x) if p == 2 else Pow(x, node.like(x, 1 / p))


@onnx_converter("GlobalAveragePool")
def global_average_pool(node: Node, x: Value) -> Op:
    return AdaptiveAvgPool2d(x, (1, 1)) if x.type.rank == 4 else Mean(x, tuple(range(2, x.type.rank)), True)


@onnx_converter("GlobalMaxPool")
def global_max_pool(node: Node, x: Value) -> Op:
    return AdaptiveMaxPool2d(x, (1, 1)) if x.type.rank == 4 else ReduceMax(x, tuple(range(2, x.type.rank)), True)


@onnx_converter("GlobalLpPool")
def global_lp_pool(node: Node, x: Value, *, p: int = 2) -> Op:
    return root(node, Sum(power(node, x, p), tuple(range(2, x.type.rank)), True).out, p)


@onnx_converter("LRN")
def local_response_norm(node: Node, x: Value, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int) -> Op:
    """x / (bias + alpha / size * sum of x^2 over `size` channels)^beta"""
    n, c, *space = node.dims(x)
    column = node.reshape(Mul(x, x), (n, 1, c, math.prod(space)))
    before = (size - 1) // 2
    total = AvgPool2d(column, (size, 1), (1, 1), (before, size - 1 - before, 0, 0), divisor=size)
    scale = Mul(node.reshape(total, node.dims(x)), node.like(x, alpha)).out
    return Div(x, Pow(Add(scale, node.like(x, bias)), node.like(x, beta)))
