"""Rules for operators that move elements: chains of them become one strided copy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ....ir.op import Const, Value
from ....ir.ops import Add, Expand, IndexSelect, Mul, PixelUnshuffle, Reshape, Slice, Transpose, Upsample
from ....ir.rewrite import Result, rewrite
from ...tile.moves import AsStrided
from ...tile.ops import INTEGERS


@rewrite
def transpose_to_reshape(op: Transpose) -> Result:
    """transpose(x) -> reshape(x)   where the axes longer than 1 keep their order"""
    moved = [p for p in op.perm if op.x.shape[p] > 1]
    return Reshape(op.x, op.out.shape, loc=op.loc) if moved == sorted(moved) and list(op.perm) != sorted(op.perm) else None


@dataclass(frozen=True)
class View:
    """A strided view of a contiguous tensor: size and step of each axis, and the first element."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def through(self, op: Slice | Transpose | Expand | Reshape) -> View | None:
        """The view that an operator on this one reads; None where it has no fixed steps."""
        shape, strides = list(op.out.shape), list(self.strides)
        match op:
            case Slice(axis=axis, start=start, step=step):
                offset = self.offset + start * strides[axis]
                strides[axis] *= step
                return View(op.out.shape, tuple(strides), offset)
            case Transpose(perm=perm):
                return View(op.out.shape, tuple(strides[p] for p in perm), self.offset)
            case Expand():
                lead = len(shape) - len(strides)
                kept = [0 if old != new else stride for old, new, stride in zip(self.shape, shape[lead:], strides)]
                return View(op.out.shape, (*[0] * lead, *kept), self.offset)
        split = self.split(op.out.shape)
        return None if split is None else View(op.out.shape, split, self.offset)

    def after(self, chain: Sequence[Slice | Transpose | Expand | Reshape]) -> View | None:
        """The view that the last of a chain of operators reads; the chain is given last first."""
        view: View | None = self
        for op in reversed(chain):
            view = None if view is None else view.through(op)
        return view

    def split(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The steps after a reshape to `shape`: each run of axes with one common step may be split again; None where it is not possible."""
        old = [(n, s) for n, s in zip(self.shape, self.strides) if n > 1]
        strides: list[int] = []
        left, step = 1, 0
        for size in reversed(shape):
            if size == 1:
                strides.append(0)
                continue
            while left == 1 or left % size:
                # add the next axis, which must continue the current run
                if not old or (left > 1 and old[-1][1] != step * left):
                    return None
                n, s = old.pop()
                left, step = (n, s) if left == 1 else (left * n, step)
            strides.append(step)
            left, step = left // size, step * size
        return tuple(reversed(strides))


@rewrite
def moves_are_one(op: Slice | Transpose | Expand) -> Result:
    """slice(transpose(reshape(slice(x)))) -> as_strided(x)   of two moves or more, where the whole has fixed steps"""
    chain: list[Slice | Transpose | Expand | Reshape] = [op]
    while isinstance(chain[-1].x.op, (Slice, Transpose, Expand, Reshape)):
        chain.append(chain[-1].x.op)
    below = chain[-1].x.op
    if isinstance(below, AsStrided):
        view = View(below.shape, below.strides, below.offset).after(chain)
        if view is not None:
            return AsStrided(below.x, view.shape, view.strides, view.offset, loc=op.loc)
    # moves before a reshape that cannot be crossed stay
    while (view := contiguous(chain[-1].x.shape).after(chain)) is None:
        chain.pop()
    if sum(not isinstance(step, Reshape) for step in chain) < 2:
        return None
    return AsStrided(chain[-1].x, view.shape, view.strides, view.offset, loc=op.loc)


def contiguous(shape: tuple[int, ...]) -> View:
    return View(shape, tuple(math.prod(shape[i + 1 :]) for i in range(len(shape))))


@rewrite
def pixel_unshuffle(op: PixelUnshuffle) -> Result:
    """pixel_unshuffle(x, f) -> reshape(transpose(reshape(x, [N, C, H, f, W, f]), [0, 1, 3, 5, 2, 4]))"""
    n, c, h, w = op.x.shape
    f = op.factor
    apart = Reshape(op.x, (n, c, h // f, f, w // f, f), loc=op.loc)
    return Reshape(Transpose(apart, (0, 1, 3, 5, 2, 4), loc=op.loc), op.out.shape, loc=op.loc)


@rewrite
def upsample_of_doubles(op: Upsample) -> Result:
    """upsample(x) -> x[:, :, rows][..., columns] (nearest),   sums of two such, each times its weights (bilinear);   where x is not a feature map"""
    if op.x.type.elem in ("f32", *INTEGERS):
        return None
    h, w = op.x.shape[2:]
    if op.mode == "nearest":
        rows, columns = (resized(op, np.arange(size), axis) for axis, size in enumerate((h, w)))
        picked = IndexSelect(op.x, Const(rows.round().astype(np.int64)), 2, loc=op.loc)
        return IndexSelect(picked, Const(columns.round().astype(np.int64)), 3, loc=op.loc)
    y = op.x
    for axis, size in enumerate((h, w)):
        y = _between(y, np.stack([resized(op, unit, axis) for unit in np.eye(size)], 1), axis, op)
    return y


def _between(x: Value, weights: np.ndarray, axis: int, op: Upsample) -> Value:
    """weights (results, pixels) @ x along H (axis 0) or W (1), where each result lies between two pixels: it reads no others."""
    pixels = [np.flatnonzero(row) for row in weights]
    first, last = (np.array([p[end] for p in pixels], np.int64) for end in (0, -1))
    each = np.arange(len(weights))
    shares = weights[each, first], np.where(last > first, weights[each, last], 0)
    shape = (-1, 1) if axis == 0 else (-1,)
    parts = [
        Mul(IndexSelect(x, Const(place), 2 + axis, loc=op.loc), Const(share.astype(x.type.dtype).reshape(shape)), loc=op.loc)
        for place, share in zip((first, last), shares)
    ]
    return Add(*parts, loc=op.loc).out


def resized(op: Upsample, line: np.ndarray, axis: int) -> np.ndarray:
    """A line of pixels along H (axis 0) or W (1), in float64, as `op` resizes it. The other axis keeps one pixel."""
    import torch

    x = torch.from_numpy(line.astype(np.float64)).reshape((1, 1, -1, 1) if axis == 0 else (1, 1, 1, -1))
    size = (op.size[0], 1) if axis == 0 else (1, op.size[1])
    scales = None if op.scales is None else ((op.scales[0], 1.0) if axis == 0 else (1.0, op.scales[1]))
    y: np.ndarray = op.rebuilt(size=size, scales=scales).evaluate(x).numpy().reshape(-1)
    return y


RULES = (transpose_to_reshape, pixel_unshuffle, upsample_of_doubles)
