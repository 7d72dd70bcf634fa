"""Convolutions in three dimensions: sums, over the taps along depth, of convolutions of planes."""

from __future__ import annotations

from collections.abc import Sequence

from ....ir.op import Op, Value
from ....ir.ops import Add, Conv2d, ConvTranspose2d, Pad, Slice, Transpose
from ...call import Call


def convolution3d(
    call: Call, x: Value, w: Value, b: Value | None, stride: Sequence[int], sides: Sequence[int], dilation: Sequence[int], groups: int
) -> Value:
    """y[:, :, i] = sum over k of conv2d(x[:, :, i*stride + k*dilation - front], w[:, :, k]); x (N, C, D, H, W), sides (front, back, top, …)."""
    planes, (n, c, _, height, width) = _planes(call, x)
    front, back, *rest = sides
    if front or back:
        planes = Pad(planes, (0, 0, front, back, *(0,) * 6)).out
    depth = (planes.shape[1] - dilation[0] * (w.shape[2] - 1) - 1) // stride[0] + 1
    total: Value | None = None
    for k in range(w.shape[2]):
        first = k * dilation[0]
        taken = planes
        if (first, depth, stride[0]) != (0, planes.shape[1], 1):
            taken = Slice(planes, 1, first, first + (depth - 1) * stride[0] + 1, stride[0]).out
        images = call.reshape(taken, (_times(n, depth), c, height, width))
        kernel = call.reshape(Slice(w, 2, k, k + 1), (*w.shape[:2], *w.shape[3:]))
        padding = (rest[0], rest[1], rest[2], rest[3])
        y = Conv2d(images, kernel, b if k == 0 else None, (stride[1], stride[2]), padding, (dilation[1], dilation[2]), groups).out
        total = y if total is None else Add(total, y).out
    assert total is not None
    return _volume(call, total, n, depth)


def transposed_convolution3d(
    call: Call,
    x: Value,
    w: Value,
    b: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Value:
    """y[:, :, i*stride + k*dilation - front] += conv_transpose2d(x[:, :, i], w[:, :, k])"""
    planes, (n, c, size, height, width) = _planes(call, x)
    images = call.reshape(planes, (_times(n, size), c, height, width))
    depth = (size - 1) * stride[0] - 2 * padding[0] + dilation[0] * (w.shape[2] - 1) + output_padding[0] + 1
    total: Value | None = None
    for k in range(w.shape[2]):
        kernel = call.reshape(Slice(w, 2, k, k + 1), (*w.shape[:2], *w.shape[3:]))
        pair = (padding[1], padding[2]), (output_padding[1], output_padding[2])
        y: Op = ConvTranspose2d(images, kernel, None, (stride[1], stride[2]), *pair, (dilation[1], dilation[2]), groups)
        channels, rows, columns = y.out.shape[1:]
        apart = call.reshape(y, (n, size, 1, channels, rows, columns))
        if stride[0] > 1:
            apart = Pad(apart, (0, 0, 0, 0, 0, stride[0] - 1, *(0,) * 6)).out
        spread = call.reshape(apart, (n, size * stride[0], channels, rows, columns))
        first = k * dilation[0] - padding[0]
        moved = Pad(spread, (0, 0, first, depth - size * stride[0] - first, *(0,) * 6)).out if (first, depth) != (0, size * stride[0]) else spread
        total = moved if total is None else Add(total, moved).out
    assert total is not None
    if b is not None:
        total = Add(total, call.reshape(b, (b.type.size, 1, 1))).out
    return call.reshape(Transpose(total, (0, 2, 1, 3, 4)), call.shape)


def _planes(call: Call, x: Value) -> tuple[Value, tuple[int, ...]]:
    """x as (N, D, C, H, W), and its own sizes (N, C, D, H, W), -1 for the batch."""
    dims = call.dims(x)
    full = dims if len(dims) == 5 else (1, *dims)
    return Transpose(call.reshape(x, full), (0, 2, 1, 3, 4)).out, full


def _volume(call: Call, y: Value, n: int, depth: int) -> Value:
    """(N*D, C, H, W) as (N, C, D, H, W)"""
    return call.reshape(Transpose(call.reshape(y, (n, depth, *y.shape[1:])), (0, 2, 1, 3, 4)), call.shape)


def _times(n: int, count: int) -> int:
    return -1 if n < 0 else n * count
