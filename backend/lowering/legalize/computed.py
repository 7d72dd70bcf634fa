"""Convolutions with weights that the model computes (dynamic filters, modulated convolutions) become matrix products with gathered pixels."""

from __future__ import annotations

import numpy as np

from ....ir.op import Const, Op, Value
from ....ir.ops import Add, Conv2d, ConvTranspose2d, IndexSelect, Matmul, Pad, Reshape, Transpose
from ....ir.rewrite import Result, rewrite


def is_const(v: Value | None) -> bool:
    return v is None or isinstance(v.op, Const)


def taps(op: Conv2d) -> np.ndarray:
    """Index in a padded plane of the pixel under each tap for each result: (kh * kw * H' * W',)."""
    width = op.x.shape[3] + op.padding[2] + op.padding[3]
    (oh, ow), (kh, kw) = op.out.shape[2:], op.w.shape[2:]
    rows = np.arange(kh)[:, None] * op.dilation[0] + np.arange(oh) * op.stride[0]
    columns = np.arange(kw)[:, None] * op.dilation[1] + np.arange(ow) * op.stride[1]
    return (rows[:, None, :, None] * width + columns[None, :, None, :]).reshape(-1).astype(np.int64)


@rewrite
def conv_of_computed(op: Conv2d) -> Result:
    """conv2d(x, w, b) -> matmul(w, x[:, pixels under each tap]) + b   where w is computed, group by group;   conv2d(x, w) + b where only b is"""
    if is_const(op.w) and is_const(op.b):
        return None
    y: Op
    if is_const(op.w):
        y = op.rebuilt(b=None)
    else:
        n, c, h, w = op.x.shape
        o, per_group, kh, kw = op.w.shape
        top, bottom, left, right = op.padding
        x = Pad(op.x, (0, 0, 0, 0, *op.padding), loc=op.loc) if any(op.padding) else op.x
        plane = (h + top + bottom) * (w + left + right)
        columns: Op = Reshape(x, (n, c, plane), loc=op.loc)
        index = taps(op)
        if index.tolist() != list(range(plane)):
            columns = IndexSelect(columns, Const(index), 2, loc=op.loc)
        pixels = op.out.shape[2] * op.out.shape[3]
        groups = (op.groups,) if op.groups > 1 else ()
        rows = Reshape(op.w, (*groups, o // op.groups, per_group * kh * kw), loc=op.loc)
        columns = Reshape(columns, (n, *groups, per_group * kh * kw, pixels), loc=op.loc)
        y = Reshape(Matmul(rows, columns, loc=op.loc), op.out.shape, loc=op.loc)
    return y if op.b is None else Add(y, Reshape(op.b, (1, op.b.shape[0], 1, 1), loc=op.loc), loc=op.loc)


@rewrite
def conv_transpose_of_computed(op: ConvTranspose2d) -> Result:
    """conv_transpose2d(x, w, b) -> conv2d(x', w', b)   where w or b is computed

    x' has stride - 1 zeros after each pixel, and borders that give the right size; w' is w flipped, with its channel axes exchanged.
    """
    if is_const(op.w) and is_const(op.b):
        return None
    n, c, h, w = op.x.shape
    _, per_group, *kernel = op.w.shape
    (sh, sw), groups = op.stride, op.groups
    apart = Pad(Reshape(op.x, (n, c, h, 1, w, 1), loc=op.loc), (0, 0, 0, 0, 0, 0, 0, sh - 1, 0, 0, 0, sw - 1), loc=op.loc)
    pads = []
    for k, s, d, p, extra in zip(kernel, op.stride, op.dilation, op.padding, op.output_padding):
        pads += [d * (k - 1) - p, d * (k - 1) - p + extra - (s - 1)]
    x = Pad(Reshape(apart, (n, c, h * sh, w * sw), loc=op.loc), (0, 0, 0, 0, *pads), loc=op.loc)
    flipped: Op = Transpose(Reshape(op.w, (groups, c // groups, per_group, *kernel), loc=op.loc), (0, 2, 1, 3, 4), loc=op.loc)
    flipped = Reshape(flipped, (groups * per_group, c // groups, *kernel), loc=op.loc)
    for axis in (2, 3):
        flipped = IndexSelect(flipped, Const(np.arange(kernel[axis - 2])[::-1].astype(np.int64)), axis, loc=op.loc)
    return Conv2d(x, flipped, op.b, (1, 1), (0, 0, 0, 0), op.dilation, groups, loc=op.loc)


RULES = (conv_of_computed, conv_transpose_of_computed)
