"""Sums of windows and of axes, and averages of windows as ONNX Runtime rounds them.

A mean is a sum of a smaller scale. Maxima only move integers: the nn operators take quantized types.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..op import Op
from ..types import Tensor, Uniform
from .elementwise import torch_math
from .pool import Pool2d
from .quant import Rounded, Rounding, tensor
from .quant_arithmetic import average_onnx, nearest_within
from .quant_types import F32, LIMIT, centered, single, span, store, uniform, zero_point
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


def ordered_sum(op: Pool2d, x: torch.Tensor, ceil_mode: bool) -> torch.Tensor:
    """The f32 sum of each window, row after row, rounded after each term."""
    import torch

    oh, ow = op.windows(tuple(x.shape[2:]), (1, 1), ceil_mode)
    x = op.padded(x, (1, 1), ceil_mode, 0.0)
    total = torch.zeros((*x.shape[:2], oh, ow))
    for p in range(op.kernel[0]):
        for q in range(op.kernel[1]):
            rows, columns = (slice(at, at + (n - 1) * s + 1, s) for at, n, s in zip((p, q), (oh, ow), op.stride))
            total = total + x[:, :, rows, columns]
    return total


class QuantAvgPool2d(Rounded, Pool2d, name="quant.avg_pool2d"):
    """Average pooling in the arithmetic `onnx`: rint((t / divisor) / S_y + Z_y), with t the sum of S_x (q - Z_x) over a window.

    Every operation is rounded to f32, so t depends on the order of its terms: row after row. Padding adds 0. The other arithmetics have
    `QuantSumPool2d`, which is exact, and `Requantize`.
    """

    rounding: Rounding = "onnx"
    divisor: int = 1
    ceil_mode: bool = False

    def infer(self) -> Tensor:
        shape = self.out_shape((1, 1), self.ceil_mode)
        if self.divisor < 1:
            raise self.fail(f"divisor must be at least 1, got {self.divisor}")
        if self.rounding != "onnx":
            raise self.fail(f"rounding must be onnx, got {self.rounding}: quant.sum_pool2d and quant.requantize have the other arithmetics")
        uniform(self, "x", bits=8, per_tensor=True)
        self.check_result()
        return Tensor(shape, self.to)

    def parameters(self) -> list[F32]:
        """divisor, S_y and Z_y."""
        return [single(self.divisor), single(self.to.scales[0]), single(zero_point(self.to))]

    def evaluate(self, *xs: Any) -> torch.Tensor:
        assert isinstance(self.x.type.elem, Uniform)
        x = centered(xs[0], self.x.type.elem).float() * tensor(single(self.x.type.elem.scales[0]))
        real = average_onnx(torch_math(), ordered_sum(self, x, self.ceil_mode), *(tensor(v) for v in self.parameters()))
        return store(nearest_within(torch_math(), real, *(tensor(single(n)) for n in self.clamp)), self.out.type)

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
