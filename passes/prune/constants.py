"""The constant that a removed channel still contributes when its filters are zero: its bias, through norms and activations, to the next bias.

A contribution is one number per position of an axis. A convolution that pads with zeros gets the number in its border too, since a bias
does not know the border. Where a contribution is not one number (a product with something that varies, a pixel shuffle of different
biases), it counts as zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...ir.evaluate import to_numpy, to_torch
from ...ir.op import Const, Op, Value
from ...ir.ops import (
    AdaptivePool2d,
    AvgPool2d,
    BatchNorm,
    ChannelShuffle,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    Expand,
    GroupNorm,
    IndexSelect,
    Linear,
    Matmul,
    Mean,
    Mul,
    Pad,
    PixelShuffle,
    PixelUnshuffle,
    Pool2d,
    Prelu,
    ReduceMax,
    ReduceMin,
    Reshape,
    Slice,
    Sum,
    Transpose,
    Upsample,
)
from ...ir.ties import Mask, computed

F64 = NDArray[np.float64]


class Contributions:
    """Contributions of removed positions, value by value, in the order of the graph.

    Each is an array that broadcasts to the value's shape (an axis along which it is the same has size 1); nan where it is unknown or kept.
    """

    def __init__(self, removed: dict[Value, dict[int, Mask]]):
        self.removed = removed
        self._of: dict[Value, F64] = {}

    def along(self, value: Value, axis: int) -> F64:
        """One number for each position along the axis; zero where it is kept, unknown, or not one number."""
        lost = self.removed.get(value, {}).get(axis)
        known = self._of.get(value)
        if lost is None or known is None:
            return np.zeros(value.shape[axis])
        rows = np.moveaxis(known, axis, 0).reshape(known.shape[axis], -1)
        single = np.where((rows == rows[:, :1]).all(axis=1), rows[:, 0], 0)
        return np.where(lost, single, 0)

    def visit(self, op: Op) -> None:
        """Compute what the removed positions of the op's result hold; its operands must have been visited."""
        axes = self.removed.get(op.out)
        if axes is None or isinstance(op, Const) or not op.out.type.is_float:
            return
        numbers = _result(op, [self._of.get(v) for v in op.operands], axes)
        if numbers is None:
            return
        lost = np.zeros((1,) * op.out.type.rank, np.bool_)
        for axis, mask in axes.items():
            lost = lost | mask.reshape([-1 if i == axis else 1 for i in range(op.out.type.rank)])
        numbers = np.where(lost, numbers, np.nan)
        if not np.isnan(numbers).all():
            self._of[op.out] = numbers


def _result(op: Op, xs: Sequence[F64 | None], removed: dict[int, Mask]) -> F64 | None:
    """The contributions of a result from those of the operands, in the order of `op.operands`."""
    match op:
        case Conv2d(b=b) | ConvTranspose2d(b=b) | Linear(b=b):
            # its filters are zero
            bias = np.zeros(1) if b is None else array_of(b) if computed(b) else None
            return None if bias is None else bias.reshape(-1) if isinstance(op, Linear) else bias.reshape(1, -1, 1, 1)
        case Matmul():
            return np.zeros(1)
        case Elementwise():
            return _elementwise(op, xs)
        case Concat():
            return _concat(op, xs)
        case Pad():
            return _padded(op, np.full((1,) * op.x.type.rank, np.nan) if xs[0] is None else xs[0], removed)
    x = xs[0]
    if x is None:
        return None
    match op:
        case BatchNorm() | GroupNorm():
            return _norm(op, x)
        case Pool2d() | AdaptivePool2d() | Upsample() | PixelShuffle() | PixelUnshuffle() if x.shape[2:] != (1, 1):
            return None
        case AvgPool2d(divisor=int(divisor)):
            return x * (math.prod(op.kernel) / divisor)
        case Pool2d() | AdaptivePool2d() | Upsample():
            return x
        case PixelShuffle():
            parts = _full(x, op.x, 1).reshape(1, op.out.shape[1], -1, 1)
            same: F64 = np.where((parts == parts[:, :, :1]).all(axis=2, keepdims=True), parts[:, :, :1], np.nan)
            return same
        case PixelUnshuffle():
            repeated: F64 = np.repeat(_full(x, op.x, 1), op.factor**2, axis=1)
            return repeated
        case ChannelShuffle():
            y = _full(x, op.x, 1)
            return np.swapaxes(y.reshape(1, op.groups, -1, *y.shape[2:]), 1, 2).reshape(y.shape)
        case Mean() | Sum() | ReduceMax() | ReduceMin():
            times = math.prod(op.x.shape[a] for a in op.axes) if isinstance(op, Sum) else 1
            y = np.asarray(x.mean(axis=op.axes, keepdims=True), np.float64) * times
            return y if op.keepdim else y.reshape([s for i, s in enumerate(y.shape) if i not in op.axes])
        case Reshape():
            return _compressed(np.broadcast_to(x, op.x.shape).reshape(op.out.shape))
        case Expand():
            return x
        case Transpose():
            return x.transpose(op.perm)
        case Slice():
            return np.take(_full(x, op.x, op.axis), range(op.start, op.stop, op.step), op.axis)
        case IndexSelect(index=Value(op=Const() as index)):
            return np.take(_full(x, op.x, op.axis), index.array, op.axis)
    return None


def _elementwise(op: Elementwise, xs: Sequence[F64 | None]) -> F64:
    operands = [array_of(v) if computed(v) else np.full(1, np.nan) if x is None else x for v, x in zip(op.operands, xs)]
    if isinstance(op, Prelu):
        operands[1] = operands[1].reshape(-1, *[1] * (op.x.type.rank - 2))
    unknown = np.isnan(sum(operands[1:], operands[0]))
    tensors = [to_torch(np.asarray(np.nan_to_num(x))).to(to_torch(np.zeros(0, v.type.dtype)).double().dtype) for x, v in zip(operands, op.operands)]
    numbers = np.asarray(Elementwise.evaluate(op, *tensors).numpy(), np.float64)
    if isinstance(op, Mul):
        return np.where((operands[0] == 0) | (operands[1] == 0), 0, np.where(unknown, np.nan, numbers))
    return np.where(unknown, np.nan, numbers)


def _concat(op: Concat, xs: Sequence[F64 | None]) -> F64:
    parts = [np.full((1,) * v.type.rank, np.nan) if x is None else x for v, x in zip(op.xs, xs)]
    parts = [_full(p, v, op.axis) for p, v in zip(parts, op.xs)]
    shape = np.broadcast_shapes(*(tuple(1 if i == op.axis else s for i, s in enumerate(p.shape)) for p in parts))
    whole = [np.broadcast_to(p, [p.shape[op.axis] if i == op.axis else s for i, s in enumerate(shape)]) for p in parts]
    return np.concatenate(whole, op.axis)


def _norm(op: BatchNorm | GroupNorm, x: F64) -> F64 | None:
    constants = [v for v in op.operands[1:] if not computed(v)]
    if constants or any(s != 1 for s in (x.shape[0], *x.shape[2:])):
        return None
    y = _full(x, op.x, 1).reshape(-1)
    if isinstance(op, BatchNorm):
        y = (y - array_of(op.mean)) / np.sqrt(array_of(op.var) + op.eps)
    else:
        grouped = y.reshape(op.groups, -1)
        y = ((grouped - grouped.mean(1, keepdims=True)) / np.sqrt(grouped.var(1, keepdims=True) + op.eps)).reshape(-1)
    y = y * (1 if op.gamma is None else array_of(op.gamma)) + (0 if op.beta is None else array_of(op.beta))
    return y.reshape(x.shape[0], -1, *x.shape[2:])


def _padded(op: Pad, x: F64, removed: dict[int, Mask]) -> F64:
    """Padded along the axes that lose positions; along the others the border holds what the inside holds."""
    for axis, (lo, hi) in enumerate(zip(op.pads[::2], op.pads[1::2])):
        if (lo or hi) and (axis in removed or x.shape[axis] > 1):
            y = np.take(_full(x, op.x, axis), range(max(0, -lo), op.x.shape[axis] + min(0, hi)), axis)
            x = np.pad(y, [(max(0, lo), max(0, hi)) if i == axis else (0, 0) for i in range(y.ndim)], constant_values=op.value)
    return x


def _full(x: F64, value: Value, axis: int) -> F64:
    """Repeated along the axis to the size of the value's."""
    return np.broadcast_to(x, [value.shape[axis] if i == axis else s for i, s in enumerate(x.shape)])


def _compressed(x: F64) -> F64:
    """Size 1 along every axis that repeats one slice."""
    for axis in range(x.ndim):
        first = np.take(x, [0], axis)
        if ((x == first) | (np.isnan(x) & np.isnan(first))).all():
            x = first
    return x


def bias_of(op: Op, contributions: Contributions) -> F64 | None:
    """What each output channel of a layer gains by the removed positions of its input; None for nothing."""
    match op:
        case Conv2d() | ConvTranspose2d() if not op.depthwise and computed(op.w):
            v = contributions.along(op.x, 1).reshape(op.groups, -1)
            if not v.any():
                return None
            w = array_of(op.w).sum(axis=(2, 3))
            w = w.reshape(op.groups, -1, w.shape[1])
            if isinstance(op, Conv2d):
                gain: F64 = np.einsum("goc,gc->go", w, v).reshape(-1)
                return gain
            # with a stride, each phase of the result sums different taps: take the mean
            gain = np.einsum("gco,gc->go", w, v).reshape(-1) / math.prod(op.stride)
            return gain
        case Linear() if computed(op.w):
            v = contributions.along(op.x, op.x.type.rank - 1)
            return array_of(op.w) @ v if v.any() else None
        case Matmul() if computed(op.b) and op.b.type.rank == 2:
            v = contributions.along(op.a, op.a.type.rank - 1)
            return v @ array_of(op.b) if v.any() else None
    return None


def array_of(v: Value) -> F64:
    """The array, in float64, of a constant or of a value computed from constants alone."""
    op = v.op
    assert op is not None
    if isinstance(op, Const):
        return np.asarray(op.array).astype(np.float64)
    arguments = [None if (o := getattr(op, f.name)) is None else to_torch(array_of(o)) for f in op.operand_fields]
    return np.asarray(to_numpy(op.evaluate(*arguments)), np.float64)
