"""Swap kept and removed channel sets while that lowers the refitted error.

LASSO weighs contributions computed with the old weights; He et al. (1707.06168) therefore alternate between selecting and refitting. Here the
selection is improved by the refitted error itself: add the sets that lower it most, then eliminate as many that cost least.
With H and W of the sets that stay (`obs`), adding the rows t lowers the error by tr(C' S^-1 C D), where C = X_t'Y - A_tr W is their
correlation with the residual and S = A_tt - A_tr H A_rt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...ir.ties import Index, Mask
from ..reconstruct.moments import F64, Moments
from ..reconstruct.rows import Fitted
from .obs import Normal, Problem, cheapest, normals, rows_by_size

#: Sets that are exchanged at a time, as a share of those that stay: at first, and at the end.
AT_FIRST, AT_LAST = 1 / 8, 1 / 64
#: Sets that are eliminated at a time, as a share of those that are exchanged.
AT_A_TIME = 1 / 4
#: A swap is kept if it lowers the remaining error by more than this share of it, and by more than this share of the whole.
LEAST, NOISE = 1e-3, 1e-9
#: Residual of the normal equations, relative to their right-hand side, above which they are solved anew: rounding adds up over updates.
DRIFT = 1e-6


@dataclass
class Selected:
    """The fit, and the columns of the normal equations that stay, in the order of the fit's rows."""

    normal: Normal
    columns: Index
    fit: Problem

    @classmethod
    def of(cls, normal: Normal, going: Index) -> Selected:
        columns = np.flatnonzero(~np.isin(normal.owner, going))
        return cls(normal, columns, normal.fit(columns))

    def copy(self) -> Selected:
        return replace(self, fit=replace(self.fit))

    @property
    def explained(self) -> float:
        """By how much the fit's error, weighted by d, is below that of zero weights."""
        return float(np.einsum("ij,ij,j->", self.normal.right[self.columns], self.fit.w, self.normal.d))

    def solved(self) -> Selected:
        """Itself, or the same columns fitted anew where rounding has spoiled the fit."""
        right = self.normal.right[self.columns]
        off = self.normal.a[np.ix_(self.columns, self.columns)] @ self.fit.w - right
        return self if np.linalg.norm(off) <= DRIFT * np.linalg.norm(right) else replace(self, fit=self.normal.fit(self.columns))

    def gains(self, sets: Index) -> F64:
        """By how much each set would raise `explained` if it were added."""
        gain = np.zeros(len(sets))
        new = np.flatnonzero(np.isin(self.normal.owner, sets))
        if not len(new):
            return gain
        across, carried, c = self._against(new)
        for mine, rows in rows_by_size(self.normal.owner[new], sets):
            at = new[rows]
            schur = self.normal.a[at[:, :, None], at[:, None, :]] - carried[rows] @ across[rows].transpose(0, 2, 1)
            gain[mine] = np.einsum("sij,sij,j->s", c[rows], np.linalg.solve(schur, c[rows]), self.normal.d)
        return gain

    def add(self, sets: Index) -> None:
        """Add the sets to those that stay, and refit."""
        new = np.flatnonzero(np.isin(self.normal.owner, sets))
        if not len(new):
            return
        across, carried, c = self._against(new)
        s = np.linalg.inv(self.normal.a[np.ix_(new, new)] - carried @ across.T)
        side = -carried.T @ s
        self.fit.h = np.block([[self.fit.h - side @ carried, side], [side.T, s]])
        self.fit.w = np.concatenate([self.fit.w + side @ c, s @ c])
        self.fit.owner = np.concatenate([self.fit.owner, self.normal.owner[new]])
        self.columns = np.concatenate([self.columns, new])

    def drop(self, sets: Index) -> None:
        self.columns = self.columns[self.fit.eliminate(sets)]

    def _against(self, new: Index) -> tuple[F64, F64, F64]:
        """A_tr, A_tr H and C of columns t that do not stay now."""
        across = self.normal.a[np.ix_(new, self.columns)]
        return across, across @ self.fit.h, self.normal.right[new] - across @ self.fit.w


def exchanged(
    scoring_layer: Fitted,
    moments: Sequence[Moments],
    sensitivity: F64,
    labels: Index,
    orders: Sequence[tuple[Index, int]],
    lost: Mask,
    ridge: float,
) -> list[Index]:
    """The orders of several spaces with better sets first; the first `keep` of each stay; other arguments as in
    `elimination_order`."""
    going = np.concatenate([order[keep:] for order, keep in orders])
    state = [Selected.of(n, going) for n in normals(scoring_layer, moments, sensitivity, labels, lost, ridge)]
    total = sum(float(m.variances @ d) for m, d in zip(moments, np.split(sensitivity, len(moments)))) + sum(s.normal.prior for s in state)
    result = []
    for order, keep in orders:
        stay, out = order[:keep], order[keep:]
        batch = max(1, int(keep * AT_FIRST)) if len(stay) and len(out) else 0
        while batch >= max(1, int(keep * AT_LAST)):
            trial = [s.copy() for s in state]
            now = _swap_sets(trial, stay, out, batch)
            trial = [s.solved() for s in trial]
            before, after = (sum(s.explained for s in of) for of in (state, trial))
            if after - before > max(LEAST * (total - before), NOISE * total):
                state, stay, out = trial, now, np.setdiff1d(order, now)
            else:
                batch //= 2
        result.append(np.concatenate([stay, out]))
    return result


def _swap_sets(state: Sequence[Selected], stay: Index, out: Index, batch: int) -> Index:
    """Add a batch of sets and eliminate as many; returns the sets that stay."""
    gain = sum((s.gains(out) for s in state), np.zeros(len(out)))
    new = out[np.argsort(-gain, kind="stable")[:batch]]
    for s in state:
        s.add(new)
    now = np.concatenate([stay, new])
    while len(now) > len(stay):
        gone = cheapest([s.fit for s in state], now)[: min(len(now) - len(stay), max(1, int(batch * AT_A_TIME)))]
        for s in state:
            s.drop(gone)
        now = now[~np.isin(now, gone)]
    return now
