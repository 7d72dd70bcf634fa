"""Sums of windows and of axes; a mean is such a sum of a smaller scale. (Maxima only move integers: the nn operators take quantized types.)"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..op import Op
from ..types import Tensor, Uniform
from .pool import Pool2d
from .quant_types import LIMIT, centered, span, uniform
from .reduce import Reduce

if TYPE_CHECKING:
    import torch


def summed(op: Op, divisor: int, terms: int) -> Uniform:
    """i32 of scale S_x / divisor; fails where the sum of so many terms may leave i32."""
    if divisor < 1:
        raise op.fail(f"divisor must be at least 1, got {divisor}")
    x = uniform(op, "x", bits=8, per_tensor=True)
    if terms * max(map(abs, span(x))) >= LIMIT:
        raise op.fail(f"a sum of {terms} elements may exceed i32")
    return Uniform("i32", (x.scales[0] / divisor,), (0,))


class QuantSumPool2d(Pool2d, name="quant.sum_pool2d"):
    """Sum of q - Z over each window, of scale S_x / divisor: an average pooling whose windows all count `divisor`. Padding adds 0."""

    divisor: int
    ceil_mode: bool = False

    def infer(self) -> Tensor:
        return Tensor(self.out_shape((1, 1), self.ceil_mode), summed(self, self.divisor, math.prod(self.kernel)))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch
        import torch.nn.functional as F

        assert isinstance(self.x.type.elem, Uniform)
        x = self.padded(centered(xs[0], self.x.type.elem).double(), (1, 1), self.ceil_mode, 0.0)
        return F.avg_pool2d(x, self.kernel, self.stride, divisor_override=1).to(torch.int32)

    def ties(self) -> tuple[()]:
        """A barrier: prune before quantizing."""
        return ()


class QuantSum(Reduce, name="quant.sum"):
    """Sum of q - Z over axes, of scale S_x / divisor."""

    divisor: int = 1

    def infer(self) -> Tensor:
        shape = self.out_shape()
        return Tensor(shape, summed(self, self.divisor, math.prod(self.x.shape[a] for a in self.axes)))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        assert isinstance(self.x.type.elem, Uniform)
        x = centered(xs[0], self.x.type.elem)
        return (x.sum(self.axes, self.keepdim) if self.axes else x).to(torch.int32)

    def ties(self) -> tuple[()]:
        """A barrier: prune before quantizing."""
        return ()
