"""Histograms of activations, filled chunk by chunk, and the ranges that are chosen from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ...ir.errors import TersorError
from ...ir.types import Uniform, storage_range

if TYPE_CHECKING:
    import torch

F64 = NDArray[np.float64]
RangeMethod = Literal["minmax", "percentile", "mse"]
#: Bins over [-limit, limit): 16 for each of 255 levels.
BINS = 4096
#: Larger values are refused: their squares would overflow f32.
LARGEST = 1e18
#: The smallest scale, so that 1/S and products of scales are normal f32 numbers.
SMALLEST_SCALE = 2.0**-60


@dataclass
class Histogram:
    """Counts of values in bins over [-limit, limit), with the smallest and largest value; limit is a power of two that doubles as needed."""

    limit: float = 2.0**-60
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    low: float = math.inf
    high: float = -math.inf

    def add(self, x: torch.Tensor) -> None:
        """Count the values of a tensor; raises where one is NaN, infinite or larger than LARGEST."""
        import torch

        if not x.numel():
            return
        low, high = (float(v) for v in torch.aminmax(x))
        if not max(abs(low), abs(high)) <= LARGEST:
            raise TersorError(f"holds values from {low:g} to {high:g}")
        self._reach(max(abs(low), abs(high)))
        self.counts += torch.histc(x.float(), BINS, -self.limit, self.limit).numpy().astype(np.int64)
        self.low, self.high = min(self.low, low), max(self.high, high)

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram."""
        self._reach(other.limit)
        other._reach(self.limit)
        self.counts += other.counts
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def _reach(self, value: float) -> None:
        while self.limit < value:
            pairs = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[BINS // 4 : 3 * BINS // 4] = pairs
            self.limit *= 2

    @property
    def centers(self) -> F64:
        """Middle of each bin."""
        return np.asarray((np.arange(BINS) + 0.5) * (2 * self.limit / BINS) - self.limit, np.float64)


# -- ranges ------------------------------------------------------------------------------------


def choose_range(histogram: Histogram, method: RangeMethod, percentile: float, storage: str = "u8") -> tuple[float, float]:
    """The range of reals that a type should cover; it contains 0."""
    if method == "minmax":
        return min(histogram.low, 0.0), max(histogram.high, 0.0)
    low, high = _percentile(histogram, percentile)
    return (low, high) if method == "percentile" else _least_error(histogram, low, high, storage)


def _percentile(histogram: Histogram, percentile: float) -> tuple[float, float]:
    """At most a share 1 - percentile/100 of the values lies beyond each end."""
    below = np.cumsum(histogram.counts) / histogram.counts.sum()
    beyond = 1 - percentile / 100
    width = 2 * histogram.limit / BINS
    low = float(np.searchsorted(below, beyond, "right")) * width - histogram.limit
    high = float(np.searchsorted(below, 1 - beyond, "left") + 1) * width - histogram.limit
    return min(max(low, histogram.low), 0.0), max(min(high, histogram.high), 0.0)


def _least_error(histogram: Histogram, low: float, high: float, storage: str) -> tuple[float, float]:
    """Shrink both ends together, then each alone, to the least mean squared error of the histogram.

    Values beyond the given range count as its ends: the squared errors of a few would outweigh all others.
    """
    shares = np.linspace(0.2, 1, 81)
    filled = histogram.counts > 0
    centers, counts = np.clip(histogram.centers[filled], low, high), histogram.counts[filled].astype(np.float64)

    def best(candidate: Callable[[float], tuple[float, float]]) -> tuple[float, float]:
        return min((candidate(s) for s in shares), key=lambda r: squared_error(centers, counts, activation_type(r[0], r[1], storage)))

    low, high = best(lambda s: (low * s, high * s))
    if low < 0 < high:
        low, high = best(lambda s: (low, high * s))
        low, high = best(lambda s: (low * s, high))
    return low, high


def squared_error(values: F64, counts: F64, elem: Uniform) -> float:
    """Sum of counts * (x - dequantize(quantize(x)))^2."""
    (scale,), (zero,) = elem.scales, elem.zero_points
    q = np.clip(np.rint(values / scale) + zero, *elem.range)
    return float(counts @ (values - (q - zero) * scale) ** 2)


def activation_type(low: float, high: float, storage: str = "u8") -> Uniform:
    """The affine type that covers [low, high] and 0, and represents 0 exactly; its scale is an f32 number."""
    first, last = storage_range(storage)
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max((high - low) / (last - first), SMALLEST_SCALE))) if high > low else 1.0
    return Uniform(storage, (scale,), (int(np.clip(np.rint(first - low / scale), first, last)),))
