"""Fake quantization for training: rounding to the levels of an integer type, in floats, with a straight-through gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ..op import Op, Value
from ..types import STORAGE, Tensor, Uniform, storage_range
from .check import floats, has_shape
from .straight_through import straight_through_where

if TYPE_CHECKING:
    import torch

    Ends = tuple[torch.Tensor, torch.Tensor]


_MEASURING: ContextVar[bool] = ContextVar("measuring", default=False)


@contextmanager
def measuring_only(on: bool = True) -> Iterator[None]:
    """In this context `quant.fake` in training measures ranges and does not round: the delayed start of Jacob et al. (1712.05877, section 3.1)."""
    token = _MEASURING.set(on)
    try:
        yield
    finally:
        _MEASURING.reset(token)


class Fake(Op, name="quant.fake"):
    """S (clamp(rint(x / S) + Z) - Z) for the range low .. high; the gradient is that of x where nothing was clamped, else 0 (1712.05877, 3.1).

    Unsigned storage is affine: S = (high - low) / (qmax - qmin), Z = qmin - rint(low / S), the range widened to hold 0. Signed storage is
    symmetric: S = max(|low|, |high|) / qmax, Z = 0. `narrow` leaves out the smallest integer (-127 .. 127 for i8). low and high are scalars,
    or (C,) for ranges along `axis`. While training they are running statistics, low <- low + momentum (min x - low), high likewise, and x
    is quantized by the updated ones. Without low and high the range is that of x itself, as for weights.
    """

    x: Value
    low: Value | None = None
    high: Value | None = None
    storage: str = "u8"
    axis: int | None = None
    narrow: bool = False
    momentum: float = 0.01

    learned = ("x",)

    def infer(self) -> Tensor:
        if (self.low is None) != (self.high is None):
            raise self.fail("low and high are given together, or neither")
        floats(self, "x", *(("low", "high") if self.low is not None else ()))
        if self.storage not in STORAGE or STORAGE[self.storage][0] > 8:
            raise self.fail(f"storage must have at most 8 bits (i8, u8, i4, …), got {self.storage!r}")
        if self.axis is not None and not 0 <= self.axis < self.x.type.rank:
            raise self.fail(f"axis must be from 0 to {self.x.type.rank - 1}, got {self.axis}")
        if not 0 < self.momentum <= 1:
            raise self.fail(f"momentum must be above 0 and at most 1, got {self.momentum}")
        expected = () if self.axis is None else (self.x.shape[self.axis],)
        for name in ("low", "high"):
            has_shape(self, name, expected)
        if self.range[1] <= max(0, self.range[0]):
            raise self.fail(f"{self.storage}{' narrow' if self.narrow else ''} has no two levels that a range with 0 needs")
        return self.x.type

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest stored integer."""
        low, high = storage_range(self.storage)
        return low + self.narrow, high

    def scale_and_zero(self, low: torch.Tensor, high: torch.Tensor) -> Ends:
        """S and Z, as floats, for the ends of a range."""
        import torch

        qmin, qmax = self.range
        low, high = low.clamp(max=0), high.clamp(min=0)
        if STORAGE[self.storage][1]:
            scale, zero = torch.maximum(-low, high) / qmax, torch.zeros_like(low)
        else:
            scale, zero = (high - low) / (qmax - qmin), low
        # a range of width 0 needs a positive scale too
        scale = scale.clamp(min=torch.finfo(low.dtype).eps)
        return scale, zero if STORAGE[self.storage][1] else (qmin - (zero / scale).round()).clamp(qmin, qmax)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        x, low, high = xs
        if low is None:
            low, high = self.ends(x)
        qmin, qmax = self.range
        with torch.no_grad():
            scale, zero = (self._along(v, x) for v in self.scale_and_zero(low, high))
            q = (x * (1 / scale)).round() + zero
            value = (q.clamp(qmin, qmax) - zero) * scale
            inside = (q >= qmin) & (q <= qmax)
        return straight_through_where(inside, value, x)

    def evaluate_training(self, *xs: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """x quantized by the updated range, and its smallest and largest element for the running statistics."""
        x, low, high = xs
        if low is None:
            return (x if _MEASURING.get() else self.evaluate(x, None, None)), {}
        least, most = self.ends(x)
        ends = (low.lerp(least, self.momentum), high.lerp(most, self.momentum))
        return (x if _MEASURING.get() else self.evaluate(x, *ends)), {"low": least, "high": most}

    def ends(self, x: torch.Tensor) -> Ends:
        """Smallest and largest element: scalars, or (C,) along the axis."""
        rows = x.detach().flatten() if self.axis is None else x.detach().movedim(self.axis, 0).flatten(1)
        return rows.amin(-1), rows.amax(-1)

    def integer_type(self, low: torch.Tensor, high: torch.Tensor) -> Uniform:
        """The integer type that represents exactly the numbers that x is rounded to, for f32 ends of the range."""
        scale, zero = self.scale_and_zero(low, high)
        scales, zeros = (tuple(v.reshape(-1).tolist()) for v in (scale, zero))
        return Uniform(self.storage, scales, tuple(int(z) for z in zeros), self.axis, qmin=self.range[0], qmax=self.range[1])

    def _along(self, v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return v if self.axis is None else v.reshape([-1 if i == self.axis else 1 for i in range(x.dim())])
