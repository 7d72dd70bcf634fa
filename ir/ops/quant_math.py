"""Elementwise arithmetic of stored integers: sums, products, and functions of one variable as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..op import Op, Value
from ..types import STORAGE, Tensor, Uniform, storage_range
from .check import broadcast, has_shape
from .elementwise import torch_math
from .quant import Rescaled, Rounded, Rounding, tensor
from .quant_arithmetic import SUM_BITS, added, added_fixed, fixed_point
from .quant_types import F64, I64, centered, multiplier, scales, store, uniform

if TYPE_CHECKING:
    import torch


def elem_of(v: Value) -> Uniform:
    """The quantized type of a checked operand."""
    assert isinstance(v.type.elem, Uniform)
    return v.type.elem


class QuantAdd(Rounded, name="quant.add"):
    """y = clamp(Z_y + round((q_a - Z_a) * S_a / S_y + (q_b - Z_b) * S_b / S_y)); an operand may be an accumulator. Shapes broadcast."""

    a: Value
    b: Value
    to: Uniform
    low: int | None = None
    high: int | None = None
    rounding: Rounding = "f32"

    def infer(self) -> Tensor:
        shape = broadcast(self, self.a.shape, self.b.shape)
        for name, v in (("a", self.a), ("b", self.b)):
            if uniform(self, name).axis is not None and v.type.rank != len(shape):
                raise self.fail(f"{name} has scales along an axis, so it must have the {len(shape)} dimensions of the result, got {v.type}")
        self.check_result()
        self.check_fixed(*self.multipliers(), bits=SUM_BITS)
        return Tensor(shape, self.to)

    def multipliers(self) -> tuple[F64, F64]:
        """M_a and M_b in float64, each 0-d or shaped to broadcast against the result."""
        return multiplier(self.a.type, self.to), multiplier(self.b.type, self.to)

    @property
    def fixed(self) -> tuple[I64, I64, I64]:
        """(A0, B0, shift) of the fixed arithmetic."""
        (a, b), shift = fixed_point(*self.multipliers(), bits=SUM_BITS)
        return a, b, shift

    def evaluate(self, *xs: Any) -> torch.Tensor:
        a, b = (centered(x, elem_of(v)) for x, v in zip(xs, (self.a, self.b)))
        if self.rounding == "f32":
            m_a, m_b = (tensor(m.astype(np.float32)) for m in self.multipliers())
            y = added(torch_math(), a, b, m_a, m_b, *self.bounds)
        else:
            a0, b0, shift = self.fixed
            y = added_fixed(torch_math(), a, b, tensor(a0), tensor(b0), tensor(1 << (shift - 1)), tensor(shift), *self.bounds)
        return store(y, self.out.type)


class QuantMul(Rescaled, name="quant.mul"):
    """y = clamp(Z_y + round((q_a - Z_a) * (q_b - Z_b) * S_a S_b / S_y)) of operands of at most 8 bits and one scale each. Shapes broadcast."""

    a: Value
    b: Value
    to: Uniform
    low: int | None = None
    high: int | None = None
    rounding: Rounding = "f32"

    def infer(self) -> Tensor:
        for name in ("a", "b"):
            uniform(self, name, bits=8, per_tensor=True)
        self.check_result()
        self.check_fixed(self.multiplier())
        return Tensor(broadcast(self, self.a.shape, self.b.shape), self.to)

    def multiplier(self) -> F64:
        return scales(self.a.type) * scales(self.b.type) / np.float64(self.to.scales[0])

    def evaluate(self, *xs: Any) -> torch.Tensor:
        a, b = (centered(x, elem_of(v)) for x, v in zip(xs, (self.a, self.b)))
        return self.rescale(a * b)


class Lookup(Op, name="quant.lookup"):
    """y = table[q - qmin of the storage]: any function of one variable; the table (2^bits,) has the type of the result."""

    x: Value
    table: Value

    def infer(self) -> Tensor:
        x = uniform(self, "x", bits=8, per_tensor=True)
        has_shape(self, "table", (1 << STORAGE[x.storage][0],))
        return Tensor(self.x.shape, uniform(self, "table", bits=8, per_tensor=True))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        x, table = xs
        y: torch.Tensor = table[x.to(torch.int64) - storage_range(elem_of(self.x).storage)[0]]
        return y
