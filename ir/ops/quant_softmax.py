"""Softmax of stored integers in ONNX Runtime's arithmetic."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..types import STORAGE, Tensor, Uniform
from .check import axis_in_range
from .elementwise import torch_math
from .quant import Rounded, Rounding, tensor
from .quant_arithmetic import nearest_within, share_onnx
from .quant_types import F32, single, store, uniform, zero_point
from .reduce import AlongAxis

if TYPE_CHECKING:
    import torch

#: Exponent of e below the largest f32 that the largest sum of a row may have.
RESERVE = 5.0


class QuantSoftmax(Rounded, AlongAxis, name="quant.softmax"):
    """Softmax along `axis` in the arithmetic `onnx` (QLinearSoftmax): clamp(rint(e_q * floor(1 / S_y) / sum e) + Z_y).

    e_q is `table()[255 - (max - q)]`, max being the largest q of the row, and the sum adds up one term after the other; all of it in f32.
    """

    rounding: Rounding = "onnx"

    def infer(self) -> Tensor:
        axis_in_range(self, self.axis, self.x.type.rank)
        x = uniform(self, "x", bits=8, per_tensor=True)
        if self.rounding != "onnx":
            raise self.fail(f"rounding must be onnx, got {self.rounding}")
        if STORAGE[x.storage][0] != 8:
            raise self.fail(f"x must have 8 bits, got {self.x.type}")
        self.check_result()
        if overflows(self.x.shape[self.axis], self.to):
            raise self.fail(f"a row of {self.x.shape[self.axis]} is too short for a scale of {self.to.scales[0]:g}: its products exceed f32")
        return Tensor(self.x.shape, self.to)

    def table(self) -> F32:
        """exp(S_x (i - 255)) for i from 0 to 255, times a constant that keeps small terms in the range of f32."""
        assert isinstance(self.x.type.elem, Uniform)
        scale = float(single(self.x.type.elem.scales[0]))
        largest = float(single(float(np.finfo(np.float32).max) / self.x.shape[self.axis]))
        shift = max(0.0, math.log(largest) - RESERVE) / scale
        return np.exp((np.arange(256.0) - 255 + shift) * scale).astype(np.float32)

    @property
    def steps(self) -> F32:
        """floor(1 / S_y)"""
        return single(np.floor(single(1.0) / single(self.to.scales[0])))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        q = xs[0].to(torch.int64)
        e = tensor(self.table())[255 - (q.amax(self.axis, keepdim=True) - q)]
        zero = zero_point(self.to)
        real = share_onnx(torch_math(), e, tensor(self.steps), added_in_order(e, self.axis))
        stored = nearest_within(torch_math(), real, *(tensor(single(n - zero)) for n in self.clamp)) + zero
        return store(stored, self.out.type)

    def ties(self) -> tuple[()]:
        """A barrier: prune before quantizing."""
        return ()


def overflows(size: int, to: Uniform) -> bool:
    """Whether e * floor(1 / S_y) may exceed f32 for rows of `size`: e is below the largest f32 by the factor size * exp(RESERVE)."""
    return 1 / to.scales[0] > 0.9 * size * math.exp(RESERVE)


def added_in_order(x: torch.Tensor, axis: int) -> torch.Tensor:
    """The f32 sum along an axis, which stays with size 1, rounded after each term."""
    import torch

    total = np.add.accumulate(x.numpy(), axis, dtype=np.float32)
    return torch.from_numpy(np.take(total, [-1], axis))
