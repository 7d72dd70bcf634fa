"""How many channel sets of each space stay, for a ratio or a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...ir.errors import TersorError
from .spaces import Cost, Counts, Space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Curves = Sequence[NDArray[np.float64]]

#: A plan at a strength from 0 (all stays) to 1 (the least that can stay).
Plan = Callable[[float], Counts]


def uniform(spaces: Sequence[Space], fixed: Counts | None = None) -> Plan:
    """The same share of every space; spaces with a fixed count (not negative) keep that."""

    def plan(strength: float) -> Counts:
        keep = np.array([s.keep(1 - strength) for s in spaces], np.int64)
        return keep if fixed is None else np.where(fixed >= 0, fixed, keep)

    return plan


def by_sensitivity(spaces: Sequence[Space], cost: Cost, shares: Sequence[float], errors: Curves, fixed: Counts | None = None) -> Plan:
    """Spaces shrink step by step, each time the one that loses the least for the MACs it saves.

    errors[j][i]: relative error of the response when `shares[i]` (rising, the first 0) of space j stay.
    """
    curves = [_monotone(np.asarray(shares), np.asarray(e)) for e in errors]
    keep = np.array([len(s.sets) for s in spaces], np.int64)
    if fixed is not None:
        keep = np.where(fixed >= 0, fixed, keep)
    steps = [keep]
    while True:
        now = cost(keep)
        best, best_loss = -1, np.inf
        for j, space in enumerate(spaces):
            size = len(space.sets)
            # a step of a 16th at least, so that many narrow steps do not hide what they add up to
            less = max(space.unit, (keep[j] - max(1, size // 16)) // space.unit * space.unit)
            if less >= keep[j] or (fixed is not None and fixed[j] >= 0):
                continue
            smaller = keep.copy()
            smaller[j] = less
            saved = now - cost(smaller)
            if saved <= 0:
                continue
            loss = (curves[j](less / size) - curves[j](keep[j] / size)) / saved
            if loss < best_loss:
                best, best_loss, next_keep = j, loss, smaller
        if best < 0:
            break
        keep = next_keep
        steps.append(keep)
    return lambda strength: steps[min(len(steps) - 1, round(strength * (len(steps) - 1)))]


def _monotone(shares: NDArray[np.float64], errors: NDArray[np.float64]) -> Callable[[float], float]:
    """Linear between the points, never falling as channels go; no error when all stays."""
    x, y = np.r_[shares, 1.0], np.r_[np.maximum.accumulate(errors[::-1])[::-1], 0.0]
    return lambda share: float(np.interp(share, x, y))


def within(plan: Plan, measure: Callable[[Counts], float], budget: float, what: str, resolution: int = 256) -> Counts:
    """The weakest plan whose measure is at most `budget`, by bisection; an error with the least that can be reached if none is."""
    least = measure(plan(1.0))
    if least > budget:
        raise TersorError(f"{what} cannot be reached: {_shown(budget)} is wanted, the least that pruning can leave here is {_shown(least)}")
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
