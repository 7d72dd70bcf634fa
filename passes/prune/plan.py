"""How many channel sets of each space stay, for a ratio or a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ...ir.errors import TersorError
from .spaces import Cost, Counts, Space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Curves = Sequence[NDArray[np.float64]]

#: Counts as a function of the strength, from 0 (all stays) to 1 (the least that can stay).
Plan = Callable[[float], Counts]


def uniform(spaces: Sequence[Space], fixed: Counts | None = None) -> Plan:
    """The same share of every space; spaces with a fixed count (not negative) keep that."""

    def plan(strength: float) -> Counts:
        keep = np.array([s.keep(1 - strength) for s in spaces], np.int64)
        return keep if fixed is None else np.where(fixed >= 0, fixed, keep)

    return plan


@dataclass(frozen=True)
class BySensitivity:
    """Shrink spaces step by step, each time the one that loses the least per cost saved.

    errors[j][i]: error when `shares[i]` (rising, the first 0) of space j stay. fixed: counts that stay as they are, where not negative.
    """

    spaces: Sequence[Space]
    cost: Cost
    shares: Sequence[float]
    errors: Curves
    fixed: Counts | None = None

    def __call__(self, strength: float) -> Counts:
        return self.steps[min(len(self.steps) - 1, round(strength * (len(self.steps) - 1)))]

    @cached_property
    def steps(self) -> list[Counts]:
        """Counts from all to the least, by a 16th of a space at least, so that many small steps do not hide their total."""
        keep = np.array([len(s.sets) for s in self.spaces], np.int64)
        if self.fixed is not None:
            keep = np.where(self.fixed >= 0, self.fixed, keep)
        steps = [keep]
        while True:
            now = self.cost(keep)
            best, best_loss = None, np.inf
            for j in self._open:
                space = self.spaces[j]
                less = max(space.unit, (keep[j] - max(1, len(space.sets) // 16)) // space.unit * space.unit)
                smaller = keep.copy()
                smaller[j] = less
                if less < keep[j] and (saved := now - self.cost(smaller)) > 0 and (loss := self._lost(j, keep[j], less) / saved) < best_loss:
                    best, best_loss = smaller, loss
            if best is None:
                return steps
            keep = best
            steps.append(keep)

    def filled(self, keep: Counts, fits: Callable[[Counts], bool]) -> Counts:
        """Give back what is left of a budget, unit by unit, where it helps most per cost."""
        growing = set(self._open)
        while True:
            now = self.cost(keep)
            grown = {}
            for j in growing:
                more = keep.copy()
                more[j] += self.spaces[j].unit
                if more[j] <= len(self.spaces[j].sets) and (taken := self.cost(more) - now) > 0:
                    grown[j] = (self._lost(j, more[j], keep[j]) / taken, more)
            if not grown:
                return keep
            best = max(grown, key=lambda j: (grown[j][0], -j))
            if fits(grown[best][1]):
                keep = grown[best][1]
            else:
                growing.remove(best)

    @cached_property
    def _open(self) -> list[int]:
        return [j for j in range(len(self.spaces)) if self.fixed is None or self.fixed[j] < 0]

    @cached_property
    def _curves(self) -> list[Callable[[float], float]]:
        return [_monotone(np.asarray(self.shares), np.asarray(e)) for e in self.errors]

    def _lost(self, j: int, more: int, less: int) -> float:
        size, curve = len(self.spaces[j].sets), self._curves[j]
        return curve(less / size) - curve(more / size)


def _monotone(shares: NDArray[np.float64], errors: NDArray[np.float64]) -> Callable[[float], float]:
    """Linear between the points, never falling as channels are removed; no error when all stay."""
    x, y = np.r_[shares, 1.0], np.r_[np.maximum.accumulate(errors[::-1])[::-1], 0.0]
    return lambda share: float(np.interp(share, x, y))


def within(plan: Plan, measure: Callable[[Counts], float], budget: float, what: str, resolution: int = 256) -> Counts:
    """The weakest plan whose measure is at most `budget`, by bisection. Raises, with the least that can be reached, where no plan is."""
    least = measure(plan(1.0))
    if least > budget:
        raise TersorError(
            f"{what} cannot be reached: {_shown(budget)} is wanted, the least that pruning can leave here is {_shown(least)}; "
            "tersor.passes.coupling.explain(graph) says what bars which layer"
        )
    low, high = 0, resolution
    while high - low > 1:
        middle = (low + high) // 2
        if measure(plan(middle / resolution)) <= budget:
            high = middle
        else:
            low = middle
    return plan(high / resolution)


def _shown(x: float) -> str:
    return f"{x:.4g}"
