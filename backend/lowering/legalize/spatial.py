"""Transposed convolutions, depthwise convolutions with a multiplier, and pixel shuffles: all through a convolution and depth-to-space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....ir.op import Const, Loc, Op, Value
from ....ir.ops import Conv2d, ConvTranspose2d, PixelShuffle, Reshape, Slice, Transpose
from ....ir.rewrite import Result, Rewrite, refuse, rewrite
from ...tile.integer import IntConv2d, IntConvTranspose2d
from ...tile.moves import DepthToSpace
from ...tile.ops import INTEGER_BLOCK, INTEGERS, ChannelGather
from .channels import is_map


def spread(channels: int, lanes: int) -> int:
    """Channels from one phase to the next in a map that depth-to-space reads: whole blocks, unless that would mostly compute nothing."""
    wide = -(-channels // lanes) * lanes
    return wide if 2 * channels > wide else channels


def block_of(v: Value, lanes: int) -> int:
    """Channels in a block of a map."""
    return INTEGER_BLOCK if v.type.elem in INTEGERS else lanes


def depth_to_space(x: Op | Value, factor: tuple[int, int], channels: int, crop: tuple[int, int], size: tuple[int, int], lanes: int, loc: Loc) -> Op:
    """Phases of `spread(channels)` channels become pixels: blocked, or by a transpose where phases are no whole blocks."""
    value = x.out if isinstance(x, Op) else x
    lanes = block_of(value, lanes)
    if value.type.elem in ("f32", *INTEGERS) and spread(channels, lanes) % lanes == 0:
        return DepthToSpace(value, factor, channels, crop, size, loc=loc)
    n, _, h, w = value.shape
    apart = Reshape(value, (n, *factor, channels, h, w), loc=loc)
    result: Op = Reshape(Transpose(apart, (0, 3, 4, 1, 5, 2), loc=loc), (n, channels, h * factor[0], w * factor[1]), loc=loc)
    for axis in (2, 3):
        first, count = crop[axis - 2], size[axis - 2]
        if (first, count) != (0, result.out.shape[axis]):
            result = Slice(result, axis, first, first + count, loc=loc)
    return result


@dataclass(frozen=True)
class Phases:
    """One axis of a transposed convolution: y[p] = sum of x[q - j] * w[k] over k * dilation = r + stride * j,   p + padding = q * stride + r.

    So each of the `stride` phases r is a convolution of x with `taps` taps at distance `step`; its results q = first … last are needed.
    """

    kernel: int
    stride: int
    dilation: int
    padding: int
    size: int
    out: int

    @property
    def step(self) -> int:
        return self.dilation if self.stride == 1 else 1

    @property
    def taps(self) -> int:
        return self.kernel if self.stride == 1 else (self.kernel - 1) * self.dilation // self.stride + 1

    @property
    def first(self) -> int:
        return self.padding // self.stride

    @property
    def last(self) -> int:
        return (self.padding + self.out - 1) // self.stride

    @property
    def crop(self) -> int:
        """PadCrop before the first of the result, once phases are pixels."""
        return self.padding - self.first * self.stride

    @property
    def pads(self) -> tuple[int, int]:
        """Zeros before and behind x; negative where its ends are never read."""
        return self.step * (self.taps - 1) - self.first, self.last - self.size + 1

    def kernels(self, w: np.ndarray, axis: int) -> np.ndarray:
        """Kernel of each phase along an axis of w, which becomes (stride, taps); a phase's last tap reads the earliest pixel, so they are flipped."""
        w = np.moveaxis(w, axis, -1)
        result = np.zeros((*w.shape[:-1], self.stride, self.taps), w.dtype)
        for r in range(self.stride):
            for j in range(self.taps):
                k, rest = (j, 0) if self.stride == 1 else divmod(r + self.stride * j, self.dilation)
                if not rest and k < self.kernel:
                    result[..., r, self.taps - 1 - j] = w[..., k]
        return result


def rules(lanes: int) -> tuple[Rewrite, ...]:
    """The patterns for a vector width."""

    @rewrite
    def conv_transpose_by_phases(op: ConvTranspose2d | IntConvTranspose2d) -> Result:
        """conv_transpose2d(x, w, b) -> depth_to_space(conv2d(x, w', b')), cropped

        y[o, i] = b[o] + sum over c, k, m with m*stride + k*dilation = i + padding of x[c, m] * w[c, o, k]. With i + padding = q*stride + r only
        k*dilation = r + stride*j contributes, from pixel m = q - j: phase r is a convolution by
        w'[r, o, c, J-1-j] = w[c, o, (r + stride*j) / dilation] (0 where that is no tap), J = (kernel-1)*dilation/stride + 1.
        At stride 1 that is one convolution with the flipped kernel, dilated as before.
        """
        if not isinstance(op.w.op, Const) or not (op.b is None or isinstance(op.b.op, Const)):
            return refuse("the weights are computed")
        given = op.b.op if op.b is not None else None
        axes = [Phases(op.w.shape[2 + i], op.stride[i], op.dilation[i], op.padding[i], op.x.shape[2 + i], op.out.shape[2 + i]) for i in (0, 1)]
        groups, per_group = op.groups, op.w.shape[1]
        channels, phases = groups * per_group, op.stride[0] * op.stride[1]
        wide = spread(channels, block_of(op.x, lanes)) if phases > 1 and op.x.type.elem in ("f32", *INTEGERS) else channels
        w = op.w.op.array.reshape(groups, -1, per_group, *op.w.shape[2:])
        # (groups, C/groups, O/groups, sh, jh, sw, jw) -> (groups, sh, sw, O/groups, C/groups, jh, jw)
        w = axes[1].kernels(axes[0].kernels(w, 3), 3).transpose(0, 3, 5, 2, 1, 4, 6)
        b = given.array if isinstance(given, Const) else np.zeros(channels, w.dtype)
        b = np.broadcast_to(b.reshape(groups, 1, per_group), (groups, phases, per_group))
        w = w.reshape(groups, phases, per_group, *w.shape[4:])
        if groups == 1:
            w, b = (np.concatenate([a, np.zeros((1, phases, wide - channels, *a.shape[3:]), a.dtype)], 2) for a in (w, b))
        x: Op | Value = op.x
        pads = []
        for i, axis in enumerate(axes):
            lo, hi = axis.pads
            if min(lo, hi) < 0:
                size = op.x.shape[2 + i]
                x = Slice(x, 2 + i, max(-lo, 0), size - max(-hi, 0), loc=op.loc)
            pads += [max(lo, 0), max(hi, 0)]
        bias = None if given is None else Const(np.ascontiguousarray(b.reshape(-1)), loc=given.loc)
        weight = Const(np.ascontiguousarray(w.reshape(-1, *w.shape[3:])), loc=op.w.op.loc)
        geometry = ((1, 1), (pads[0], pads[1], pads[2], pads[3]), (axes[0].step, axes[1].step), groups)
        y: Op
        if isinstance(op, IntConvTranspose2d):
            y = IntConv2d(x, weight, bias, *geometry, op.zero, loc=op.loc)
        else:
            y = Conv2d(x, weight, bias, *geometry, loc=op.loc)
        if phases == 1:
            return y
        if groups > 1:
            order = [(g * phases + r) * per_group + o for r in range(phases) for g in range(groups) for o in range(per_group)]
            y = ChannelGather([y.out], padded(order, phases, channels, wide), loc=op.loc)
        h, w_ = op.out.shape[2:]
        return depth_to_space(y, op.stride, channels, (axes[0].crop, axes[1].crop), (h, w_), lanes, op.loc)

    @rewrite
    def pixel_shuffle(op: PixelShuffle) -> Result:
        """pixel_shuffle(conv2d(x, w, b), f) -> depth_to_space(conv2d(x, w', b'), f)   w', b': channel c*f*f + phase becomes phase*C + c

        Of another map: depth_to_space(gather(x)). Of what is no map: reshape(transpose(reshape(x, [N, C, f, f, H, W]), [0, 1, 4, 2, 5, 3])).
        """
        f, (n, c, h, w) = op.factor, op.x.shape
        channels, phases = c // (f * f), f * f
        wide = spread(channels, block_of(op.x, lanes))
        if not is_map(op.x) or wide % block_of(op.x, lanes):
            apart = Reshape(op.x, (n, channels, f, f, h, w), loc=op.loc)
            return Reshape(Transpose(apart, (0, 1, 4, 2, 5, 3), loc=op.loc), op.out.shape, loc=op.loc)
        order = padded([o * phases + r for r in range(phases) for o in range(channels)], phases, channels, wide)
        y: Op
        match op.x.op:
            case Conv2d(w=Value(op=Const() as weight), b=None | Value(op=Const()), groups=1) as conv if op.x.single_use:
                index = np.array(order)
                bias = None if conv.b is None else Const(conv.b.op.array[index])  # type: ignore[union-attr]
                y = conv.rebuilt(w=Const(weight.array[index], loc=weight.loc), b=bias)
            case _:
                y = ChannelGather([op.x], order, loc=op.loc)
        return depth_to_space(y, (f, f), channels, (0, 0), (h * f, w * f), lanes, op.loc)

    return (conv_transpose_by_phases, pixel_shuffle, depthwise_multiplier)


def padded(order: list[int], phases: int, channels: int, wide: int) -> tuple[int, ...]:
    """`channels` channels for each phase, made `wide` by repeating the last: what stands there is never read."""
    return tuple(order[r * channels + min(o, channels - 1)] for r in range(phases) for o in range(wide))


@rewrite
def depthwise_multiplier(op: Conv2d) -> Result:
    """conv2d(x, w, groups = C), O = m*C -> conv2d(gather(x: each channel m times), w, groups = O)"""
    c, o = op.x.shape[1], op.w.shape[0]
    if op.groups == 1 or op.groups != c or o == c:
        return None
    repeated = ChannelGather([op.x], tuple(i // (o // c) for i in range(o)), loc=op.loc)
    return op.rebuilt(x=repeated.out, groups=o)
