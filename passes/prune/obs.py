"""Backward elimination: remove the set that costs least when the others are refitted, and repeat.

The Optimal Brain Surgeon (Hassibi and Stork, 1992) for the squared error of a layer's response, which is quadratic in its weights, so the
cost is exact. With H = (X'X + ridge)^-1 and W the refitted weights, leaving out the rows s of W costs tr(W_s' H_ss^-1 W_s D); what
stays, r, is refitted by W_r -= H_rs H_ss^-1 W_s and H_rr -= H_rs H_ss^-1 H_sr.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.ties import Index, Mask
from ..coupling import weight
from ..reconstruct.moments import F64, Moments, penalty_of
from ..reconstruct.rows import Fitted, weights_of
from .constants import array_of

#: Sets that are removed at a time, as a share of those that are left: one by one where few are.
AT_A_TIME = 1 / 32


@dataclass(frozen=True)
class Normal:
    """Normal equations of one group of the scoring layer, over the channels that are left.

    a: X'X + ridge (k, k); right: X'Y + ridge W0 (k, m), W0 the original weights; d: weight of each response (m,); owner: the set of each
    column (k,); prior: tr(W0' ridge W0 D).
    """

    a: F64
    right: F64
    d: F64
    owner: Index
    prior: float

    @classmethod
    def of(cls, m: Moments, w: F64, d: F64, owner: Index, columns: Index, ridge: float) -> Normal:
        """w (k, m), owner (k,): of all columns of the patches, of which `columns` are left. ridge: relative to each column's sum of squares."""
        a, w = m.covariance(columns), w[columns]
        penalty = penalty_of(np.diag(a), ridge)
        a[np.diag_indices_from(a)] += penalty
        return cls(a, m.cross(columns) + penalty[:, None] * w, d, owner[columns], float(penalty @ (w * w) @ d))

    def fit(self, columns: Index) -> Problem:
        """The fit to some of the columns."""
        from scipy.linalg import inv

        h: F64 = inv(self.a[np.ix_(columns, columns)], overwrite_a=True, check_finite=False)
        return Problem(h, h @ self.right[columns], self.d, self.owner[columns])


@dataclass
class Problem:
    """A fit. h: (X'X + ridge)^-1 (k, k); w: the refitted weights (k, m); d: weight of each response (m,); owner: the set of each row (k,)."""

    h: F64
    w: F64
    d: F64
    owner: Index

    def costs(self, sets: Index) -> F64:
        """What leaving out each set would cost if the others were refitted."""
        cost = np.zeros(len(sets))
        for mine, rows in rows_by_size(self.owner, sets):
            w = self.w[rows]
            refitted = np.linalg.solve(self.h[rows[:, :, None], rows[:, None, :]], w)
            cost[mine] = np.einsum("sij,sij,j->s", w, refitted, self.d)
        return cost

    def eliminate(self, sets: Index) -> Mask:
        """Leave the sets out and refit the rest; returns which rows stayed."""
        out = np.isin(self.owner, sets)
        stay = ~out
        if out.any():
            k = np.linalg.solve(self.h[np.ix_(out, out)], np.hstack([self.h[np.ix_(out, stay)], self.w[out]]))
            across = self.h[np.ix_(stay, out)]
            rest = int(stay.sum())
            self.h = self.h[np.ix_(stay, stay)] - across @ k[:, :rest]
            self.w = self.w[stay] - across @ k[:, rest:]
            self.owner = self.owner[stay]
        return stay


def rows_by_size(owner: Index, sets: Index) -> Iterator[tuple[Index, Index]]:
    """Sets grouped by how many rows they have: (sets (s,), their rows (s, size)); sets without rows are left out."""
    order = np.argsort(owner, kind="stable")
    first, last = (np.searchsorted(owner[order], sets, side=side) for side in ("left", "right"))
    for size in np.unique(last - first):
        if size:
            mine = np.flatnonzero(last - first == size)
            yield mine, order[first[mine][:, None] + np.arange(size)]


def normals(scoring_layer: Fitted, moments: Sequence[Moments], sensitivity: F64, labels: Index, lost: Mask, ridge: float) -> list[Normal]:
    """The normal equations of each group of the scoring layer; arguments as in `lasso_order`."""
    taps = len(moments[0].x) * len(moments) // len(labels)
    parts = zip(
        moments,
        weights_of(scoring_layer, array_of(weight(scoring_layer))),
        np.split(sensitivity, len(moments)),
        np.split(np.repeat(labels, taps), len(moments)),
        np.split(np.repeat(~lost, taps), len(moments)),
    )
    return [Normal.of(m, w, d, owner, np.flatnonzero(there), ridge) for m, w, d, owner, there in parts if there.any()]


def elimination_order(
    scoring_layer: Fitted, moments: Sequence[Moments], sensitivity: F64, labels: Index, sets: Index, lost: Mask, ridge: float
) -> Index:
    """`sets`, the last eliminated first; arguments as in `lasso_order`. ridge: of the refits, relative to each column's sum of squares."""
    problems = [n.fit(np.arange(len(n.owner))) for n in normals(scoring_layer, moments, sensitivity, labels, lost, ridge)]
    left, gone = np.asarray(sets), np.zeros(0, np.int64)
    while len(left):
        out = cheapest(problems, left)[: max(1, int(len(left) * AT_A_TIME))]
        for p in problems:
            p.eliminate(out)
        left, gone = left[~np.isin(left, out)], np.concatenate([gone, out])
    return gone[::-1]


def cheapest(problems: Sequence[Problem], sets: Index) -> Index:
    """The sets, the cheapest to leave out first."""
    return sets[np.argsort(sum((p.costs(sets) for p in problems), np.zeros(len(sets))), kind="stable")]
