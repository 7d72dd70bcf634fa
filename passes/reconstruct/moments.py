"""Least squares from second moments, which are gathered batch by batch: memory depends on the layer, not on the number of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Index = NDArray[np.int64]
#: Function of x'y (k, m) and the sum of y (m,), not centred, that gives weights and bias.
Solver = Callable[[F64, F64], tuple[F64, F64]]


@dataclass(frozen=True)
class Fit:
    """y ~ x @ w + b: w (k, m), b (m,); left (m,): the residual sum of squares of each output; error: that of all outputs as a share, 0 to 1."""

    w: F64
    b: F64
    left: F64
    error: float


def penalty_of(scale: F64, ridge: float) -> F64:
    """The ridge of each column, relative to its sum of squares `scale`; a thousandth of the mean is added, so that none is zero."""
    penalty: F64 = ridge * (scale + max(float(scale.mean()) if len(scale) else 0.0, 1e-30) * 1e-3)
    return penalty


class Moments:
    """Counts, sums and products of rows x (n, k) and y (n, m), in float64."""

    def __init__(self, k: int, m: int):
        self.rows = 0
        self.x = np.zeros(k)
        self.y = np.zeros(m)
        # upper triangle only, column-major, so that BLAS can add to it in place
        self._xx: F64 = np.zeros((k, k), order="F")
        self._xy = np.zeros((k, m))
        self._yy = np.zeros(m)

    def add(self, x: F64, y: F64) -> None:
        from scipy.linalg.blas import dsyrk

        x, y = np.ascontiguousarray(x, np.float64), np.asarray(y, np.float64)
        self.rows += len(x)
        self.x += x.sum(axis=0)
        self.y += y.sum(axis=0)
        self._xx = dsyrk(1.0, x.T, beta=1.0, c=self._xx, overwrite_c=1)
        self._xy += x.T @ y
        self._yy += (y * y).sum(axis=0)

    def __add__(self, other: Moments) -> Moments:
        """Moments of the rows of both."""
        both = Moments(*self._xy.shape)
        both.rows = self.rows + other.rows
        for name in ("x", "y", "_xx", "_xy", "_yy"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

    # -- centred: what an intercept leaves ------------------------------------------------------

    def covariance(self, keep: Index | None = None) -> F64:
        """Centred x'x of the kept columns (ascending), (k, k)."""
        upper = np.triu(self._xx) if keep is None else np.triu(self._xx[np.ix_(keep, keep)])
        full: F64 = upper + np.triu(upper, 1).T
        x = self.x if keep is None else self.x[keep]
        full -= np.outer(x, x) / max(self.rows, 1)
        return full

    def cross(self, keep: Index | None = None) -> F64:
        """Centred x'y of the kept columns, (k, m)."""
        xy, x = (self._xy, self.x) if keep is None else (self._xy[keep], self.x[keep])
        return xy - np.outer(x, self.y) / max(self.rows, 1)

    @property
    def variance(self) -> float:
        """Centred sum of squares of y."""
        return float(self.variances.sum())

    @property
    def variances(self) -> F64:
        """Centred sum of squares of each output, (m,)."""
        return np.maximum(self._yy - self.y * self.y / max(self.rows, 1), 0.0)

    # -- solutions -----------------------------------------------------------------------------

    def solve(self, keep: Index | None = None, prior: F64 | None = None, ridge: float = 1e-4) -> Fit:
        """min |y - x w - b|^2 + sum_i ridge_i |w_i - prior_i|^2 over the kept columns of x; the other rows of w are left out.

        ridge_i is `ridge` times the sum of squares of column i, so that the scale of a column does not matter. prior: (kept, m), zero when
        left out. With fewer rows than kept columns, the ridge decides what the rows leave open.
        """
        g = self.covariance(keep)
        w, _ = self._solver(g.copy(), keep, prior, ridge)(self._xy if keep is None else self._xy[keep], self.y)
        return self._fit(w, g, keep)

    def solver(self, keep: Index | None = None, prior: F64 | None = None, ridge: float = 1e-4) -> Solver:
        """`solve` for other responses to the same rows."""
        return self._solver(self.covariance(keep), keep, prior, ridge)

    def whole(self, prior: F64, ridge: float) -> tuple[F64, F64]:
        """The inverse A^-1 of the covariance with the ridge of `solve`, (k, k), and the weights for all columns: where `solve_without` starts."""
        from scipy.linalg import cho_factor, cho_solve

        a = self.covariance()
        penalty = penalty_of(np.diag(a), ridge)
        a[np.diag_indices_from(a)] += penalty
        inverse: F64 = cho_solve(cho_factor(a, overwrite_a=True, check_finite=False), np.eye(len(a)), overwrite_b=True, check_finite=False)
        return inverse, inverse @ (self.cross() + penalty[:, None] * prior)

    def solve_without(self, whole: tuple[F64, F64], out: Index) -> tuple[F64, F64]:
        """`solve` without the columns `out`, cheap where `out` are few: weights (k, m), zero for `out`, and bias (m,).

        The full solution w minus A^-1[:, out] (A^-1[out, out])^-1 w[out]: Hassibi and Stork, NIPS 1992, for several weights at once. It differs
        from `solve` in the mean that the ridge adds, which here is that of all columns.
        """
        inverse, full = whole
        w: F64 = full - inverse[:, out] @ np.linalg.solve(inverse[np.ix_(out, out)], full[out])
        w[out] = 0
        return w, (self.y - self.x @ w) / max(self.rows, 1)

    def _solver(self, a: F64, keep: Index | None, prior: F64 | None, ridge: float) -> Solver:
        """a: the covariance, which is overwritten."""
        from scipy.linalg import cho_factor, cho_solve

        x = self.x if keep is None else self.x[keep]
        n, penalty = max(self.rows, 1), penalty_of(np.diag(a), ridge)
        a[np.diag_indices_from(a)] += penalty
        factor = cho_factor(a, overwrite_a=True, check_finite=False)

        def solve(xy: F64, y: F64) -> tuple[F64, F64]:
            right = xy - np.outer(x, y) / n
            w: F64 = cho_solve(factor, right if prior is None else right + penalty[:, None] * prior, check_finite=False)
            return w, (y - x @ w) / n

        return solve

    def error_of(self, w: F64, b: F64, keep: Index | None = None, covariance: F64 | None = None) -> F64:
        """Sum of squares of y - x w - b, of each output (m,). covariance: that of the kept columns, if it is known."""
        fit = self._fit(w, self.covariance(keep) if covariance is None else covariance, keep)
        error: F64 = fit.left + self.rows * (fit.b - b) ** 2
        return error

    def _fit(self, w: F64, g: F64, keep: Index | None) -> Fit:
        xy, x = self.cross(keep), self.x if keep is None else self.x[keep]
        left = np.maximum(self.variances - 2 * (w * xy).sum(axis=0) + (w * (g @ w)).sum(axis=0), 0.0)
        return Fit(w, (self.y - x @ w) / max(self.rows, 1), left, float(left.sum()) / self.variance if self.variance > 0 else 0.0)
