"""Operators on packed bits: feature maps and weights of few levels in words of 32 channels, with element type i32.

A packed map is [image][plane][row][column][word]: plane m holds bit m of every stored integer, and bit i of word k that of channel 32 k + i.
Bits after the last channel are 0. Packed weights are [output][plane][kernel row][kernel column][word], or, for float inputs, words of
outputs: [kernel row][kernel column][channel][plane][word].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.op import Op, Value
from ...ir.ops import Math, MaxPool2d
from ...ir.ops.check import out_size
from ...ir.types import Tensor
from .integer import Rounding
from .ops import Blocked, logical_type, unpack_torch

if TYPE_CHECKING:
    import torch

#: Channels of a word.
WORD = 32


def words_of(channels: int) -> int:
    """Words that hold `channels` channels."""
    return -(-channels // WORD)


def pack_words(stored: np.ndarray, bits: int) -> np.ndarray:
    """Integers of `bits` bits (..., C) -> words (bits, ..., ceil(C / 32)) i32."""
    c = stored.shape[-1]
    padded = np.zeros((*stored.shape[:-1], words_of(c) * WORD), np.uint8)
    padded[..., :c] = stored
    planes = [np.packbits((padded >> m) & 1, axis=-1, bitorder="little") for m in range(bits)]
    return np.ascontiguousarray(np.stack(planes)).view(np.int32)


def unpack_words(words: np.ndarray, channels: int) -> np.ndarray:
    """Inverse of `pack_words`."""
    bytes_ = np.ascontiguousarray(words).view(np.uint8)
    planes = np.unpackbits(bytes_, axis=-1, bitorder="little")[..., :channels]
    result: np.ndarray = sum(plane << m for m, plane in enumerate(planes))
    return result.astype(np.uint8)


def packed_map(stored: torch.Tensor, bits: int) -> torch.Tensor:
    """(N, C, H, W) -> (N, bits, H, W, words)"""
    import torch

    words = pack_words(stored.permute(0, 2, 3, 1).contiguous().numpy(), bits)
    return torch.from_numpy(np.ascontiguousarray(words.swapaxes(0, 1)))


def unpacked_map(words: torch.Tensor, channels: int) -> torch.Tensor:
    """Inverse of `packed_map`, in float64."""
    import torch

    stored = unpack_words(np.ascontiguousarray(words.numpy().swapaxes(0, 1)), channels)
    return torch.from_numpy(stored).permute(0, 3, 1, 2).double()


def window_size(op: Any, size: Sequence[int], kernel: Sequence[int], dilation: Sequence[int], axis: int, ceil_mode: bool = False) -> int:
    """Number of windows of a convolution or pool along rows (axis 0) or columns (axis 1)."""
    return out_size(size[axis], kernel[axis], op.stride[axis], op.padding[2 * axis], op.padding[2 * axis + 1], dilation[axis], ceil_mode)


class PackLevels(Op, name="tile.pack_levels"):
    """(N, C, H, W), blocked or not -> packed map. bits 0: signs of f32, a bit is not (x < 0); else rint((2^k - 1) clip(x, 0, 1)) of f32, NaN as 0,
    or integers of k bits in u8 as they are."""

    x: Value
    bits: int

    def infer(self) -> Tensor:
        n, c, h, w = logical_type(self.x.type).shape
        if self.x.type.elem not in (("f32", "u8") if self.bits else ("f32",)):
            raise self.fail(f"x must hold f32, or integers in u8, got {self.x.type}")
        return Tensor((n, max(self.bits, 1), h, w, words_of(c)), "i32")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        layout = self.x.type.layout
        x = xs[0] if layout is None else unpack_torch(xs[0], layout.channels)
        if not self.bits:
            return packed_map((~(x < 0)).byte(), 1)
        if self.x.type.elem == "u8":
            return packed_map(x, self.bits)
        return packed_map((x.where(x > 0, 0).clamp(max=1) * ((1 << self.bits) - 1)).round().byte(), self.bits)


class PackedConv(Op):
    """Geometry of a convolution of a packed map by packed weights (O, planes, kh, kw, words).

    signs: levels of x are -1 and 1 (one plane); else they are its stored integers. Levels of weights are odd, 2 v - (2^planes - 1). Of `channels`
    channels; the border of x counts as 0.
    """

    x: Value
    w: Value
    channels: int
    signs: bool
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    windowed = True
    contraction = True
    accumulates = True
    few_bits = True

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns of the window."""
        return self.w.shape[2], self.w.shape[3]

    @property
    def map_shape(self) -> tuple[int, int, int, int]:
        """(N, O, oh, ow); raises where the words do not fit."""
        n, planes, *size, words = self.x.shape
        o, _, *kernel, own = self.w.shape
        if self.x.type.elem != "i32" or self.w.type.elem != "i32" or not words == own == words_of(self.channels):
            raise self.fail(f"x and w must hold words of {self.channels} channels, got {self.x.type} and {self.w.type}")
        if self.signs and planes != 1:
            raise self.fail(f"signs have one plane, got {planes}")
        oh, ow = (window_size(self, size, kernel, self.dilation, i) for i in (0, 1))
        return n, o, oh, ow

    def macs(self) -> int:
        n, o, oh, ow = self.map_shape
        return n * o * oh * ow * self.kernel[0] * self.kernel[1] * self.channels

    def sums(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """Accumulators (N, O, oh, ow) i32."""
        import torch
        import torch.nn.functional as F

        planes = w.shape[1]
        levels = unpacked_map(x, self.channels)
        levels = 2 * levels - 1 if self.signs else levels
        stored = unpack_words(np.ascontiguousarray(w.numpy().swapaxes(0, 1)), self.channels)
        weights = 2 * torch.from_numpy(stored).permute(0, 3, 1, 2).double() - ((1 << planes) - 1)
        top, bottom, left, right = self.padding
        return F.conv2d(F.pad(levels, (left, right, top, bottom)), weights, None, self.stride, 0, self.dilation).to(torch.int32)


class BitConv2d(PackedConv, name="nn.bit_conv2d"):
    """Sums of products of levels, in i32."""

    feature_map = True

    def infer(self) -> Tensor:
        return Tensor(self.map_shape, "i32")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        return self.sums(*xs)


class TileBitConv2d(Blocked, BitConv2d, name="tile.bit_conv2d"):
    plain = BitConv2d


class BitConv2dThreshold(PackedConv, name="tile.bit_conv2d_threshold"):
    """Convolution to a packed map: stored[o] = how many of t[o, :] the sum reaches, in `bits` bits."""

    t: Value
    bits: int

    def infer(self) -> Tensor:
        n, o, oh, ow = self.map_shape
        if self.t.type != Tensor((o, (1 << self.bits) - 1), "i32"):
            raise self.fail(f"t must be {[o, (1 << self.bits) - 1]} i32, got {self.t.type}")
        return Tensor((n, self.bits, oh, ow, words_of(o)), "i32")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        # operands are in the order of the fields
        x, w, t = xs
        t = t.reshape(1, t.shape[0], 1, 1, t.shape[1])
        return packed_map((self.sums(x, w).unsqueeze(-1) >= t).sum(-1).byte(), self.bits)


class WeightConv2d(Op, name="nn.bit_weight_conv2d"):
    """sum of x * (step * stored + first) of f32 x; w (kh, kw, C, planes, words of outputs)."""

    x: Value
    w: Value
    outputs: int
    step: int
    first: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    windowed = True
    feature_map = True
    contraction = True
    few_bits = True

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns of the window."""
        return self.w.shape[0], self.w.shape[1]

    def infer(self) -> Tensor:
        n, c, *size = self.x.shape
        if self.x.type.elem != "f32" or self.w.shape[2] != c or self.w.shape[4] != words_of(self.outputs):
            raise self.fail(f"x must hold f32 and w words of {self.outputs} outputs, got {self.x.type} and {self.w.type}")
        oh, ow = (window_size(self, size, self.kernel, self.dilation, i) for i in (0, 1))
        return Tensor((n, self.outputs, oh, ow), "f32")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch
        import torch.nn.functional as F

        x, w = xs
        stored = unpack_words(np.ascontiguousarray(np.moveaxis(w.numpy(), 3, 0)), self.outputs)
        weights = (torch.from_numpy(stored).permute(3, 2, 0, 1).double() * self.step + self.first).to(x.dtype)
        top, bottom, left, right = self.padding
        return F.conv2d(F.pad(x, (left, right, top, bottom)), weights, None, self.stride, 0, self.dilation)

    def macs(self) -> int:
        n, o, oh, ow = self.out.shape if self.out.type.layout is None else logical_type(self.out.type).shape
        return n * o * oh * ow * int(np.prod(self.w.shape[:3]))


class TileWeightConv2d(Blocked, WeightConv2d, name="tile.bit_weight_conv2d"):
    plain = WeightConv2d


class BitMaxPool2d(Op, name="tile.bit_max_pool2d"):
    """The largest stored integer of each window of a packed map; padding is left out."""

    x: Value
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    ceil_mode: bool = False

    @property
    def pixels(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        size = self.x.shape[2:4]
        oh, ow = (window_size(self, size, self.kernel, (1, 1), i, self.ceil_mode) for i in (0, 1))
        return oh, ow

    def infer(self) -> Tensor:
        n, planes, _, _, words = self.x.shape
        if self.x.type.elem != "i32":
            raise self.fail(f"x must hold words, got {self.x.type}")
        return Tensor((n, planes, *self.pixels, words), "i32")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        n, planes, h, w, words = self.x.shape
        pool = MaxPool2d(Value(Tensor((n, words * WORD, h, w), "i32")), self.kernel, self.stride, self.padding, ceil_mode=self.ceil_mode)
        return packed_map(pool.evaluate(unpacked_map(xs[0], words * WORD)).byte(), planes)


class Levels(Rounding, name="tile.levels"):
    """How many of the thresholds ts an accumulator reaches, as `to`; x and ts i32."""

    x: Value
    ts: list[Value]
    to: str = "u8"

    @property
    def elem(self) -> str:
        return self.to

    def f(self, m: Math, x: Any, *ts: Any) -> Any:
        ts = tuple(ts[0]) if len(ts) == 1 and isinstance(ts[0], list) else ts
        count = m.where(x >= ts[0], m.const(x, 1), m.const(x, 0))
        for t in ts[1:]:
            count = count + m.where(x >= t, m.const(x, 1), m.const(x, 0))
        return m.cast(count, self.to)


__all__ = [
    "WORD",
    "BitConv2d",
    "BitConv2dThreshold",
    "BitMaxPool2d",
    "Levels",
    "PackLevels",
    "PackedConv",
    "TileBitConv2d",
    "TileWeightConv2d",
    "WeightConv2d",
    "pack_words",
    "unpack_words",
    "words_of",
]
