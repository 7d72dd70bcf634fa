"""Layers of low-bit networks on stored levels: conversions of floats to levels, and convolutions of levels.

A tensor of few levels is `!bits.affine` with one scale: real = scale * stored + offset. Its levels are integers, real = unit * level:

    signs        !bits.affine<u1, 2, -1>            -1, 1
    k bits       !bits.affine<uk, 1 / (2^k - 1), 0>       0 .. 2^k - 1
    weights of 3 !bits.affine<u2, 1, -1>            -1, 0, 1
    weights of k !bits.affine<uk, 2 / (2^k - 1), -1>      odd, -(2^k - 1) .. 2^k - 1

Scales of filters are multiplied afterwards, as ordinary constants. The padding of a convolution counts as 0 and adds nothing, also for signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..op import Op, Value
from ..types import STORAGE, BitsAffine, Elem, Tensor, Uniform
from .bits import check_bits
from .check import floats, has_shape
from .conv import Conv
from .namespace import torch_dtype

if TYPE_CHECKING:
    import torch

#: Elements of +-1 in one bit.
SIGNS = BitsAffine("u1", (2.0,), (-1.0,))
#: Weights of -1, 0 and 1 in two bits.
TERNARY = BitsAffine("u2", (1.0,), (-1.0,))


def unsigned_levels(bits: int) -> BitsAffine:
    """k bits of an activation: 0 .. 1 in steps of 1 / (2^k - 1)."""
    return BitsAffine(f"u{bits}", (1 / ((1 << bits) - 1),), (0.0,))


def weight_levels(bits: int) -> BitsAffine:
    """k bits of a weight: -1 .. 1 in steps of 2 / (2^k - 1); one bit is +-1."""
    return BitsAffine(f"u{bits}", (2 / ((1 << bits) - 1),), (-1.0,))


@dataclass(frozen=True)
class Levels:
    """The integers that a type of few levels stands for: level = step * stored + first, real = unit * level."""

    bits: int
    step: int
    first: int
    unit: float

    @property
    def last(self) -> int:
        """The level of the largest stored integer."""
        return self.first + self.step * ((1 << self.bits) - 1)

    @property
    def largest(self) -> int:
        """The largest magnitude."""
        return max(abs(self.first), abs(self.last))


def levels_of(op: Op, name: str) -> Levels:
    """Levels of an operand; fails unless it holds `!bits.affine` of one scale whose offset is a multiple of half a scale."""
    return levels(getattr(op, name).type.elem, lambda why: op.fail(f"{name} {why}"))


def levels(elem: Elem, fail: Any = ValueError) -> Levels:
    """Levels of an element type. Raises `fail(why)` for one that has none."""
    if not isinstance(elem, BitsAffine) or elem.axis is not None or elem.storage not in STORAGE:
        raise fail(f"must hold !bits.affine of one scale, got {elem}")
    bits, signed = STORAGE[elem.storage]
    if signed or bits > 8:
        raise fail(f"must be stored in u1 to u8, got {elem.storage}")
    halves = 2 * elem.offsets[0] / elem.scales[0]
    if abs(halves - round(halves)) > 1e-6:
        raise fail(f"must have an offset that is a multiple of half its scale, got {elem}")
    step = 1 if round(halves) % 2 == 0 else 2
    return Levels(bits, step, round(halves) * step // 2, elem.scales[0] / step)


class SignBit(Op, name="bits.sign_bit"):
    """+-1 of f32 x in one bit: 0 where x < 0, else 1."""

    x: Value

    def infer(self) -> Tensor:
        only_f32(self)
        return Tensor(self.x.shape, SIGNS)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        stored: torch.Tensor = (~(xs[0] < 0)).to(torch_dtype("u8"))
        return stored


class ToLevels(Op, name="bits.to_levels"):
    """rint((2^k - 1) clip(x, 0, 1)) of f32 x, halves to even, in k bits; NaN becomes 0."""

    x: Value
    bits: int

    def infer(self) -> Tensor:
        only_f32(self)
        check_bits(self, self.bits)
        return Tensor(self.x.shape, unsigned_levels(self.bits))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        (x,) = xs
        stored: torch.Tensor = (x.where(x > 0, 0).clamp(max=1) * ((1 << self.bits) - 1)).round().to(torch_dtype("u8"))
        return stored


class Threshold(Op, name="bits.threshold"):
    """stored[n, c, ...] = how many of t[c, :] the accumulator x[n, c, ...] reaches: batch norm, activation and quantization in one.

    x: i32 with one scale; t (C, levels - 1) i32, ascending along its rows; to: the type of the result.
    """

    x: Value
    t: Value
    to: BitsAffine

    def infer(self) -> Tensor:
        elem = self.x.type.elem
        if not isinstance(elem, Uniform) or elem.storage != "i32" or elem.axis is not None or self.x.type.rank < 2:
            raise self.fail(f"x must hold accumulators (N, C, ...) of one scale, got {self.x.type}")
        own = levels(self.to, self.fail)
        has_shape(self, "t", (self.x.shape[1], (1 << own.bits) - 1))
        if self.t.type.elem != "i32":
            raise self.fail(f"t must hold i32, got {self.t.type}")
        return Tensor(self.x.shape, self.to)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        x, t = xs
        t = t.reshape(1, t.shape[0], *[1] * (x.dim() - 2), t.shape[1])
        stored: torch.Tensor = (x.unsqueeze(-1) >= t).sum(-1).to(torch_dtype("u8"))
        return stored


class BitsConv2d(Conv, name="bits.conv2d"):
    """acc = sum of level_x * level_w, exact in i32, of scale unit_x unit_w; the padding of x counts as 0. Without bias, in one group."""

    windowed = True
    feature_map = True
    contraction = True
    accumulates = True
    few_bits = True

    def infer(self) -> Tensor:
        x, w = levels_of(self, "x"), levels_of(self, "w")
        check_layer(self)
        terms = int(np.prod(self.w.shape[1:]))
        if terms * x.largest * w.largest >= 2**31:
            raise self.fail(f"sums of {terms} products of up to {x.largest * w.largest} do not fit i32")
        return Tensor(self.out_shape(), Uniform("i32", (x.unit * w.unit,), (0,)))

    @property
    def bound(self) -> int:
        """Upper bound of the magnitude of an accumulator."""
        return int(np.prod(self.w.shape[1:])) * levels_of(self, "x").largest * levels_of(self, "w").largest

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        x, w = (v.double() * s.step + s.first for v, s in zip(xs, (levels_of(self, "x"), levels_of(self, "w"))))
        return convolved(self, x, w).to(torch.int32)


class BitsWeightConv2d(Conv, name="bits.weight_conv2d"):
    """sum of x * real(w), of f32 x and weights of few levels. Without bias, in one group."""

    windowed = True
    feature_map = True
    contraction = True
    few_bits = True

    def infer(self) -> Tensor:
        only_f32(self)
        levels_of(self, "w")
        check_layer(self)
        return Tensor(self.out_shape(), "f32")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        own = levels_of(self, "w")
        return convolved(self, xs[0], (xs[1].double() * own.step + own.first).to(xs[0].dtype)) * own.unit


def only_f32(op: Op) -> None:
    """Fail unless x holds f32."""
    if floats(op, "x") != "f32":
        raise op.fail(f"x must hold f32, got {getattr(op, 'x').type}")  # noqa: B009 - Op has no x


def check_layer(op: Conv) -> None:
    """Fail for a bias or groups."""
    if op.b is not None or op.groups != 1:
        raise op.fail("it has neither a bias nor groups: add the bias afterwards, and keep grouped convolutions as they are")


def convolved(op: Conv, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The convolution in torch, zeros around x."""
    import torch.nn.functional as F

    top, bottom, left, right = op.padding
    return F.conv2d(F.pad(x, (left, right, top, bottom)), w, None, op.stride, 0, op.dilation)
