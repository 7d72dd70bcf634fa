"""Padding, resizing and the shuffles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import ChannelShuffle, ConvTranspose2d, Pad, PixelShuffle, PixelUnshuffle, Upsample
from ...call import Call
from ...registry import converter


@converter("aten.constant_pad_nd.default")
def constant_pad(call: Call, x: Value, pad: Sequence[int], value: float = 0.0) -> Op | Value:
    return padded(call, x, pad, "constant", value)


@converter("aten.pad.default")
def padded(call: Call, x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Op | Value:
    """torch lists the last axis first."""
    rank = x.type.rank
    sides = [(0, 0)] * (rank - len(pad) // 2) + list(zip(pad[::2], pad[1::2]))[::-1]
    for axis, side in enumerate(sides):
        if side != (0, 0):
            call.static(x, axis)
    if all(side == (0, 0) for side in sides):
        return x
    return Pad(x, tuple(p for side in sides for p in side), mode, float(value or 0.0))


def _register_pad(mode: str, *targets: str) -> None:
    @converter(*targets)
    def convert(call: Call, x: Value, pad: Sequence[int]) -> Op | Value:
        return padded(call, x, pad, mode)


_register_pad("reflect", "aten.reflection_pad1d.default", "aten.reflection_pad2d.default", "aten.reflection_pad3d.default")
_register_pad("replicate", "aten.replication_pad1d.default", "aten.replication_pad2d.default", "aten.replication_pad3d.default")
_register_pad("circular", "aten._pad_circular.default")


@converter("aten.upsample_nearest2d.vec", "aten.upsample_nearest1d.vec", symbolic=True)
def nearest_vec(call: Call, x: Value, size: Sequence[int] | None, scales: Sequence[float] | None) -> Value:
    return _upsample(call, x, "nearest", False, scales)


@converter("aten.upsample_nearest2d.default")
def nearest(call: Call, x: Value, size: Sequence[int], scale_h: float | None = None, scale_w: float | None = None) -> Value:
    return _upsample(call, x, "nearest", False, _both(scale_h, scale_w))


@converter("aten.upsample_nearest1d.default")
def nearest1d(call: Call, x: Value, size: Sequence[int], scale: float | None = None) -> Value:
    return _upsample(call, x, "nearest", False, None if scale is None else [scale])


@converter("aten.upsample_bilinear2d.vec", "aten.upsample_linear1d.vec", symbolic=True)
def bilinear_vec(call: Call, x: Value, size: Sequence[int] | None, align_corners: bool, scales: Sequence[float] | None) -> Value:
    return _upsample(call, x, "bilinear", align_corners, scales)


@converter("aten.upsample_bilinear2d.default")
def bilinear(call: Call, x: Value, size: Sequence[int], align_corners: bool, scale_h: float | None = None, scale_w: float | None = None) -> Value:
    return _upsample(call, x, "bilinear", align_corners, _both(scale_h, scale_w))


@converter("aten.upsample_linear1d.default")
def linear1d(call: Call, x: Value, size: Sequence[int], align_corners: bool, scale: float | None = None) -> Value:
    return _upsample(call, x, "bilinear", align_corners, None if scale is None else [scale])


def _both(h: float | None, w: float | None) -> list[float] | None:
    return None if h is None or w is None else [h, w]


def _upsample(call: Call, x: Value, mode: str, align_corners: bool, scales: Sequence[float] | None) -> Value:
    """One-dimensional signals are images of height 1."""
    flat = x.type.rank == 3
    dims = call.dims(x)
    image = call.reshape(x, (*dims[:2], 1, dims[2])) if flat else x
    height, width = (1, call.sizes[-1]) if flat else call.sizes[-2:]
    given = [float(s) for s in scales] if scales else []
    if flat and given:
        given = [1.0, *given]
    pair = (given[0], given[-1]) if given else None
    return call.reshape(Upsample(image, (height, width), mode, align_corners, pair), call.shape)


@converter("aten.pixel_shuffle.default")
def pixel_shuffle(call: Call, x: Value, factor: int) -> Value:
    return _rearranged(call, PixelShuffle, x, factor)


@converter("aten.pixel_unshuffle.default")
def pixel_unshuffle(call: Call, x: Value, factor: int) -> Value:
    return _rearranged(call, PixelUnshuffle, x, factor)


def _rearranged(call: Call, kind: type[Op], x: Value, factor: int) -> Value:
    """Leading dimensions, however many, are the batch of the op."""
    dims = call.dims(x)
    lead = -1 if -1 in dims[:-3] else x.type.size // (x.shape[-3] * x.shape[-2] * x.shape[-1])
    return call.reshape(kind(call.reshape(x, (lead, *dims[-3:])), factor), call.shape)


@converter("aten.col2im.default")
def fold(
    call: Call, x: Value, size: Sequence[int], kernel: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> Value:
    """Sum of overlapping patches: a transposed convolution whose weights put each entry of a patch in its place.

    x (N, C*kh*kw, windows) or without N.
    """
    taps = kernel[0] * kernel[1]
    channels = x.shape[-2] // taps
    windows = [(size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    # what the last window does not reach is zero
    rest = tuple(size[i] - ((windows[i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + 1) for i in (0, 1))
    lead = call.dims(x)[:-2] or (1,)
    patches = call.reshape(x, (*lead, x.shape[-2], *windows))
    one_hot = np.tile(np.eye(taps).reshape(taps, 1, *kernel), (channels, 1, 1, 1))
    op = ConvTranspose2d(
        patches,
        call.const(one_hot, call.elem),
        None,
        stride=(stride[0], stride[1]),
        padding=(padding[0], padding[1]),
        output_padding=(rest[0], rest[1]),
        dilation=(dilation[0], dilation[1]),
        groups=channels,
    )
    return call.reshape(op, call.shape)


@converter("aten.channel_shuffle.default", "aten.native_channel_shuffle.default")
def channel_shuffle(call: Call, x: Value, groups: int) -> Op:
    return ChannelShuffle(x, groups)
