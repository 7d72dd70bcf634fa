"""Backward elimination: the set goes that costs least when all that stays is refitted, again and again.

The Optimal Brain Surgeon (Hassibi and Stork, 1992), for the squared error of a layer's response, which is quadratic in its weights, so that
nothing is approximated. With H = (X'X + ridge)^-1 and W the refitted weights, leaving out the rows s of W costs tr(W_s' H_ss^-1 W_s D); what
stays, r, is refitted by W_r -= H_rs H_ss^-1 W_s and H_rr -= H_rs H_ss^-1 H_sr.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.ties import Index, Mask
from ..coupling import weight
from ..reconstruct.moments import F64, Moments, penalty_of
from ..reconstruct.rows import Fitted, weights_of
from .constants import array_of

#: Sets that go at a time, as a share of those that are left: one by one where few are.
AT_A_TIME = 1 / 32


@dataclass
class Problem:
    """One group of the judge. h: (X'X + ridge)^-1 (k, k); w: the refitted weights (k, m); d: what each response counts (m,); owner: the set of
    each row (k,)."""

    h: F64
    w: F64
    d: F64
    owner: Index

    @classmethod
    def of(cls, m: Moments, prior: F64, d: F64, owner: Index, columns: Index, ridge: float) -> Problem:
        """The refit to the given columns of the patches; prior (k, m), owner (k,): of all. ridge: relative to each column's sum of squares."""
        from scipy.linalg import inv

        a = m.covariance(columns)
        penalty = penalty_of(np.diag(a), ridge)
        right = m.cross(columns) + penalty[:, None] * prior[columns]
        a[np.diag_indices_from(a)] += penalty
        h: F64 = inv(a, overwrite_a=True, check_finite=False)
        return cls(h, h @ right, d, owner[columns])

    def costs(self, sets: Index) -> F64:
        """What leaving out each set would cost if the others were refitted."""
        order = np.argsort(self.owner, kind="stable")
        first, last = (np.searchsorted(self.owner[order], sets, side=side) for side in ("left", "right"))
        cost = np.zeros(len(sets))
        for size in np.unique(last - first):
            mine = np.flatnonzero(last - first == size)
            rows = order[first[mine][:, None] + np.arange(size)]
            w = self.w[rows]
            refitted = np.linalg.solve(self.h[rows[:, :, None], rows[:, None, :]], w) if size else w
            cost[mine] = np.einsum("sij,sij,j->s", w, refitted, self.d)
        return cost

    def eliminate(self, sets: Index) -> None:
        """Leave the sets out and refit the rest."""
        out = np.isin(self.owner, sets)
        if not out.any():
            return
        stay = ~out
        k = np.linalg.solve(self.h[np.ix_(out, out)], np.hstack([self.h[np.ix_(out, stay)], self.w[out]]))
        across = self.h[np.ix_(stay, out)]
        rest = int(stay.sum())
        self.h = self.h[np.ix_(stay, stay)] - across @ k[:, :rest]
        self.w = self.w[stay] - across @ k[:, rest:]
        self.owner = self.owner[stay]


def elimination_order(judge: Fitted, moments: Sequence[Moments], matter: F64, labels: Index, sets: Index, lost: Mask, ridge: float) -> Index:
    """`sets`, those that are eliminated last first; arguments as of `lasso_order`. ridge: of the refits, relative to each column's sum of squares."""
    taps = len(moments[0].x) * len(moments) // len(labels)
    parts = zip(
        moments,
        weights_of(judge, array_of(weight(judge))),
        np.split(matter, len(moments)),
        np.split(np.repeat(labels, taps), len(moments)),
        np.split(np.repeat(~lost, taps), len(moments)),
    )
    problems = [Problem.of(m, w, d, owner, np.flatnonzero(there), ridge) for m, w, d, owner, there in parts if there.any()]
    left, gone = np.asarray(sets), np.zeros(0, np.int64)
    while len(left):
        order = np.argsort(sum((p.costs(left) for p in problems), np.zeros(len(left))), kind="stable")
        out = left[order[: max(1, int(len(left) * AT_A_TIME))]]
        for p in problems:
            p.eliminate(out)
        left, gone = left[~np.isin(left, out)], np.concatenate([gone, out])
    return gone[::-1]
