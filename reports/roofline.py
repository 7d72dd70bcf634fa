"""Roofline plot: speed over arithmetic intensity, both logarithmic (Williams, Waterman and Patterson, CACM 2009)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..backend.runtime.measure import Profile

#: Pixels of the plot, and of its margins.
WIDTH, HEIGHT, LEFT, BELOW = 720.0, 320.0, 56.0, 34.0


@dataclass(frozen=True)
class Point:
    """A kernel: its position in the plot, and its description."""

    x: float
    y: float
    name: str


@dataclass(frozen=True)
class Roof:
    """The peak of arithmetic (a horizontal line), or of memory bandwidth (a slope)."""

    name: str
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Roofline:
    """Points and roofs in pixels; ticks: (pixel, text). Kernels without multiplications, or too fast for the clock, are left out."""

    points: list[Point]
    roofs: list[Roof]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    width: float = WIDTH + LEFT
    height: float = HEIGHT + BELOW

    @classmethod
    def of(cls, profile: Profile) -> Roofline | None:
        """The plot of a profile; None where no kernel multiplies. The slope is the highest GB/s that a kernel of this profile reached."""
        rows = [r for r in profile.rows if r.macs and r.time >= profile.resolution and r.gbs > 0]
        if not rows:
            return None
        # GFLOP/s over GB/s is FLOP per byte
        intensity = [r.gflops / r.gbs for r in rows]
        peaks = {"FMA peak": profile.peak_gflops} | {f"{name} peak": peak for name, peak in profile.integer_peaks.items()}
        fastest = max(r.gbs for r in profile.rows if r.time >= profile.resolution)
        xs, ys = _range(intensity), _range([*(r.gflops for r in rows), *peaks.values()])

        def px(value: float) -> float:
            return round(LEFT + WIDTH * (math.log10(value) - xs[0]) / (xs[1] - xs[0]), 1)

        def py(value: float) -> float:
            return round(HEIGHT * (1 - (math.log10(value) - ys[0]) / (ys[1] - ys[0])), 1)

        points = [
            Point(px(i), py(r.gflops), f"{r.step}: {r.op} [{r.loc}] {r.time:.4f} ms, {r.gflops:.1f} GFLOP/s, {i:.1f} FLOP/byte")
            for i, r in zip(intensity, rows)
        ]
        low, high = 10.0 ** xs[0], 10.0 ** xs[1]
        roofs = [Roof(f"{name} {peak:.0f} GFLOP/s", px(low), py(peak), px(high), py(peak)) for name, peak in peaks.items()]
        end = min(high, max(peaks.values()) / fastest)
        start = max(low, 10.0 ** ys[0] / fastest)
        if start < end:
            roofs.append(Roof(f"{fastest:.0f} GB/s, the most here", px(start), py(start * fastest), px(end), py(end * fastest)))
        across = [(px(10.0**e), f"{10.0**e:g}") for e in range(xs[0], xs[1] + 1)]
        up = [(py(10.0**e), f"{10.0**e:g}") for e in range(ys[0], ys[1] + 1)]
        return cls(points, roofs, across, up)


def _range(values: Sequence[float]) -> tuple[int, int]:
    """Exponents of the powers of ten around positive values."""
    low = math.floor(math.log10(min(values)))
    return low, max(low + 1, math.ceil(math.log10(max(values))))
