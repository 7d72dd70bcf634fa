"""Winograd's minimal filtering F(m, 3): its matrices from interpolation points, and code for the one-dimensional transforms.

    y = A^T [ (G g) * (B^T d) ]        Lavin and Gray, 1509.09308; the matrices by Toom and Cook's interpolation at 0, +-p and infinity

The points come in pairs +-p, so the rows of B^T and the columns of A^T do: an even part plus or minus an odd part, each computed once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from ..tir import Builder, Expr, const, lanes_of

#: Interpolation points +-p beside 0 and infinity, by output tile. Those of 4 keep its error at that of a direct convolution (with 1 and 2 it is
#: four times that); for 6 no better set is known to us.
POINTS: dict[int, tuple[float, ...]] = {2: (1.0,), 4: (math.sqrt(0.5), math.sqrt(2.0)), 6: (0.5, 1.0, 2.0)}

EPSILON = 1e-12


@functools.cache
def matrices(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B^T (a, a), G (a, 3) and A^T (m, a) in float64, a = m + 2."""
    points = [0.0, *(s * p for p in POINTS[m] for s in (1, -1))]
    a = m + 2
    b, g, t = np.zeros((a, a)), np.zeros((a, 3)), np.zeros((m, a))
    for j, x in enumerate(points):
        others = [*points[:j], *points[j + 1 :]]
        b[j, :-1] = np.poly(others)[::-1]
        g[j] = np.array([1, x, x * x]) / np.prod([x - p for p in others])
        t[:, j] = [x**i for i in range(m)]
    b[-1] = np.poly(points)[::-1]
    g[-1, 2] = t[-1, -1] = 1
    return b, g, t


def transform_weights(w: np.ndarray, m: int) -> np.ndarray:
    """(O, C, 3, 3) -> (a * a, C, O): G g G^T in float64, rounded once."""
    g = matrices(m)[1]
    o, c = w.shape[:2]
    result: np.ndarray = np.einsum("xr,ocrs,ys->xyco", g, w.astype(np.float64), g, optimize=True).reshape((m + 2) ** 2, c, o).astype(np.float32)
    return result


def transform_input(b: Builder, m: int, xs: Sequence[Expr]) -> list[Expr]:
    """B^T x of a = m + 2 vectors."""
    rows = matrices(m)[0]
    result = [_combine(rows[0], xs)]
    for i in range(1, m + 1, 2):
        same = np.isclose(rows[i], rows[i + 1], atol=EPSILON)
        even, odd = b.value(_combine(rows[i] * same, xs)), b.value(_combine(rows[i] * ~same, xs))
        result += [even + odd, even - odd]
    return [*result, _combine(rows[-1], xs)]


def transform_output(b: Builder, m: int, xs: Sequence[Expr]) -> list[Expr]:
    """A^T x of a = m + 2 vectors: m of them."""
    columns = matrices(m)[2]
    sums = [b.value(xs[i] + xs[i + 1]) for i in range(1, m + 1, 2)]
    differences = [b.value(xs[i] - xs[i + 1]) for i in range(1, m + 1, 2)]
    terms = [xs[0], *(v for pair in zip(sums, differences) for v in pair), xs[-1]]
    return [_combine(_paired(row), terms) for row in columns]


def _paired(row: np.ndarray) -> np.ndarray:
    """Coefficients of x0, of the sum and the difference of each pair, and of the last, from those of x."""
    result = row.copy()
    for i in range(1, len(row) - 1, 2):
        even = abs(row[i] - row[i + 1]) < EPSILON
        result[i], result[i + 1] = (row[i], 0) if even else (0, row[i])
    return result


def _combine(coefficients: np.ndarray, xs: Sequence[Expr]) -> Expr:
    """sum c x: terms of coefficient 1 and -1 first, the others as multiply-adds behind them."""
    terms = sorted(((float(c), x) for c, x in zip(coefficients, xs) if abs(c) > EPSILON), key=lambda term: (term[0] != 1, abs(term[0]) != 1))
    result: Expr = None
    for c, x in terms:
        if abs(abs(c) - 1) < EPSILON:
            result = (x if c > 0 else const(0.0, lanes=lanes_of(x)) - x) if result is None else result + x if c > 0 else result - x
        else:
            product = x * const(c, lanes=lanes_of(x))
            result = product if result is None else result + product
    return result
