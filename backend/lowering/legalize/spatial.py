"""Transposed convolutions, depthwise convolutions with a multiplier, and pixel shuffles, by a convolution with depth-to-space or a gather."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, groupby, product

import numpy as np

from ....ir.op import Const, Loc, Op, Value
from ....ir.ops import Conv2d, ConvTranspose2d, Expand, PixelShuffle, Reshape, Slice, Transpose
from ....ir.rewrite import Result, Rewrite, refuse, rewrite
from ...tile.integer import IntConv2d, IntConvTranspose2d
from ...tile.moves import DepthToSpace
from ...tile.ops import INTEGER_BLOCK, INTEGERS, ChannelGather
from .channels import is_map


def spread(channels: int, lanes: int) -> int:
    """Channels from one phase to the next in a feature map that depth-to-space reads: whole blocks, unless they would be mostly padding."""
    wide = -(-channels // lanes) * lanes
    return wide if 2 * channels > wide else channels


def block_of(v: Value, lanes: int) -> int:
    """Channels in a block of a feature map."""
    return INTEGER_BLOCK if v.type.elem in INTEGERS else lanes


def depth_to_space(x: Op | Value, factor: tuple[int, int], channels: int, crop: tuple[int, int], size: tuple[int, int], lanes: int, loc: Loc) -> Op:
    """Phases of `spread(channels)` channels become pixels: blocked, or by a transpose where phases are not whole blocks."""
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


Transposed = ConvTranspose2d | IntConvTranspose2d
#: Taps of a phase: which pixel before q each reads, and its place in the kernel.
Taps = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Phases:
    """One axis of a transposed convolution: y[p] = sum of x[q - j] * w[k] over k * dilation = r + stride * j,   p + padding = q * stride + r.

    So each of the `stride` phases r is a convolution of x with some `taps` at distance `step`; its results q = first … last are needed.
    """

    kernel: int
    stride: int
    dilation: int
    padding: int
    size: int
    out: int

    def taps(self, phase: int) -> Taps:
        """(j, k) for each tap of a phase; none for one that lies between the taps."""
        pairs = [(divmod(k * self.dilation - phase, self.stride), k) for k in range(self.kernel)]
        return tuple((j, k) for (j, rest), k in pairs if not rest)

    @property
    def first(self) -> int:
        return self.padding // self.stride

    @property
    def last(self) -> int:
        return (self.padding + self.out - 1) // self.stride

    @property
    def crop(self) -> int:
        """Pixels to crop before the first of the result, after depth-to-space."""
        return self.padding - self.first * self.stride

    def pads(self, taps: Taps) -> tuple[int, int]:
        """Zeros before and after x for taps j; negative where the ends of x are never read."""
        return taps[-1][0] - self.first, self.last - taps[0][0] - self.size + 1

    def step(self, taps: Taps) -> int:
        """Distance of the pixels that taps read."""
        return taps[1][0] - taps[0][0] if len(taps) > 1 else 1


@dataclass(frozen=True)
class Part:
    """Some phases as channels of a feature map, and the order in which depth-to-space reads them."""

    value: Value
    order: tuple[int, ...]


def axis_of(op: Transposed, i: int) -> Phases:
    return Phases(op.w.shape[2 + i], op.stride[i], op.dilation[i], op.padding[i], op.x.shape[2 + i], op.out.shape[2 + i])


def phase_convolutions(op: Transposed, lanes: int) -> Iterator[Part]:
    """The phases in order; neighbours that read the same pixels share one convolution.

    In a joint convolution, phases that read fewer pixels would multiply the rest by zeros: that costs time, and turns NaN and infinities into NaN.
    """
    axes = axis_of(op, 0), axis_of(op, 1)

    def pixels(phase: tuple[int, int]) -> list[list[int]]:
        along = [[j for j, _ in axis.taps(r)] for axis, r in zip(axes, phase)]
        return along if all(along) else []

    for _, among in groupby(product(range(op.stride[0]), range(op.stride[1])), pixels):
        yield _part(op, axes, list(among), lanes)


def _part(op: Transposed, axes: tuple[Phases, Phases], among: list[tuple[int, int]], lanes: int) -> Part:
    groups, per_group, count = op.groups, op.w.shape[1], len(among)
    channels = groups * per_group
    wide = spread(channels, block_of(op.x, lanes)) if op.stride != (1, 1) and op.x.type.elem in ("f32", *INTEGERS) else channels
    given = np.zeros(channels, op.out.type.dtype) if op.b is None else op.b.op.array  # type: ignore[union-attr]
    # (groups, phases, O/groups): each group's phases one after the other, each as wide as depth-to-space reads it
    b = np.broadcast_to(given.reshape(groups, 1, per_group), (groups, count, per_group))
    more = wide - channels if groups == 1 else 0
    b = np.pad(b, ((0, 0), (0, 0), (0, more)))
    taps = [axis.taps(r) for axis, r in zip(axes, among[0])]
    if all(taps):
        y = _convolution(op, axes, among, more, None if op.b is None else b.reshape(-1))
    else:
        # between the taps: only the bias
        size = [axis.last - axis.first + 1 for axis in axes]
        y = Expand(Const(np.ascontiguousarray(b.reshape(1, -1, 1, 1)), loc=op.loc), (op.x.shape[0], b.size, *size), loc=op.loc)
    order = [(g * count + r) * per_group + o for r in range(count) for g in range(groups) for o in range(per_group)]
    return Part(y.out, tuple(range(b.size)) if groups == 1 else padded(order, count, channels, wide))


def _convolution(op: Transposed, axes: tuple[Phases, Phases], among: list[tuple[int, int]], more: int, bias: np.ndarray | None) -> Op:
    """conv2d(x, w'[phase]) of phases that read the same pixels; `more` outputs of zeros after each."""
    w = op.w.op.array.reshape(op.groups, -1, *op.w.shape[1:]).swapaxes(1, 2)  # type: ignore[union-attr]
    kernels = []
    for phase in among:
        # a phase's last tap reads the earliest pixel, so they are flipped
        rows, columns = ([k for _, k in reversed(axis.taps(r))] for axis, r in zip(axes, phase))
        kernels.append(w[..., rows, :][..., columns])
    kernel = np.pad(np.stack(kernels, 1), ((0, 0), (0, 0), (0, more), (0, 0), (0, 0), (0, 0)))
    weight = Const(np.ascontiguousarray(kernel.reshape(-1, *kernel.shape[3:])), loc=op.w.op.loc)  # type: ignore[union-attr]
    x, pads = op.x, []
    for i, axis in enumerate(axes):
        lo, hi = axis.pads(axis.taps(among[0][i]))
        if min(lo, hi) < 0:
            x = Slice(x, 2 + i, max(-lo, 0), op.x.shape[2 + i] - max(-hi, 0), loc=op.loc).out
        pads += [max(lo, 0), max(hi, 0)]
    steps = [axis.step(axis.taps(among[0][i])) for i, axis in enumerate(axes)]
    b = None if bias is None else Const(np.ascontiguousarray(bias), loc=op.b.op.loc)  # type: ignore[union-attr]
    geometry = ((1, 1), (pads[0], pads[1], pads[2], pads[3]), (steps[0], steps[1]), op.groups)
    if isinstance(op, IntConvTranspose2d):
        return IntConv2d(x, weight, b, *geometry, op.zero, loc=op.loc)
    return Conv2d(x, weight, b, *geometry, loc=op.loc)


def rules(lanes: int) -> tuple[Rewrite, ...]:
    """The patterns for a vector width."""

    @rewrite
    def conv_transpose_by_phases(op: ConvTranspose2d | IntConvTranspose2d) -> Result:
        """conv_transpose2d(x, w, b) -> depth_to_space(gather(conv2d(x, w', b'), …)), cropped

        y[o, i] = b[o] + sum over c, k, m with m*stride + k*dilation = i + padding of x[c, m] * w[c, o, k]. With i + padding = q*stride + r only
        k*dilation = r + stride*j contributes, from pixel m = q - j: phase r is a convolution by the taps that it has, see `phase_convolutions`.
        At stride 1, or where the stride divides the kernel, all phases are one convolution and nothing is gathered.
        """
        if not isinstance(op.w.op, Const) or not (op.b is None or isinstance(op.b.op, Const)):
            return refuse("the weights are computed")
        parts = list(phase_convolutions(op, lanes))
        phases = op.stride[0] * op.stride[1]
        y = parts[0].value
        if phases == 1:
            return y
        channels = op.out.shape[1]
        if op.groups > 1 or len(parts) > 1:
            order = [start + c for start, part in zip(accumulate((p.value.shape[1] for p in parts), initial=0), parts) for c in part.order]
            y = ChannelGather([p.value for p in parts], tuple(order), loc=op.loc).out
        crop = (axis_of(op, 0).crop, axis_of(op, 1).crop)
        oh, ow = op.out.shape[2:]
        return depth_to_space(y, op.stride, channels, crop, (oh, ow), lanes, op.loc)

    @rewrite
    def pixel_shuffle(op: PixelShuffle) -> Result:
        """pixel_shuffle(conv2d(x, w, b), f) -> depth_to_space(conv2d(x, w', b'), f)   w', b': channel c*f*f + phase becomes phase*C + c

        Of another feature map: depth_to_space(gather(x)). Of other values: reshape(transpose(reshape(x, [N, C, f, f, H, W]), [0, 1, 4, 2, 5, 3])).
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
    """`channels` channels for each phase, padded to `wide` by repeating the last: the padding is never read."""
    return tuple(order[r * channels + min(o, channels - 1)] for r in range(phases) for o in range(wide))


@rewrite
def depthwise_multiplier(op: Conv2d) -> Result:
    """conv2d(x, w, groups = C), O = m*C -> conv2d(gather(x: each channel m times), w, groups = O)"""
    c, o = op.x.shape[1], op.w.shape[0]
    if op.groups == 1 or op.groups != c or o == c:
        return None
    repeated = ChannelGather([op.x], tuple(i // (o // c) for i in range(o)), loc=op.loc)
    return op.rebuilt(x=repeated.out, groups=o)
