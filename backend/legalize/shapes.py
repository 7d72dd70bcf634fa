"""Operators that move elements."""

from __future__ import annotations

import numpy as np

from ...ir.op import Const
from ...ir.ops import IndexSelect, Matmul, PixelUnshuffle, Reshape, Transpose, Upsample
from ...ir.rewrite import Result, rewrite


@rewrite
def transpose_to_reshape(op: Transpose) -> Result:
    """transpose(x) -> reshape(x)   where the axes longer than 1 keep their order"""
    moved = [p for p in op.perm if op.x.shape[p] > 1]
    return Reshape(op.x, op.out.shape, loc=op.loc) if moved == sorted(moved) and list(op.perm) != sorted(op.perm) else None


@rewrite
def pixel_unshuffle(op: PixelUnshuffle) -> Result:
    """pixel_unshuffle(x, f) -> reshape(transpose(reshape(x, [N, C, H, f, W, f]), [0, 1, 3, 5, 2, 4]))"""
    n, c, h, w = op.x.shape
    f = op.factor
    apart = Reshape(op.x, (n, c, h // f, f, w // f, f), loc=op.loc)
    return Reshape(Transpose(apart, (0, 1, 3, 5, 2, 4), loc=op.loc), op.out.shape, loc=op.loc)


@rewrite
def upsample_of_doubles(op: Upsample) -> Result:
    """upsample(x) -> x[:, :, rows][..., columns] (nearest),   R @ x @ C (bilinear);   where x is not f32: R and C resize unit vectors"""
    if op.x.type.elem == "f32":
        return None
    h, w = op.x.shape[2:]
    if op.mode == "nearest":
        rows, columns = (resized(op, np.arange(size), axis) for axis, size in enumerate((h, w)))
        picked = IndexSelect(op.x, Const(rows.round().astype(np.int64)), 2, loc=op.loc)
        return IndexSelect(picked, Const(columns.round().astype(np.int64)), 3, loc=op.loc)
    dtype = op.x.type.dtype
    rows, columns = (np.stack([resized(op, unit, axis) for unit in np.eye(size)]) for axis, size in enumerate((h, w)))
    return Matmul(Matmul(Const(np.ascontiguousarray(rows.T, dtype)), op.x, loc=op.loc), Const(columns.astype(dtype)), loc=op.loc)


def resized(op: Upsample, line: np.ndarray, axis: int) -> np.ndarray:
    """A line of pixels along H (axis 0) or W (1), in float64, as `op` resizes it. The other axis keeps one pixel."""
    import torch

    x = torch.from_numpy(line.astype(np.float64)).reshape((1, 1, -1, 1) if axis == 0 else (1, 1, 1, -1))
    size = (op.size[0], 1) if axis == 0 else (1, op.size[1])
    scales = None if op.scales is None else ((op.scales[0], 1.0) if axis == 0 else (1.0, op.scales[1]))
    y: np.ndarray = op.rebuilt(size=size, scales=scales).evaluate(x).numpy().reshape(-1)
    return y


RULES = (transpose_to_reshape, pixel_unshuffle, upsample_of_doubles)
