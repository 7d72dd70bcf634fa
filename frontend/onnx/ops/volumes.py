"""Convolutions over three dimensions of space as one over the last two, with the taps along depth as channels."""

from __future__ import annotations

import numpy as np

from ....ir.op import Const, Value
from ....ir.ops import Conv2d, ConvTranspose2d, Dequantize, IndexSelect, Linear, Pad, Transpose, out_size
from ..node import Node
from ..sizes import Dim
from .geometry import Sides, four, pair

Numbers = tuple[int, ...]


def _weights(node: Node, w: Value, shape: tuple[int, ...]) -> Value:
    """w in another shape; dequantized weights keep their integers."""
    if isinstance(w.op, Dequantize) and isinstance(w.op.x.op, Const):
        return Dequantize(node.reshape(w.op.x, shape)).out
    return node.reshape(w, shape)


def conv3d(node: Node, x: Value, w: Value, b: Value | None, sides: Sides, stride: Numbers, dilation: Numbers, groups: int) -> Value:
    """x (N, C, D, H, W) by w (O, C/g, KD, KH, KW): windows of KD slices become KD channels for each of the C channels."""
    front, back = sides[0]
    if front or back:
        x = Pad(x, (0, 0, 0, 0, front, back, 0, 0, 0, 0)).out
    n, c, d, height, width = node.dims(x)
    out, part, taps, *kernel = w.shape
    count = out_size(d, taps, stride[0], 0, 0, dilation[0])
    places = np.arange(count)[:, None] * stride[0] + np.arange(taps) * dilation[0]
    slices = IndexSelect(x, node.const(places.reshape(-1), "i64"), 2)
    windows = Transpose(node.reshape(slices, (n, c, count, taps, height, width)), (0, 2, 1, 3, 4, 5))
    y = Conv2d(
        node.reshape(windows, (n * count, c * taps, height, width)),
        _weights(node, w, (out, part * taps, *kernel)),
        b,
        stride=pair(stride[1:], 1),
        padding=four(sides[1:]),
        dilation=pair(dilation[1:], 1),
        groups=groups,
    )
    return Transpose(node.reshape(y, (n, count, *y.out.shape[1:])), (0, 2, 1, 3, 4)).out


def conv_transpose3d(node: Node, x: Value, w: Value, sides: Sides, stride: Numbers, dilation: Numbers, extra: Numbers, groups: int) -> Value:
    """x (N, C, D, H, W) by w (C, O/g, KD, KH, KW) without bias: every slice gives KD slices, and a matrix of 0 and 1 adds overlapping ones.

    Height and width are not cropped: the caller does that by their `sides`.
    """
    n, c, d, height, width = node.dims(x)
    _, part, taps, *kernel = w.shape
    rows = node.reshape(Transpose(x, (0, 2, 1, 3, 4)), (n * d, c, height, width))
    y = ConvTranspose2d(
        rows,
        _weights(node, w, (c, part * taps, *kernel)),
        None,
        stride=pair(stride[1:], 1),
        output_padding=pair(extra[1:], 0),
        dilation=pair(dilation[1:], 1),
        groups=groups,
    ).out
    oh, ow = y.shape[2:]
    spread: tuple[Dim, ...] = (n, d, groups * part, taps, oh * ow)
    columns = node.reshape(Transpose(node.reshape(y, spread), (0, 2, 4, 1, 3)), (n, groups * part, oh * ow, d * taps))
    depth = (d - 1) * stride[0] + dilation[0] * (taps - 1) + 1 + extra[0] - sum(sides[0])
    places = (np.arange(d)[:, None] * stride[0] + np.arange(taps) * dilation[0] - sides[0][0]).reshape(-1)
    meets = np.arange(depth)[:, None] == places
    summed = node.reshape(Linear(columns, node.const(meets, str(x.type.elem))), (n, groups * part, oh, ow, depth))
    return Transpose(summed, (0, 1, 4, 2, 3)).out
