"""Refit a layer to its response after the ReLU that follows it, so that errors which the ReLU cuts off do not count.

    min |f(s + y) - f(s + x w + b)|^2,   f(t) = min(max(t, low), high)

y is the wanted response, s the other term of a residual sum or zero: the nonlinear, asymmetric reconstruction of Zhang et al., 1505.06798,
section 3.2. It is solved by repeated least squares with changed targets. Where the wanted sum is cut off, the target is the current fit,
clipped to the cut-off side of the bound. Where only the current fit is cut off, the objective has slope zero. There the first sweeps take the wanted
response as the target, to pull the fit back. Later sweeps take the current fit: then each problem lies above the objective and touches it
at the current fit (majorization), so the objective never rises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.op import Const, Op
from ...ir.ops import Add, Clip, Relu
from ...ir.ties import Mask
from .moments import F64, Moments, Solver
from .rows import Fitted, Refit, Rows, array_of_weights, columns_of, weights_of

#: Number of first sweeps, which pull back responses that are cut off and should not be.
PULLED = 2


@dataclass(frozen=True)
class Clamp:
    """Bounds of a ReLU. summed: it follows a sum."""

    low: float
    high: float
    summed: bool


def clamp_after(op: Op) -> Clamp | None:
    """The ReLU that a layer's response goes through, directly or in a sum of two computed values; None where anything else reads it."""
    out, summed = op.out, False
    if out.single_use and out.users and isinstance(add := out.users[0], Add):
        other = add.b if add.a is out else add.a
        if isinstance(other.op, Const) or other is out:
            return None
        out, summed = add.out, True
    bounds = {(0.0, math.inf) if isinstance(r, Relu) else (r.min, r.max) if isinstance(r, Clip) else None for r in out.uses}
    bound = bounds.pop() if len(bounds) == 1 else None
    return None if bound is None else Clamp(*bound, summed)


def refit_clamped(
    layer: Fitted,
    drawn: Sequence[Rows],
    moments: Sequence[Moments],
    clamp: Clamp,
    prior: np.ndarray,
    start: Refit,
    kept: Mask,
    ridge: float,
    sweeps: int,
) -> Refit:
    """`start`, the linear fit to the same rows, improved by a number of least-squares sweeps for what the clamp lets through.

    moments: of `drawn`. The error that is returned is still that of the linear response.
    """
    ws, bs = [], []
    weights = zip(weights_of(layer, prior), weights_of(layer, start.w))
    biases = np.split(start.b, len(moments))
    for g, (columns, (w0, w), b) in enumerate(zip(columns_of(layer, moments, kept), weights, biases, strict=True)):
        whole = np.zeros_like(w)
        if len(columns):
            rows = [(r.x[g][:, columns].astype(np.float64), r.y[g], 0.0 if r.other is None else r.other[g].astype(np.float64)) for r in drawn]
            solve = moments[g].solver(columns, w0[columns], ridge)
            whole[columns], b = _swept(rows, solve, w[columns], b, clamp, sweeps)
        ws.append(whole)
        bs.append(b)
    return Refit(array_of_weights(layer, ws, prior.shape), np.concatenate(bs), start.left, start.error, start.rows, start.unknowns)


def _swept(rows: Sequence[tuple[F64, F64, F64 | float]], solve: Solver, w: F64, b: F64, clamp: Clamp, sweeps: int) -> tuple[F64, F64]:
    """The best of the fits that each follow from the one before; rows: patches (n, k), wanted responses (n, m), the other terms."""
    best, least = (w, b), math.inf
    for i in range(sweeps + 1):
        xy, y, loss = np.zeros_like(w), np.zeros_like(b), 0.0
        for x, wanted, other in rows:
            now, low, high = x @ w + b, clamp.low - other, clamp.high - other
            wanted_cut, now_cut = np.clip(wanted, low, high), np.clip(now, low, high)
            loss += float(((wanted_cut - now_cut) ** 2).sum())
            if i < sweeps:
                # the current fit, clipped to the far side of the bound that cuts the wanted response off
                target = np.where(wanted == wanted_cut, wanted, np.where(wanted < low, np.minimum(now, low), np.maximum(now, high)))
                if i >= PULLED:
                    target = np.where((wanted == wanted_cut) & (now != now_cut), now, target)
                xy += x.T @ target
                y += target.sum(axis=0)
        if loss < least:
            best, least = (w, b), loss
        if i < sweeps:
            w, b = solve(xy, y)
    return best
