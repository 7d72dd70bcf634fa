"""Pads and slices of rows and columns, as `pad_crop`, which reads and writes blocked feature maps."""

from __future__ import annotations

from ....ir.ops import Pad, Slice
from ....ir.rewrite import Result, rewrite
from ...tile.moves import PadCrop
from .channels import is_map


@rewrite
def pad_pixels(op: Pad) -> Result:
    """pad(x, [0, 0, 0, 0, t, b, l, r]) -> pad_crop(x)   of a feature map, in any mode"""
    if any(op.pads[:4]) or not is_map(op.x):
        return None
    rows, columns = (tuple(_sources(op, axis)) for axis in (2, 3))
    return PadCrop(op.x, rows, columns, op.value, loc=op.loc)


def _sources(op: Pad, axis: int) -> list[int]:
    size, lo, hi = op.x.shape[axis], op.pads[2 * axis], op.pads[2 * axis + 1]
    if op.mode != "constant":
        return op.sources(size, lo, hi)
    return [i if 0 <= i < size else -1 for i in range(-lo, size + hi)]


@rewrite
def slice_pixels(op: Slice) -> Result:
    """x[:, :, a:b:s] -> pad_crop(x),   x[..., a:b:s] -> pad_crop(x)   of a feature map"""
    if op.axis < 2 or not is_map(op.x):
        return None
    index = [tuple(range(size)) for size in op.x.shape[2:]]
    index[op.axis - 2] = tuple(range(op.start, op.stop, op.step))
    return PadCrop(op.x, index[0], index[1], loc=op.loc)


@rewrite
def pixels_of_pixels(op: PadCrop) -> Result:
    """pad_crop(pad_crop(x)) -> pad_crop(x)   where both fill with the same value, or one fills nothing"""
    inner = op.x.op
    if not isinstance(inner, PadCrop):
        return None
    filling = [p for p in (inner, op) if -1 in p.rows + p.columns]
    if len({p.value for p in filling}) > 1:
        return None
    rows, columns = (tuple(-1 if i < 0 else below[i] for i in index) for index, below in ((op.rows, inner.rows), (op.columns, inner.columns)))
    return PadCrop(inner.x, rows, columns, filling[0].value if filling else 0.0, loc=op.loc)


RULES = (pad_pixels, slice_pixels, pixels_of_pixels)
