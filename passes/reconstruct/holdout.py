"""Validate fits on images held out: choose the strength of the ridge, and estimate the error on other images.

The residual on the fitted rows says nothing where unknowns are many: a classifier with 1,280 inputs and 240 images can be fitted to anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...ir.ties import Index, Mask
from .moments import F64, Moments
from .rows import Fitted, Rows, add_rows, columns_of, refit, weights_of

#: Ridges to try, relative to each column's sum of squares. The weakest is first: it costs no accuracy where rows are many.
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
#: Lost columns are few where they are less than one in this many.
FEW = 10


@dataclass(frozen=True)
class Evidence:
    """Second moments of a layer's rows, one for each group: of the images that are fitted to, and of those held out."""

    fitted: list[Moments]
    held: list[Moments]

    @classmethod
    def of(cls, drawn: Iterable[Rows]) -> Evidence:
        """From rows, which are not kept."""
        evidence = cls([], [])
        for rows in drawn:
            for moments, mine in ((evidence.fitted, ~rows.held), (evidence.held, rows.held)):
                add_rows(moments, [x[mine] for x in rows.x], [y[mine] for y in rows.y])
        return evidence

    @cached_property
    def all(self) -> list[Moments]:
        """Moments of all images, for the final fit."""
        return [a + b for a, b in zip(self.fitted, self.held)]

    def expected(self, layer: Fitted, prior: np.ndarray, kept: Mask, ridge: float) -> F64:
        """Mean squared error of each response (O,) on the images held out, of a refit to the kept channels; arguments as in `refit`.

        With no rows held out the error is unknown, and the response counts as lost.
        """
        if not self.held[0].rows:
            return np.concatenate([m.variances for m in self.fitted]) / max(self.fitted[0].rows, 1)
        lost = columns_of(layer, self.held, ~kept)
        if all(FEW * len(columns) < len(m.x) for columns, m in zip(lost, self.held)):
            return self._without_few(layer, prior, lost, ridge)
        solved = refit(layer, self.fitted, prior, kept, ridge)
        biases = np.split(solved.b, len(self.held))
        parts = zip(self.held, weights_of(layer, solved.w), biases, columns_of(layer, self.held, kept), strict=True)
        return np.concatenate([m.error_of(w[columns], b, columns) / m.rows for m, w, b, columns in parts])

    def _without_few(self, layer: Fitted, prior: np.ndarray, lost: list[Index], ridge: float) -> F64:
        """`expected` where few columns go, as when one of many feature maps that a layer reads is pruned. It reuses solutions for all columns."""
        if ridge not in self._wholes or self._wholes[ridge][0] is not prior:
            self._wholes[ridge] = prior, [m.whole(w, ridge) for m, w in zip(self.fitted, weights_of(layer, prior))]
        errors = []
        for fitted, held, covariance, whole, out in zip(self.fitted, self.held, self._held_covariances, self._wholes[ridge][1], lost, strict=True):
            errors.append(held.error_of(*fitted.solve_without(whole, out), covariance=covariance) / held.rows)
        return np.concatenate(errors)

    @cached_property
    def _wholes(self) -> dict[float, tuple[np.ndarray, list[tuple[F64, F64]]]]:
        """By ridge: the prior, and `Moments.whole` of each group."""
        return {}

    @cached_property
    def _held_covariances(self) -> list[F64]:
        return [m.covariance() for m in self.held]

    def ridge(self, layer: Fitted, prior: np.ndarray, kept: Mask) -> float:
        """The ridge with the least error on the images held out; the search ends where a stronger one is worse."""
        best, least = RIDGES[0], np.inf
        for ridge in RIDGES:
            error = float(self.expected(layer, prior, kept, ridge).sum())
            if error >= least:
                break
            best, least = ridge, error
        return best
