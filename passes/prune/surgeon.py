"""Backward elimination: the set goes that costs least when all that stays is refitted, again and again.

The Optimal Brain Surgeon (Hassibi and Stork, 1992), for the squared error of a layer's response, which is quadratic in its weights, so that
nothing is approximated. With H = (X'X + ridge)^-1 and W the refitted weights, leaving out the rows s of W costs tr(W_s' H_ss^-1 W_s D); what
stays is refitted by W -= H_:s H_ss^-1 W_s and H -= H_:s H_ss^-1 H_s:.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.ties import Index, Mask
from ..coupling import weight
from ..reconstruct.moments import F64, Moments
from ..reconstruct.rows import Fitted, weights_of
from .constants import array_of

#: Ridge of the refits, relative to each column's sum of squares.
RIDGE = 1e-3

#: Sets that go at a time, as a share of those that are left: one by one where few are.
AT_A_TIME = 1 / 32


def elimination_order(judge: Fitted, moments: Sequence[Moments], matter: F64, labels: Index, sets: Index, lost: Mask) -> Index:
    """`sets`, those that are eliminated last first; arguments as of `lasso_order`."""
    taps = len(moments[0].x) * len(moments) // len(labels)
    of_group = len(labels) // len(moments)
    problems: list[tuple[F64, F64, F64, dict[int, Index]]] = []
    parts = zip(moments, weights_of(judge, array_of(weight(judge))), np.split(matter / (matter.mean() or 1), len(moments)))
    for g, (m, w, d) in enumerate(parts):
        mine, gone = labels[g * of_group : (g + 1) * of_group], lost[g * of_group : (g + 1) * of_group]
        columns = np.flatnonzero(np.repeat(~gone, taps))
        owner = np.repeat(mine, taps)[columns]
        rows = {int(s): np.flatnonzero(owner == s) for s in np.intersect1d(owner, sets)}
        if len(columns):
            h, fitted = _inverse(m, columns, w[columns])
            problems.append((h, fitted, d, rows))
    left, gone_last = [int(s) for s in sets], []
    while left:
        cost = np.array([sum(_cost(h, w, d, rows[s]) for h, w, d, rows in problems if s in rows) for s in left])
        for i in sorted(np.argsort(cost, kind="stable")[: max(1, int(len(left) * AT_A_TIME))].tolist(), key=cost.__getitem__):
            gone_last.append(left[i])
            for h, w, _, rows in problems:
                if left[i] in rows:
                    _eliminate(h, w, rows[left[i]])
        left = [s for s in left if s not in set(gone_last)]
    return np.array(gone_last[::-1], np.int64)


def _inverse(m: Moments, columns: Index, prior: F64) -> tuple[F64, F64]:
    """H and the weights of the refit."""
    from scipy.linalg import inv

    a = m.covariance(columns)
    scale = np.diag(a)
    penalty = RIDGE * (scale + max(float(scale.mean()), 1e-30) * 1e-3)
    right = m.cross(columns) + penalty[:, None] * prior
    a[np.diag_indices_from(a)] += penalty
    h: F64 = inv(a, overwrite_a=True, check_finite=False)
    return h, h @ right


def _cost(h: F64, w: F64, d: F64, s: Index) -> float:
    """What leaving out rows s costs when the others are refitted."""
    if len(s) == 1:
        return float((w[s[0]] ** 2) @ d / h[s[0], s[0]])
    return float(((w[s] * np.linalg.solve(h[np.ix_(s, s)], w[s])) @ d).sum())


def _eliminate(h: F64, w: F64, s: Index) -> None:
    """Refit all but the rows s, in place."""
    k = np.linalg.solve(h[np.ix_(s, s)], np.hstack([h[s], w[s]]))
    w -= h[:, s] @ k[:, len(h) :]
    h -= h[:, s] @ k[:, : len(h)]
