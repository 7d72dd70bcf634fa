"""Conversions between real numbers and stored integers: quantize, dequantize, requantize; and storage casts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..op import Op, Value
from ..types import Tensor, Uniform, storage_elem
from .check import floats
from .elementwise import torch_math
from .namespace import torch_dtype
from .quant_arithmetic import PRODUCT_BITS, divided, fixed_point, quantized, rescaled, rescaled_fixed
from .quant_types import F64, I64, along, centered, check_zero_points, multiplier, result_type, scales, single, store, uniform, zero_point

if TYPE_CHECKING:
    import torch

Rounding = Literal["f32", "fixed", "onnx"]


def tensor(array: np.ndarray) -> torch.Tensor:
    """A new tensor of an array."""
    import torch

    return torch.from_numpy(np.array(array))


class Quantize(Op, name="quant.quantize"):
    """q = clamp(rint(x * f32(1/S)) + Z) of f32 x, in the type `to` of at most 16 bits; NaN becomes the lowest integer.

    rounding: `onnx` divides by S, as ONNX defines QuantizeLinear.
    """

    x: Value
    to: Uniform
    rounding: Literal["f32", "onnx"] = "f32"

    def infer(self) -> Tensor:
        if floats(self, "x") != "f32":
            raise self.fail(f"x must hold f32, got {self.x.type}")
        result_type(self, self.to)
        return Tensor(self.x.shape, self.to)

    @property
    def inverse(self) -> np.ndarray:
        """1/S in f32, 0-d or shaped to broadcast against x."""
        return (1 / along(np.array(self.to.scales, np.float64), self.to.axis, self.x.type.rank)).astype(np.float32)

    @property
    def scale(self) -> np.ndarray:
        """S in f32, 0-d or shaped to broadcast against x."""
        return along(np.array(self.to.scales, np.float32), self.to.axis, self.x.type.rank)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        # f32 also in a float64 oracle: the integers are defined by f32 arithmetic
        x = xs[0].to(torch_dtype("f32"))
        arithmetic, parameter = (divided, self.scale) if self.rounding == "onnx" else (quantized, self.inverse)
        q: torch.Tensor = arithmetic(torch_math(), x, tensor(parameter), zero_point(self.to), *self.to.range)
        return store(q, self.out.type)


class Dequantize(Op, name="quant.dequantize"):
    """f32(q - Z) * f32(S)"""

    x: Value

    def infer(self) -> Tensor:
        uniform(self, "x")
        return Tensor(self.x.shape, "f32")

    @property
    def scale(self) -> np.ndarray:
        """S in f32, 0-d or shaped to broadcast against x."""
        return scales(self.x.type).astype(np.float32)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        elem = self.x.type.elem
        assert isinstance(elem, Uniform)
        return centered(xs[0], elem).to(torch_dtype("f32")) * tensor(self.scale)


class StorageCast(Op, name="quant.scast"):
    """Stored integers under another type of the same storage: a plain element type (`to` is None), or the quantized type `to`. No bit changes.

    It gives quantized types to models that keep scales beside plain integer tensors (ONNX, PT2E); MLIR: quant.scast.
    """

    x: Value
    to: Uniform | None = None

    def infer(self) -> Tensor:
        if self.to is None:
            uniform(self, "x")
            return Tensor(self.x.shape, storage_elem(self.x.type.elem))
        if self.x.type.elem != storage_elem(self.to):
            raise self.fail(f"x must hold {storage_elem(self.to)}, as {self.to} is stored, got {self.x.type}")
        check_zero_points(self, "to", self.to)
        return Tensor(self.x.shape, self.to)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        stored: torch.Tensor = xs[0]
        return stored


class Rounded(Op):
    """Base of operators that round an accumulator to the type `to`.

    low, high: clamp of the stored integers, by default the range of `to`; a ReLU is `low = Z`.
    rounding: `f32`, `fixed` or `onnx`, the arithmetics of `quant_arithmetic`.
    """

    to: Uniform
    low: int | None = None
    high: int | None = None
    rounding: Rounding = "f32"

    @property
    def clamp(self) -> tuple[int, int]:
        """Smallest and largest stored integer of the result."""
        low, high = self.to.range
        return low if self.low is None else self.low, high if self.high is None else self.high

    def check_result(self) -> None:
        """Fail where the result's type or the clamp is not valid."""
        result_type(self, self.to, per_tensor=True)
        first, last = self.to.range
        if not first <= self.clamp[0] <= self.clamp[1] <= last:
            raise self.fail(f"low and high must ascend within {first} to {last}, got {self.low} and {self.high}")

    @property
    def bounds(self) -> tuple[int, int, int]:
        """Zero point and clamp of the result."""
        return (zero_point(self.to), *self.clamp)

    def check_fixed(self, *multipliers: F64, bits: int = PRODUCT_BITS) -> None:
        """Fail where the fixed arithmetic cannot hold a multiplier."""
        if self.rounding == "fixed":
            try:
                fixed_point(*multipliers, bits=bits)
            except ValueError as error:
                raise self.fail(str(error)) from None


class Rescaled(Rounded):
    """A `Rounded` op of one accumulator."""

    def multiplier(self) -> F64:
        """M in float64, 0-d or shaped to broadcast against the accumulator."""
        raise NotImplementedError(f"{type(self).__name__}.multiplier")

    @property
    def fixed(self) -> tuple[I64, I64]:
        """(M0, shift) of the fixed arithmetic."""
        (factor,), shift = fixed_point(self.multiplier(), bits=PRODUCT_BITS)
        return factor, shift

    def rescale(self, a: torch.Tensor) -> torch.Tensor:
        """The accumulator as stored integers of the result."""
        y: torch.Tensor
        if self.rounding != "fixed":
            y = rescaled(torch_math(), a, tensor(self.multiplier().astype(np.float32)), *self.bounds)
        else:
            factor, shift = self.fixed
            y = rescaled_fixed(torch_math(), a, tensor(factor), tensor(1 << (shift - 1)), tensor(shift), *self.bounds)
        return store(y, self.out.type)


class Requantize(Rescaled, name="quant.requantize"):
    """y = clamp(Z_y + round((q - Z_x) * S_x / S_y)): an accumulator, or any quantized tensor, in another type.

    divisor: that of the sum x, which the arithmetic `onnx` needs on its own; no other one reads it.
    """

    x: Value
    to: Uniform
    low: int | None = None
    high: int | None = None
    rounding: Rounding = "f32"
    divisor: int = 1

    def infer(self) -> Tensor:
        uniform(self, "x")
        self.check_result()
        if self.divisor < 1:
            raise self.fail(f"divisor must be at least 1, got {self.divisor}")
        self.check_fixed(self.multiplier())
        return Tensor(self.x.shape, self.to)

    def multiplier(self) -> F64:
        if self.rounding == "onnx":
            return np.asarray(single(scales(self.x.type) * self.divisor) / (single(self.to.scales[0]) * single(self.divisor)), np.float64)
        return multiplier(self.x.type, self.to)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        elem = self.x.type.elem
        assert isinstance(elem, Uniform)
        return self.rescale(centered(xs[0], elem))
