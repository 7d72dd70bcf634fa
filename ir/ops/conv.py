"""Convolutions in two dimensions, and the geometry that quantized and packed forms share with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..op import Op, Value
from ..ties import Kept, Tie, computed, per_group, same
from ..types import Tensor
from .check import at_least, floats, has_shape, out_size, rank

if TYPE_CHECKING:
    import torch


class Conv(Op):
    """Geometry of a convolution: x (N, C, H, W), w (O, C/groups, kh, kw), b (O,); padding is (top, bottom, left, right)."""

    x: Value
    w: Value
    b: Value | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    learned: ClassVar[tuple[str, ...]] = ("w", "b")

    @property
    def kernel(self) -> tuple[int, int]:
        return self.w.shape[2], self.w.shape[3]

    @property
    def depthwise(self) -> bool:
        """One input channel per group."""
        return self.groups > 1 and self.groups == self.x.shape[1]

    def out_shape(self) -> tuple[int, int, int, int]:
        """(N, O, oh, ow); fails when operands and attributes do not fit."""
        n, c, *size = rank(self, "x", 4, "(N, C, H, W)")
        o, per_group, *kernel = rank(self, "w", 4, "(O, C/groups, kh, kw)")
        stride, dilation = at_least(self, "stride", 2, 1), at_least(self, "dilation", 2, 1)
        pads = at_least(self, "padding", 4, 0)
        if self.groups < 1 or c % self.groups or o % self.groups:
            raise self.fail(f"groups must divide the {c} input and {o} output channels, got {self.groups}")
        if per_group * self.groups != c:
            raise self.fail(f"w must have {c // self.groups} input channels ({c} in {self.groups} groups), got shape {list(self.w.shape)}")
        has_shape(self, "b", (o,))
        oh, ow = (out_size(size[i], kernel[i], stride[i], pads[2 * i], pads[2 * i + 1], dilation[i]) for i in (0, 1))
        if oh < 1 or ow < 1:
            raise self.fail(f"kernel {kernel} with dilation {list(dilation)} exceeds the padded input: x {list(self.x.shape)}, padding {list(pads)}")
        return n, o, oh, ow

    def macs(self) -> int:
        return math.prod(self.out.shape) * math.prod(self.w.shape[1:])


class Conv2d(Conv, name="nn.conv2d"):
    """y[n,o,i,j] = b[o] + sum over c, p, q of x[n, c, i*stride + p*dilation - top, j*stride + q*dilation - left] * w[o,c,p,q]; zeros outside x."""

    windowed = True
    feature_map = True
    contraction = True

    def infer(self) -> Tensor:
        return Tensor(self.out_shape(), floats(self, "x", "w", "b"))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch.nn.functional as F

        x, w, b = xs
        top, bottom, left, right = self.padding
        if top == bottom and left == right:
            return F.conv2d(x, w, b, self.stride, (top, left), self.dilation, self.groups)
        return F.conv2d(F.pad(x, (left, right, top, bottom)), w, b, self.stride, 0, self.dilation, self.groups)

    def ties(self) -> Iterator[Tie]:
        """Input channels with the second axis of w, output channels with its first; a depthwise channel with its own outputs."""
        yield same(self.x, 0, self.out, 0)
        if not computed(self.w):
            return
        yield same(self.w, 0, self.out, 1)
        if self.b is not None:
            yield same(self.b, 0, self.out, 1)
        channels, outputs = np.arange(self.x.shape[1]), np.arange(self.w.shape[0])
        if self.depthwise:
            yield Tie(self.w, 0, outputs, self.x, 1, outputs // (len(outputs) // self.groups))
            return
        yield Tie(self.x, 1, channels, self.w, 1, channels % self.w.shape[1])
        if self.groups > 1:
            yield per_group(self.w, 0, self.groups)

    def narrowed(self, kept: Kept, operands: dict[str, Any]) -> Op:
        return self.rebuilt(**operands, groups=int(kept(self.x, 1).sum()) if self.depthwise else self.groups)


class ConvTranspose(Op):
    """Geometry of a transposed convolution: x (N, C, H, W), w (C, O/groups, kh, kw), b (O,).

    Output size (H-1)*stride - 2*padding + dilation*(kh-1) + output_padding + 1.
    """

    windowed = True
    feature_map = True
    contraction = True

    x: Value
    w: Value
    b: Value | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    output_padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    learned = ("w", "b")

    def out_shape(self) -> tuple[int, int, int, int]:
        """(N, O, oh, ow); fails when operands and attributes do not fit."""
        n, c, *size = rank(self, "x", 4, "(N, C, H, W)")
        wc, per_group, *kernel = rank(self, "w", 4, "(C, O/groups, kh, kw)")
        stride, dilation = at_least(self, "stride", 2, 1), at_least(self, "dilation", 2, 1)
        pads, extra = at_least(self, "padding", 2, 0), at_least(self, "output_padding", 2, 0)
        if wc != c:
            raise self.fail(f"w must have {c} input channels, got shape {list(self.w.shape)}")
        if self.groups < 1 or c % self.groups:
            raise self.fail(f"groups must divide the {c} input channels, got {self.groups}")
        for i in (0, 1):
            if extra[i] >= max(stride[i], dilation[i]):
                raise self.fail(f"output_padding must be below stride or dilation, got {list(extra)} with {list(stride)} and {list(dilation)}")
        has_shape(self, "b", (per_group * self.groups,))
        oh, ow = ((size[i] - 1) * stride[i] - 2 * pads[i] + dilation[i] * (kernel[i] - 1) + extra[i] + 1 for i in (0, 1))
        if oh < 1 or ow < 1:
            raise self.fail(f"the result must not be empty, got {oh}x{ow} from x {list(self.x.shape)} and padding {list(pads)}")
        return n, per_group * self.groups, oh, ow

    def macs(self) -> int:
        return math.prod(self.x.shape) * math.prod(self.w.shape[1:])

    @property
    def kernel(self) -> tuple[int, int]:
        return self.w.shape[2], self.w.shape[3]

    @property
    def depthwise(self) -> bool:
        """One input channel per group."""
        return self.groups > 1 and self.groups == self.x.shape[1]


class ConvTranspose2d(ConvTranspose, name="nn.conv_transpose2d"):
    """The gradient of conv2d with respect to its input: x (N, C, H, W), w (C, O/groups, kh, kw), b (O,).

    Output size (H-1)*stride - 2*padding + dilation*(kh-1) + output_padding + 1.
    """

    def infer(self) -> Tensor:
        return Tensor(self.out_shape(), floats(self, "x", "w", "b"))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch.nn.functional as F

        x, w, b = xs
        return F.conv_transpose2d(x, w, b, self.stride, self.padding, self.output_padding, self.groups, self.dilation)

    def ties(self) -> Iterator[Tie]:
        """As for conv2d, with the axes of w exchanged."""
        yield same(self.x, 0, self.out, 0)
        if not computed(self.w):
            return
        outputs = np.arange(self.out.shape[1])
        if self.b is not None:
            yield same(self.b, 0, self.out, 1)
        yield same(self.x, 1, self.w, 0)
        if self.depthwise:
            yield Tie(self.out, 1, outputs, self.w, 0, outputs // self.w.shape[1])
            return
        yield Tie(self.out, 1, outputs, self.w, 1, outputs % self.w.shape[1])
        if self.groups > 1:
            yield per_group(self.x, 1, self.groups)

    def narrowed(self, kept: Kept, operands: dict[str, Any]) -> Op:
        return self.rebuilt(**operands, groups=int(kept(self.x, 1).sum()) if self.depthwise else self.groups)
