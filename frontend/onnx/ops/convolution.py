"""Convolutions over one, two and three dimensions of space."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....ir.op import Const, Value
from ....ir.ops import Add, Conv2d, ConvTranspose2d, Dequantize, Pad, QuantConv2d
from ..node import Node
from ..registry import Ints, onnx_converter
from .geometry import as_image, four, pair, sides_of, spread
from .volumes import conv3d, conv_transpose3d

Numbers = Sequence[int] | None


def _space(node: Node, x: Value, w: Value, kernel_shape: Numbers) -> int:
    space = w.type.rank - 2
    if space not in (1, 2, 3) or x.type.rank != w.type.rank:
        raise node.unsupported(f"a convolution of x {list(x.shape)} by w {list(w.shape)}; valid: over 1 to 3 dimensions of space")
    if kernel_shape is not None and tuple(kernel_shape) != w.shape[2:]:
        raise node.unsupported(f"kernel_shape {list(kernel_shape)} with w {list(w.shape)}; valid: {list(w.shape[2:])}")
    return space


@onnx_converter("Conv")
def conv(
    node: Node,
    x: Value,
    w: Value,
    b: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Numbers = None,
    group: int = 1,
    kernel_shape: Numbers = None,
    pads: Numbers = None,
    strides: Numbers = None,
) -> Value:
    return convolution(
        node, Conv2d, x, w, b, auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads, strides=strides
    )


def convolution(
    node: Node,
    kind: type[Conv2d] | type[QuantConv2d],
    x: Value,
    w: Value,
    b: Value | None,
    *,
    auto_pad: str,
    dilations: Numbers,
    group: int,
    kernel_shape: Numbers,
    pads: Numbers,
    strides: Numbers,
) -> Value:
    """A convolution of floats or of stored integers."""
    space = _space(node, x, w, kernel_shape)
    stride, dilation = spread(node, strides, space, "strides"), spread(node, dilations, space, "dilations")
    sides = sides_of(node, x, auto_pad, pads, w.shape[2:], stride, dilation)
    if space == 3:
        if kind is not Conv2d:
            raise node.unsupported("a convolution of integers over 3 dimensions of space; valid: 1 or 2, or floats")
        return conv3d(node, x, w, b, sides, stride, dilation, group)
    op = kind(
        as_image(node, x, space),
        weights_as_image(node, w, space),
        b,
        stride=pair(stride, 1),
        padding=four(sides),
        dilation=pair(dilation, 1),
        groups=group,
    )
    return _flat(node, op.out, space)


def weights_as_image(node: Node, w: Value, space: int) -> Value:
    """w (O, C, W) as (O, C, 1, W); dequantized weights keep their integers."""
    if space == 2 or not isinstance(w.op, Dequantize) or not isinstance(w.op.x.op, Const):
        return as_image(node, w, space)
    return Dequantize(as_image(node, w.op.x, space)).out


@onnx_converter("ConvTranspose")
def conv_transpose(
    node: Node,
    x: Value,
    w: Value,
    b: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Numbers = None,
    group: int = 1,
    kernel_shape: Numbers = None,
    output_padding: Numbers = None,
    output_shape: Numbers = None,
    pads: Numbers = None,
    strides: Numbers = None,
) -> Value:
    """Padding that differs between the ends is cropped from the result of no padding."""
    space = _space(node, x, w, kernel_shape)
    stride, dilation = spread(node, strides, space, "strides"), spread(node, dilations, space, "dilations")
    extra = tuple(output_padding or (0,) * space)
    sides = list(zip((pads or (0,) * 2 * space)[:space], (pads or (0,) * 2 * space)[space:]))
    if auto_pad.startswith("SAME") and output_shape is None:
        output_shape = [node.static(x, 2 + i) * stride[i] for i in range(space)]
    if output_shape is not None:
        whole = [(node.static(x, 2 + i) - 1) * stride[i] + dilation[i] * (w.shape[2 + i] - 1) + 1 + extra[i] for i in range(space)]
        sides = [_halves(total - size, auto_pad) for total, size in zip(whole, output_shape[-space:])]
    if any(p < 0 for side in sides for p in side):
        extra = tuple(e - min(0, hi) for e, (_, hi) in zip(extra, sides))
        sides = [(lo, max(0, hi)) for lo, hi in sides]
    if space == 3:
        y = conv_transpose3d(node, x, w, tuple(sides), stride, dilation, extra, group)
        top, bottom, left, right = four(tuple(sides[1:]))
        y = Pad(y, (0, 0, 0, 0, 0, 0, -top, -bottom, -left, -right)).out if any(map(any, sides[1:])) else y
        return y if b is None else Add(y, node.reshape(b, (b.type.size, 1, 1, 1))).out
    even = all(lo == hi for lo, hi in sides)
    padding = tuple(lo for lo, _ in sides) if even else (0,) * space
    op = ConvTranspose2d(
        as_image(node, x, space),
        weights_as_image(node, w, space),
        b,
        stride=pair(stride, 1),
        padding=pair(padding, 0),
        output_padding=pair(extra, 0),
        dilation=pair(dilation, 1),
        groups=group,
    )
    top, bottom, left, right = four(tuple(sides))
    y = op.out if even else Pad(op, (0, 0, 0, 0, -top, -bottom, -left, -right)).out
    return _flat(node, y, space)


def _halves(total: int, auto_pad: str) -> tuple[int, int]:
    """Padding in all -> before and after; the odd one before, except for SAME_UPPER."""
    if total < 0:
        return 0, total
    less, more = total // 2, total - total // 2
    return (less, more) if auto_pad == "SAME_UPPER" else (more, less)


def _flat(node: Node, y: Value, space: int) -> Value:
    """(N, C, 1, W) as (N, C, W) again."""
    dims = node.dims(y)
    return node.reshape(y, (*dims[:2], *dims[4 - space :]))


@onnx_converter("Col2Im")
def col2im(
    node: Node,
    x: Value,
    image_shape: Ints,
    block_shape: Ints,
    *,
    dilations: Numbers = None,
    pads: Numbers = None,
    strides: Numbers = None,
) -> Value:
    """Sum of overlapping patches: a transposed convolution whose weights put each entry of a patch in its place."""
    space = len(image_shape)
    if space not in (1, 2):
        raise node.unsupported(f"an image of {space} dimensions; valid: 1 or 2")
    stride, dilation = spread(node, strides, space, "strides"), spread(node, dilations, space, "dilations")
    sides = sides_of(node, x, "NOTSET", pads, block_shape, stride, dilation)
    taps = math.prod(block_shape)
    whole = [image_shape[i] + sum(sides[i]) for i in range(space)]
    extent = [dilation[i] * (block_shape[i] - 1) + 1 for i in range(space)]
    windows = [(whole[i] - extent[i]) // stride[i] + 1 for i in range(space)]
    rest = [whole[i] - ((windows[i] - 1) * stride[i] + extent[i]) for i in range(space)]
    n, rows, _ = node.dims(x)
    patches = node.reshape(x, (n, rows, *pair(windows, 1)))
    one_hot = np.tile(np.eye(taps).reshape(taps, 1, *pair(block_shape, 1)), (rows // taps, 1, 1, 1))
    op = ConvTranspose2d(
        patches,
        node.const(one_hot, str(x.type.elem)),
        stride=pair(stride, 1),
        output_padding=pair(rest, 0),
        dilation=pair(dilation, 1),
        groups=rows // taps,
    )
    top, bottom, left, right = four(sides)
    y = Pad(op, (0, 0, 0, 0, -top, -bottom, -left, -right)).out if any((top, bottom, left, right)) else op.out
    return _flat(node, y, space)
