"""Product sums of stored integers, exact in i32: convolutions, linear layers, matrix products.

    acc = sum (q_x - Z_x) q_w + q_b,   of scale S_x S_w

Activations have one scale, of at most 8 bits. Weights are symmetric (Z = 0), with one scale or one per output channel, and the bias is i32 of
scale S_x S_w. Padding holds Z_x, so it adds nothing. `infer` proves from the weights that no accumulator leaves i32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..op import Const, Op, Value
from ..types import Tensor, Uniform
from .check import broadcast
from .conv import Conv, ConvTranspose
from .linear import Dense
from .quant_types import accumulator, accumulator_range, centered, uniform

if TYPE_CHECKING:
    import torch

#: Sums of integers below this are exact in f32, in any order.
EXACT_F32 = 1 << 24


class Product(Op):
    """Base of layers with weights: their type rules and accumulator bounds."""

    x: Value
    w: Value
    b: Value | None = None

    def check_types(self, w_axis: int, scales: tuple[float, ...] | None = None, out_axis: int = 1) -> Uniform:
        """The accumulator's type; fails where operands are not of the types above.

        w_axis: the axis of w that scales may lie along. scales: those of the output channels, where they are not simply those of w.
        """
        x, w = uniform(self, "x", bits=8, per_tensor=True), uniform(self, "w", bits=8)
        if any(w.zero_points):
            raise self.fail(f"w must have zero point 0, got {self.w.type}")
        if w.axis not in (None, w_axis):
            raise self.fail(f"w must have one scale, or scales along axis {w_axis}, got {self.w.type}")
        acc = accumulator(x, w.scales if scales is None else scales, None if w.axis is None else out_axis)
        bias = Uniform("i32", acc.scales, acc.zero_points, None if acc.axis is None else 0)
        if self.b is not None and self.b.type.elem != bias:
            raise self.fail(f"b must hold i32 with the scales S_x S_w, {Tensor(self.b.shape, bias)}, got {self.b.type}")
        return acc

    def rows(self) -> np.ndarray | None:
        """A constant w as (outputs, terms); None for a computed one."""
        return self.w.op.array.reshape(self.w.shape[0], -1) if isinstance(self.w.op, Const) else None

    def terms(self) -> int:
        """Products of one accumulator, at most."""
        return math.prod(self.w.shape[1:])

    def accumulators(self) -> tuple[int, int]:
        """Smallest and largest accumulator, exact for constant weights; fails where i32 does not hold them."""
        assert isinstance(self.x.type.elem, Uniform)
        return accumulator_range(self, self.x.type.elem, self.w, self.rows(), self.terms(), self.b)

    def integers(self, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, plain_sum: bool) -> list[torch.Tensor | None]:
        """q_x - Z_x, q_w and q_b in a float type in which every sum of them is exact.

        plain_sum: torch adds the products up as they are (it may use Winograd's transforms for other convolutions).
        """
        import torch

        assert isinstance(self.x.type.elem, Uniform)
        small = plain_sum and max(map(abs, self.accumulators())) + self._largest() < EXACT_F32
        dtype = torch.float32 if small else torch.float64
        return [centered(x, self.x.type.elem).to(dtype), w.to(dtype), None if b is None else b.to(dtype)]

    def _largest(self) -> int:
        """The largest partial sum that a bias may hide."""
        return 0 if self.b is None or not isinstance(self.b.op, Const) else 2 * int(np.abs(self.b.op.array.astype(np.int64)).max(initial=0))


class QuantConv2d(Conv, Product, name="quant.conv2d"):
    """acc[n,o,i,j] = q_b[o] + sum (q_x[n,c,i*stride+p*dilation-top,…] - Z_x) * q_w[o,c,p,q]; scales of w along axis 0."""

    def infer(self) -> Tensor:
        shape, acc = self.out_shape(), self.check_types(0)
        self.accumulators()
        return Tensor(shape, acc)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch
        import torch.nn.functional as F

        x, w, b = self.integers(xs[0], xs[1], xs[2], plain_sum=self.depthwise or self.kernel == (1, 1))
        top, bottom, left, right = self.padding
        assert x is not None and w is not None
        return F.conv2d(F.pad(x, (left, right, top, bottom)), w, b, self.stride, 0, self.dilation, self.groups).to(torch.int32)


class QuantConvTranspose2d(ConvTranspose, Product, name="quant.conv_transpose2d"):
    """The transposed convolution of stored integers; scales of w along axis 1 (the same in every group), or along axis 0 where it is depthwise."""

    def infer(self) -> Tensor:
        shape = self.out_shape()
        w = uniform(self, "w", bits=8)
        if w.axis == 0 and self.depthwise:
            acc = self.check_types(0, tuple(s for s in w.scales for _ in range(self.w.shape[1])))
        else:
            acc = self.check_types(1, w.scales * self.groups if w.axis == 1 else None)
        self.accumulators()
        return Tensor(shape, acc)

    def rows(self) -> np.ndarray | None:
        if not isinstance(self.w.op, Const):
            return None
        c, per_group, *kernel = self.w.shape
        array = self.w.op.array.reshape(self.groups, c // self.groups, per_group, *kernel)
        return array.swapaxes(1, 2).reshape(self.groups * per_group, -1)

    def terms(self) -> int:
        return self.w.shape[0] // self.groups * math.prod(self.w.shape[2:])

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch
        import torch.nn.functional as F

        x, w, b = self.integers(xs[0], xs[1], xs[2], plain_sum=False)
        assert x is not None and w is not None
        return F.conv_transpose2d(x, w, b, self.stride, self.padding, self.output_padding, self.groups, self.dilation).to(torch.int32)


class QuantLinear(Dense, Product, name="quant.linear"):
    """acc = q_b + (q_x - Z_x) @ q_w.T; scales of w along axis 0, the accumulator's along its last axis."""

    def infer(self) -> Tensor:
        shape = self.out_shape()
        acc = self.check_types(0, out_axis=len(shape) - 1)
        self.accumulators()
        return Tensor(shape, acc)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch
        import torch.nn.functional as F

        x, w, b = self.integers(xs[0], xs[1], xs[2], plain_sum=True)
        assert x is not None and w is not None
        return F.linear(x, w, b).to(torch.int32)


class QuantMatmul(Op, name="quant.matmul"):
    """acc = (q_a - Z_a) @ (q_b - Z_b), a (..., M, K) and b (..., K, N) of one scale each; leading dimensions broadcast."""

    a: Value
    b: Value

    def infer(self) -> Tensor:
        a, b = self.a.shape, self.b.shape
        ea, eb = uniform(self, "a", bits=8, per_tensor=True), uniform(self, "b", bits=8, per_tensor=True)
        if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
            raise self.fail(f"operands must be (..., M, K) and (..., K, N), got {list(a)} and {list(b)}")
        self.accumulators()
        return Tensor((*broadcast(self, a[:-2], b[:-2]), a[-2], b[-1]), accumulator(ea, eb.scales, None))

    def accumulators(self) -> tuple[int, int]:
        """Smallest and largest accumulator that the types allow; fails where i32 does not hold them."""
        assert isinstance(self.a.type.elem, Uniform) and isinstance(self.b.type.elem, Uniform)
        return accumulator_range(self, self.a.type.elem, self.b, None, self.a.shape[-1], None)

    def macs(self) -> int:
        return math.prod(self.out.shape) * self.a.shape[-1]

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        a, b = (centered(x, v.type.elem).double() for x, v in zip(xs, (self.a, self.b)) if isinstance(v.type.elem, Uniform))
        return torch.matmul(a, b).to(torch.int32)
