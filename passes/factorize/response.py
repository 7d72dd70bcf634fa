"""A convolution's patches and wanted responses as second moments: all that a least-squares problem over linear factors needs.

A factorization without ReLUs is one kernel, its composition. So patches and responses are gathered once per layer, and every rank, split
and refit is algebra on their moments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..reconstruct import Moments
from ..reconstruct.moments import penalty_of

F64: TypeAlias = NDArray[np.float64]

#: Weight of the ridge that keeps a refit near the factors it starts from, relative to each column's sum of squares.
RIDGE = 1e-4


@dataclass(frozen=True)
class Response:
    """Moments of patches x (rows, C*T) and of responses y (rows, N), T the taps of the kernel; patches are ordered as weights are.

    gram: centred x'x (C*T, C*T). cross: centred x'y (C*T, N). variance: centred sum of squares of y. mean_x, mean_y: (C*T,), (N,).
    measured: from data; otherwise patches are taken as white and y is what the weights give, so that errors are those of the weights.
    """

    gram: F64
    cross: F64
    variance: float
    mean_x: F64
    mean_y: F64
    rows: int
    measured: bool = True

    @classmethod
    def of_moments(cls, m: Moments) -> Response:
        n = max(m.rows, 1)
        return cls(m.covariance(), m.cross(), m.variance, m.x / n, m.y / n, m.rows)

    @classmethod
    def of_weights(cls, w: F64) -> Response:
        """w: (N, C, kh, kw)."""
        flat = w.reshape(len(w), -1).T
        k, n = flat.shape
        return cls(np.eye(k), flat, float((w * w).sum()), np.zeros(k), np.zeros(n), 1, measured=False)

    def bias(self, kernel: F64) -> F64:
        """The best bias (N,) of a kernel (N, C, kh, kw)."""
        result: F64 = self.mean_y - kernel.reshape(len(kernel), -1) @ self.mean_x
        return result

    def error(self, kernel: F64, bias: F64 | None = None) -> float:
        """|Y - Y'| / |Y - mean Y| of a kernel with a bias, by default its best one; against data 0.1 is -20 dB."""
        flat = kernel.reshape(len(kernel), -1).T
        left = self.variance - 2 * float((flat * self.cross).sum()) + float((flat * (self.gram @ flat)).sum())
        if bias is not None:
            left += self.rows * float(((self.bias(kernel) - bias) ** 2).sum())
        return float(np.sqrt(max(left, 0.0) / self.variance)) if self.variance > 0 else 0.0

    def covariance(self, axis: int, shape: tuple[int, int]) -> F64:
        """gram reduced to one of the two axes that make up its columns: summed over equal positions of the other."""
        g = self.gram.reshape(*shape, *shape)
        result: F64 = np.einsum("atbt->ab" if axis == 0 else "tatb->ab", g)
        return result

    def mixed(self, mix: F64) -> Response:
        """The moments after patches go through a 1x1 convolution; mix: (hidden, C)."""
        hidden, channels = mix.shape
        taps = len(self.gram) // channels

        def through(a: F64) -> F64:
            return (mix @ a.reshape(channels, -1)).reshape(hidden * taps, -1)

        return replace(self, gram=through(through(self.gram).T).T, cross=through(self.cross), mean_x=through(self.mean_x)[:, 0])


def solve(gram: F64, right: F64, prior: F64) -> F64:
    """min tr(W'GW) - 2 tr(W'R) with a ridge towards `prior`; W, R and prior (k, m).

    The ridge of a column is `RIDGE` times its sum of squares, so that scales do not matter and linearly dependent columns do no harm.
    """
    from scipy.linalg import cho_factor, cho_solve

    penalty = penalty_of(np.diag(gram), RIDGE)
    a = gram.copy()
    a[np.diag_indices_from(a)] += penalty
    w: F64 = cho_solve(cho_factor(a, overwrite_a=True, check_finite=False), right + penalty[:, None] * prior, check_finite=False)
    return w


def principal(unfolded: F64, covariance: F64, rank: int) -> tuple[F64, F64]:
    """Factors a (rank, k) and e (rank, m) of an unfolded tensor M (k, m): the a'e that is nearest to M in |S^(1/2) (M - a'e)|.

    S is the covariance (k, k) of what M is multiplied with. With M = S^(-1/2) U s V' of the SVD of S^(1/2) M: a = U' S^(-1/2), e = U' S^(1/2) M;
    the first `rank` rows of each.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = np.sqrt(np.maximum(values, 0) + 1e-4 * max(float(values.mean()), 1e-30))
    u = np.linalg.svd((vectors * root) @ vectors.T @ unfolded, full_matrices=False)[0][:, :rank]
    a: F64 = u.T @ (vectors / root) @ vectors.T
    e: F64 = u.T @ (vectors * root) @ vectors.T @ unfolded
    return a, e
