"""Pooling in two dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..op import Op, Value
from ..ties import Tie, same_but
from ..types import Elem, Tensor
from .check import at_least, floats, movable, out_size, rank

if TYPE_CHECKING:
    import torch


class Pool2d(Op):
    """Geometry of a pooling: x (N, C, H, W), windows of size kernel at distance stride; padding is (top, bottom, left, right)."""

    passes_scale = True
    channelwise = True
    windowed = True
    feature_map = True

    x: Value
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def windows(self, size: tuple[int, ...], dilation: tuple[int, int], ceil_mode: bool) -> tuple[int, int]:
        """How many windows lie along (H, W) of `size`."""
        t, b, le, r = self.padding
        return (
            out_size(size[0], self.kernel[0], self.stride[0], t, b, dilation[0], ceil_mode),
            out_size(size[1], self.kernel[1], self.stride[1], le, r, dilation[1], ceil_mode),
        )

    def out_shape(self, dilation: tuple[int, int], ceil_mode: bool) -> tuple[int, int, int, int]:
        """(N, C, oh, ow); fails when the attributes do not fit."""
        n, c, *size = rank(self, "x", 4, "(N, C, H, W)")
        kernel = at_least(self, "kernel", 2, 1)
        at_least(self, "stride", 2, 1)
        pads = at_least(self, "padding", 4, 0)
        extent = [dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
        if any(pads[i] >= extent[i // 2] for i in range(4)):
            raise self.fail(f"padding must be below the window's extent {extent}, got {list(pads)}")
        oh, ow = self.windows(tuple(size), dilation, ceil_mode)
        if oh < 1 or ow < 1:
            raise self.fail(f"window {extent} exceeds the padded input: x {list(self.x.shape)}, padding {list(pads)}")
        return n, c, oh, ow

    def padded(self, x: torch.Tensor, dilation: tuple[int, int], ceil_mode: bool, value: float) -> torch.Tensor:
        """x with its padding, on the bottom and right as much as the last window needs (with `ceil_mode` it may need more)."""
        import torch.nn.functional as F

        t, _, le, _ = self.padding
        h, w = x.shape[2:]
        oh, ow = self.windows((h, w), dilation, ceil_mode)
        b = max(0, (oh - 1) * self.stride[0] + dilation[0] * (self.kernel[0] - 1) + 1 - t - h)
        r = max(0, (ow - 1) * self.stride[1] + dilation[1] * (self.kernel[1] - 1) + 1 - le - w)
        return F.pad(x, (le, r, t, b), value=value) if any((t, b, le, r)) else x

    def ties(self) -> Iterable[Tie]:
        return same_but(self.x, self.out, 2, 3)


class MaxPool2d(Pool2d, name="nn.max_pool2d"):
    """Maximum of each window; padding never wins."""

    selects = True

    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False

    def infer(self) -> Tensor:
        elem = movable(self, boolean=False)
        at_least(self, "dilation", 2, 1)
        return Tensor(self.out_shape(self.dilation, self.ceil_mode), elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch
        import torch.nn.functional as F

        (x,) = xs
        lowest = -float("inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
        if not x.is_floating_point():
            # torch refuses channels-last bytes when a feature map has more than 255 elements
            x = x.contiguous()
        return F.max_pool2d(self.padded(x, self.dilation, self.ceil_mode, lowest), self.kernel, self.stride, 0, self.dilation)


class AvgPool2d(Pool2d, name="nn.avg_pool2d"):
    """Sum of each window over `divisor`, or its element count: padding counts with `count_include_pad`, what `ceil_mode` adds after it never does."""

    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor: int | None = None

    def infer(self) -> Tensor:
        if self.divisor is not None and self.divisor < 1:
            raise self.fail(f"divisor must be at least 1, got {self.divisor}")
        return Tensor(self.out_shape((1, 1), self.ceil_mode), floats(self, "x"))

    def counts(self, axis: int, size: int) -> list[int]:
        """Elements that count in each window along H (axis 0) or W (1) of length `size`."""
        lo, hi = self.padding[2 * axis : 2 * axis + 2]
        kernel, stride = self.kernel[axis], self.stride[axis]
        first, last = (-lo, size + hi) if self.count_include_pad else (0, size)
        starts = [i * stride - lo for i in range(out_size(size, kernel, stride, lo, hi, 1, self.ceil_mode))]
        return [min(s + kernel, last) - max(s, first) for s in starts]

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch
        import torch.nn.functional as F

        (x,) = xs
        total = F.avg_pool2d(self.padded(x, (1, 1), self.ceil_mode, 0.0), self.kernel, self.stride, divisor_override=1)
        if self.divisor is not None:
            return total / self.divisor
        rows, columns = (torch.tensor(self.counts(i, x.shape[2 + i]), dtype=x.dtype, device=x.device) for i in (0, 1))
        return total / (rows[:, None] * columns)


class AdaptivePool2d(Op):
    """Geometry of a pooling to a given size: window i along H covers floor(i*H/h) to ceil((i+1)*H/h)."""

    passes_scale = True
    channelwise = True
    windowed = True
    feature_map = True

    x: Value
    size: tuple[int, int]

    def infer(self) -> Tensor:
        elem = self.element()
        n, c, _, _ = rank(self, "x", 4, "(N, C, H, W)")
        h, w = at_least(self, "size", 2, 1)
        return Tensor((n, c, h, w), elem)

    def element(self) -> Elem:
        """The element type, checked."""
        return floats(self, "x")

    def ties(self) -> Iterable[Tie]:
        return same_but(self.x, self.out, 2, 3)


class AdaptiveAvgPool2d(AdaptivePool2d, name="nn.adaptive_avg_pool2d"):
    """Mean of each window"""

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch.nn.functional as F

        return F.adaptive_avg_pool2d(xs[0], self.size)


class AdaptiveMaxPool2d(AdaptivePool2d, name="nn.adaptive_max_pool2d"):
    """Maximum of each window"""

    selects = True

    def element(self) -> Elem:
        return movable(self, boolean=False)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch.nn.functional as F

        # float64 holds every stored integer
        x = xs[0] if xs[0].is_floating_point() else xs[0].double()
        return F.adaptive_max_pool2d(x, self.size).to(xs[0].dtype)
