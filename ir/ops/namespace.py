"""The namespace over which elementwise operators define their maths, and its torch form.

An operator's `f(m, *xs)` uses only these functions and `+ - * /` and comparisons on the xs; constants enter by `m.const`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..types import NUMPY

if TYPE_CHECKING:
    import torch


class Math(Protocol):
    """What `f` may call. Arguments and results are the namespace's own values (torch tensors, TensorIR vectors)."""

    def max(self, a: Any, b: Any) -> Any: ...
    def min(self, a: Any, b: Any) -> Any: ...
    def exp(self, x: Any) -> Any: ...
    def log(self, x: Any) -> Any: ...
    def log2(self, x: Any) -> Any: ...
    def log10(self, x: Any) -> Any: ...
    def sqrt(self, x: Any) -> Any: ...
    def floor(self, x: Any) -> Any: ...
    def ceil(self, x: Any) -> Any: ...
    def abs(self, x: Any) -> Any: ...
    def tanh(self, x: Any) -> Any: ...
    def erf(self, x: Any) -> Any: ...
    def sigmoid(self, x: Any) -> Any: ...
    def pow(self, a: Any, b: Any) -> Any: ...
    def sin(self, x: Any) -> Any: ...
    def cos(self, x: Any) -> Any: ...
    def tan(self, x: Any) -> Any: ...
    def asin(self, x: Any) -> Any: ...
    def acos(self, x: Any) -> Any: ...
    def atan(self, x: Any) -> Any: ...
    def sinh(self, x: Any) -> Any: ...
    def cosh(self, x: Any) -> Any: ...
    def acosh(self, x: Any) -> Any: ...
    def atanh(self, x: Any) -> Any: ...
    def bitwise_and(self, a: Any, b: Any) -> Any: ...
    def bitwise_or(self, a: Any, b: Any) -> Any: ...
    def bitwise_xor(self, a: Any, b: Any) -> Any: ...

    def signbit(self, x: Any) -> Any:
        """Whether the sign bit of a float is set, that of zeros and NaN included."""

    def atan2(self, a: Any, b: Any) -> Any:
        """The angle of the point (b, a)."""

    def shift_left(self, a: Any, b: Any) -> Any:
        """a * 2^b of integers, wrapped; b is from 0 to one less than the number of bits."""

    def shift_right(self, a: Any, b: Any) -> Any:
        """floor(a / 2^b) of integers, with copies of the sign bit of signed ones; b as for `shift_left`."""

    def expm1(self, x: Any) -> Any:
        """exp(x) - 1, which keeps the digits of small x."""

    def log1p(self, x: Any) -> Any:
        """log(1 + x), which keeps the digits of small x."""

    def rint(self, x: Any) -> Any:
        """Nearest integer, halves to even."""

    def mod(self, a: Any, b: Any) -> Any:
        """Remainder with the sign of the divisor (Python's `%`)."""

    def floordiv(self, a: Any, b: Any) -> Any:
        """The quotient of a - mod(a, b) (Python's `//`): the floor of the exact quotient, not of the rounded one."""

    def where(self, c: Any, a: Any, b: Any) -> Any:
        """a where the boolean c holds, else b."""

    def mul(self, a: Any, b: Any) -> Any:
        """a * b, rounded: never contracted into a fused multiply-add."""

    def add(self, a: Any, b: Any) -> Any:
        """a + b of rounded operands: never contracted into a fused multiply-add."""

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c of f32, rounded once: a fused multiply-add."""

    def cast(self, x: Any, elem: str) -> Any:
        """x as another element type; float to integer truncates."""

    def const(self, x: Any, value: float) -> Any:
        """A scalar of x's element type."""

    def take(self, table: Any, index: Any) -> Any:
        """table[index] for each element of an i32 index."""


def torch_dtype(elem: str) -> torch.dtype:
    """`"f32"` -> `torch.float32`."""
    import torch

    dtype: torch.dtype = getattr(torch, NUMPY[elem].name)
    return dtype


class TorchMath:
    """`Math` over torch tensors; differentiable where the maths is."""

    def __init__(self) -> None:
        import torch

        self.max = torch.maximum
        self.min = torch.minimum
        self.exp = torch.exp
        self.expm1 = torch.expm1
        self.log = torch.log
        self.log1p = torch.log1p
        self.log2 = torch.log2
        self.log10 = torch.log10
        self.sqrt = torch.sqrt
        self.rint = torch.round
        self.floor = torch.floor
        self.ceil = torch.ceil
        self.abs = torch.abs
        self.tanh = torch.tanh
        self.erf = torch.erf
        self.sigmoid = torch.sigmoid
        self.pow = torch.pow
        self.sin, self.cos, self.tan = torch.sin, torch.cos, torch.tan
        self.asin, self.acos, self.atan, self.atan2 = torch.asin, torch.acos, torch.atan, torch.atan2
        self.signbit = torch.signbit
        self.sinh, self.cosh, self.acosh, self.atanh = torch.sinh, torch.cosh, torch.acosh, torch.atanh
        self.bitwise_and, self.bitwise_or, self.bitwise_xor = torch.bitwise_and, torch.bitwise_or, torch.bitwise_xor
        self.shift_left, self.shift_right = torch.bitwise_left_shift, torch.bitwise_right_shift
        self.mod = torch.remainder
        self.where = torch.where
        self.mul = torch.mul
        self.add = torch.add

    def floordiv(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.div(a, b, rounding_mode="floor")

    def fma(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """In float64 the product is exact and the sum is rounded to odd, so that rounding it to f32 is the only rounding that counts."""
        import torch

        p, c = a.double() * b.double(), c.double()
        total = p + c
        other = total - p
        error = (p - (total - other)) + (c - other)
        odd = torch.where((error > 0) == (total > 0), 1, -1) + total.view(torch.int64)
        even = total.view(torch.int64) & 1 == 0
        return torch.where((error != 0) & even, odd.view(torch.float64), total).float()

    def cast(self, x: torch.Tensor, elem: str) -> torch.Tensor:
        return x.to(torch_dtype(elem))

    def const(self, x: torch.Tensor, value: float) -> torch.Tensor:
        import torch

        return torch.full((), value, dtype=x.dtype, device=x.device)

    def take(self, table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        import torch

        return table[index.to(torch.int64)]
