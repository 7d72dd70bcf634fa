"""Elementwise arithmetic of stored integers: sums, products, and functions of one variable as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..op import Op, Value
from ..types import STORAGE, Tensor, Uniform, storage_range
from .check import broadcast, has_shape
from .elementwise import torch_math
from .quant import Rescaled, Rounded, Rounding, tensor
from .quant_arithmetic import SUM_BITS, added, added_fixed, fixed_point, nearest_within, product_onnx, sum_onnx
from .quant_types import F64, I64, centered, multiplier, scales, single, store, uniform, zero_point

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
        if self.rounding == "onnx":
            y = single(self.to.scales[0])
            m_a, m_b = (np.asarray(single(scales(v.type)) / y, np.float64) for v in (self.a, self.b))
            return m_a, m_b
        return multiplier(self.a.type, self.to), multiplier(self.b.type, self.to)

    @property
    def repeated(self) -> str:
        """`a` or `b`: the operand that the innermost axis of the result repeats, for which onnxruntime adds a product; empty where it is neither."""
        rank = self.out.type.rank
        for n, p, q in zip(*(((1,) * (rank - len(s)) + s)[::-1] for s in (self.out.shape, self.a.shape, self.b.shape))):
            if n > 1:
                return "a" if p == 1 else "b" if q == 1 else ""
        return "a"

    @property
    def offset(self) -> np.ndarray:
        """C of the arithmetic `onnx`, in f32."""
        (m_a, m_b), (z_a, z_b) = self.multipliers(), (zero_point(elem_of(v)) for v in (self.a, self.b))
        # a product of f32 and a zero point is exact in float64, and so is this sum
        return single(zero_point(self.to)) - single(m_a * z_a + np.float64(single(m_b * z_b)))

    @property
    def fixed(self) -> tuple[I64, I64, I64]:
        """(A0, B0, shift) of the fixed arithmetic."""
        (a, b), shift = fixed_point(*self.multipliers(), bits=SUM_BITS)
        return a, b, shift

    def evaluate(self, *xs: Any) -> torch.Tensor:
        if self.rounding == "onnx":
            terms = sorted(zip("ab", xs, (tensor(single(m)) for m in self.multipliers())), key=lambda term: term[0] != (self.repeated or "b"))
            (_, first, m_first), (_, second, m_second) = terms
            real = sum_onnx(torch_math(), first, second, m_first, m_second, tensor(self.offset), not self.repeated)
            low, high = (tensor(single(n)) for n in self.clamp)
            return store(nearest_within(torch_math(), real, low, high), self.out.type)
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
        product = scales(self.a.type) * scales(self.b.type)
        if self.rounding == "onnx":
            return np.asarray(single(product) / single(self.to.scales[0]), np.float64)
        return product / np.float64(self.to.scales[0])

    def evaluate(self, *xs: Any) -> torch.Tensor:
        a, b = (centered(x, elem_of(v)) for x, v in zip(xs, (self.a, self.b)))
        if self.rounding == "onnx":
            real = product_onnx(torch_math(), a * b, tensor(single(self.multiplier())), tensor(single(zero_point(self.to))))
            low, high = (tensor(single(n)) for n in self.clamp)
            return store(nearest_within(torch_math(), real, low, high), self.out.type)
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
