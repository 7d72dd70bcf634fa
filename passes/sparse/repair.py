"""Refit the weights that stay, so that the layer keeps its response: least squares, and the Optimal Brain Compressor.

Each output is a separate problem, min |y - X w|^2 over the weights that stay: with A = X'X + ridge and r = X'y, w_S = A_SS^-1 r_S. The
compressor (Frantar and Alistarh, 2208.11580) also chooses the weights. In every output it removes, again and again, the block that costs least
when the others are refitted; then the cheapest blocks of the whole layer go first. The only approximation is that several blocks go at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...ir.ties import Mask
from ..prune.obs import Normal, Problem, cheapest
from ..reconstruct.moments import F64, Moments
from .pattern import largest

#: Blocks of an output that go at a time, as a share of those that are left.
AT_A_TIME = 1 / 16
#: Each output is eliminated down to this share of the layer's average: it limits how much outputs may differ.
LEAST = 1 / 4
RIDGE = 1e-4


def normal_of(moments: Moments, w: F64) -> Normal:
    """The normal equations of a group: w (k, m), columns of the patches times outputs."""
    every = np.arange(len(w))
    return Normal.of(moments, w, np.ones(w.shape[1]), every, every, RIDGE)


def least_squares(normal: Normal, kept: Mask) -> F64:
    """The refit of every output to its own weights: kept (k, m) says which; the others are 0. Outputs with the same mask are solved together."""
    from scipy.linalg import cho_factor, cho_solve

    w = np.zeros(normal.right.shape)
    masks, which = np.unique(kept, axis=1, return_inverse=True)
    for i, mask in enumerate(masks.T):
        rows, outputs = np.flatnonzero(mask), np.flatnonzero(which.reshape(-1) == i)
        if len(rows):
            factor = cho_factor(normal.a[np.ix_(rows, rows)], overwrite_a=True, check_finite=False)
            w[np.ix_(rows, outputs)] = cho_solve(factor, normal.right[np.ix_(rows, outputs)], check_finite=False)
    return w


def compressed(normals: Sequence[Normal], sparsity: float, columns: int) -> list[Mask]:
    """Which weights of each group stay, (k, m), in blocks of `columns` neighbouring ones, by the Optimal Brain Compressor."""
    costs: list[F64] = []
    shapes: list[tuple[int, ...]] = []
    for normal in normals:
        owner = np.arange(len(normal.a)) // columns
        shapes.append(normal.right.shape)
        least = int(LEAST * (1 - sparsity) * (owner[-1] + 1))
        whole = Normal(normal.a, normal.right, np.ones(1), owner, 0.0).fit(np.arange(len(owner)))
        costs.extend(_elimination(whole.h, whole.w[:, j : j + 1], owner, least) for j in range(normal.right.shape[1]))
    every = np.concatenate(costs)
    stay = np.split(largest(every, round((1 - sparsity) * every.size)), np.cumsum([len(c) for c in costs])[:-1])
    masks, at = [], 0
    for k, m in shapes:
        masks.append(np.stack([np.repeat(s, columns)[:k] for s in stay[at : at + m]], axis=1))
        at += m
    return masks


def _elimination(h: F64, w: F64, owner: np.ndarray, least: int) -> F64:
    """For each block of an output, its cost when it was removed, never falling from block to block; infinite for those that stay."""
    problem = Problem(h, w, np.ones(1), owner)
    left = np.unique(owner)
    cost, highest = np.full(len(left), np.inf), 0.0
    while len(left) > least:
        order = cheapest([problem], left)
        out = order[: max(1, min(int(len(left) * AT_A_TIME), len(left) - least))]
        now = problem.costs(out)
        # rounding must not let a later block seem cheaper than one that had to go before it
        cost[out] = np.maximum.accumulate(np.maximum(now, highest))
        highest = float(cost[out].max())
        problem.eliminate(out)
        left = np.setdiff1d(left, out, assume_unique=True)
        if not len(problem.owner):
            break
    return cost
