"""Resizing and rearranging of images and channels; x is (N, C, H, W)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..op import Op, Value
from ..ties import Tie, per_group, same, same_but
from ..types import Tensor
from .check import at_least, floats, movable, rank

if TYPE_CHECKING:
    import torch


class Upsample(Op, name="nn.upsample"):
    """Resize H and W to `size`.

    nearest reads x[floor(i * r)]; bilinear samples at (i + 0.5) * r - 0.5, at least 0, or at i * (H-1) / (h-1) with `align_corners`.
    r is H / h, or 1 / scale when torch was given explicit `scales`.
    """

    feature_map = True

    x: Value
    size: tuple[int, int]
    mode: str = "nearest"
    align_corners: bool = False
    scales: tuple[float, float] | None = None

    def infer(self) -> Tensor:
        elem = movable(self, boolean=False) if self.mode == "nearest" else floats(self, "x")
        n, c, _, _ = rank(self, "x", 4, "(N, C, H, W)")
        h, w = at_least(self, "size", 2, 1)
        if self.mode not in ("nearest", "bilinear"):
            raise self.fail(f"mode must be 'nearest' or 'bilinear', got {self.mode!r}")
        if self.align_corners and self.mode == "nearest":
            raise self.fail("align_corners belongs to mode 'bilinear', got it with 'nearest'")
        if self.scales is not None and (len(self.scales) != 2 or min(self.scales) <= 0):
            raise self.fail(f"scales must be two positive numbers, got {self.scales}")
        return Tensor((n, c, h, w), elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        sh, sw = self.scales or (None, None)
        y: torch.Tensor
        if self.mode == "nearest":
            # float64 holds every stored integer
            x = xs[0] if xs[0].is_floating_point() else xs[0].double()
            y = torch.ops.aten.upsample_nearest2d(x, self.size, sh, sw).to(xs[0].dtype)
        else:
            y = torch.ops.aten.upsample_bilinear2d(xs[0], self.size, self.align_corners, sh, sw)
        return y

    def ties(self) -> Iterable[Tie]:
        return same_but(self.x, self.out, 2, 3)


class PixelShuffle(Op, name="nn.pixel_shuffle"):
    """(N, C*f*f, H, W) -> (N, C, H*f, W*f) (1609.05158)"""

    selects = True
    feature_map = True

    x: Value
    factor: int

    def infer(self) -> Tensor:
        elem = movable(self)
        n, c, h, w = rank(self, "x", 4, "(N, C*f*f, H, W)")
        f = self.factor
        if f < 1 or c % (f * f):
            raise self.fail(f"channels must be a multiple of factor squared, got {c} channels and factor {f}")
        return Tensor((n, c // (f * f), h * f, w * f), elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch.nn.functional as F

        return F.pixel_shuffle(xs[0], self.factor)

    def ties(self) -> Iterable[Tie]:
        every = np.arange(self.x.shape[1])
        return [same(self.x, 0, self.out, 0), Tie(self.x, 1, every, self.out, 1, every // self.factor**2)]


class PixelUnshuffle(Op, name="nn.pixel_unshuffle"):
    """(N, C, H*f, W*f) -> (N, C*f*f, H, W)"""

    selects = True

    x: Value
    factor: int

    def infer(self) -> Tensor:
        elem = movable(self)
        n, c, h, w = rank(self, "x", 4, "(N, C, H*f, W*f)")
        f = self.factor
        if f < 1 or h % f or w % f:
            raise self.fail(f"height and width must be multiples of factor, got {h}x{w} and factor {f}")
        return Tensor((n, c * f * f, h // f, w // f), elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch.nn.functional as F

        return F.pixel_unshuffle(xs[0], self.factor)

    def ties(self) -> Iterable[Tie]:
        every = np.arange(self.out.shape[1])
        return [same(self.x, 0, self.out, 0), Tie(self.x, 1, every // self.factor**2, self.out, 1, every)]


class ChannelShuffle(Op, name="nn.channel_shuffle"):
    """Channel g*C/groups + i goes to i*groups + g (ShuffleNet, 1707.01083)."""

    selects = True

    x: Value
    groups: int

    def infer(self) -> Tensor:
        elem = movable(self)
        if self.x.type.rank < 2 or self.groups < 1 or self.x.shape[1] % self.groups:
            raise self.fail(f"x must be (N, C, ...) with C a multiple of the {self.groups} groups, got shape {list(self.x.shape)}")
        return Tensor(self.x.shape, elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        x: torch.Tensor = xs[0]
        n, c, *rest = x.shape
        return x.reshape(n, self.groups, c // self.groups, *rest).transpose(1, 2).reshape(x.shape)

    def ties(self) -> Iterable[Tie]:
        """Channels to their new places; groups stay of one size."""
        every = np.arange(self.x.shape[1])
        size = len(every) // self.groups
        moved = Tie(self.x, 1, every, self.out, 1, every % size * self.groups + every // size)
        return [*same_but(self.x, self.out, 1), moved, per_group(self.x, 1, self.groups)]
