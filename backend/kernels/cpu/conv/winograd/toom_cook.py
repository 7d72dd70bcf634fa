"""Winograd's minimal filtering F(m, 3): its matrices from interpolation points, and code for the one-dimensional transforms.

    y = A^T [ (G g) * (B^T d) ]        Lavin and Gray, 1509.09308; the matrices by Toom and Cook's interpolation at 0, +-p and infinity

The points come in pairs +-p, so the rows of B^T and the columns of A^T do: an even part plus or minus an odd part, each computed once.
A part of the pairs serves a smaller tile: F(2, 3) at 0, the first pair and infinity multiplies by weights that F(4, 3) has as well.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from .....codegen.builder import Builder, Expr, const, lanes_of

#: Interpolation points +-p besides 0 and infinity, by output tile. Those of 4 give the error of a direct convolution (with 1 and 2 it is four times
#: that); for 6 we know no better set.
POINTS: dict[int, tuple[float, ...]] = {2: (1.0,), 4: (math.sqrt(0.5), math.sqrt(2.0)), 6: (0.5, 1.0, 2.0)}

EPSILON = 1e-12
#: Transformed weights that are computed at a time.
PART = 2**17


@functools.cache
def matrices(m: int, part: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B^T (a, a), G (a, 3) and A^T (m, a) in float64, a = m + 2.

    part: an even number below m: those of F(part, 3) at the first of m's points (`points_of`), with m's G. That differs from F(part, 3)'s own
    by the factors of the points left out, for which B^T compensates.
    """
    pairs = POINTS[m]
    used, unused = ([0.0] if i == 0 else [] for i in range(2))
    for i, p in enumerate(pairs):
        (used if part is None or i < part // 2 else unused).extend((p, -p))
    n, a = len(used) - 1, len(used) + 1
    b, g, t = np.zeros((a, a)), np.zeros((a, 3)), np.zeros((n, a))
    for j, x in enumerate(used):
        others = [*used[:j], *used[j + 1 :]]
        missing = np.prod([x - p for p in unused])
        b[j, :-1] = np.poly(others)[::-1] * missing
        g[j] = np.array([1, x, x * x]) / (np.prod([x - p for p in others]) * missing)
        t[:, j] = [x**i for i in range(n)]
    b[-1] = np.poly(used)[::-1]
    g[-1, 2] = t[-1, -1] = 1
    return b, g, t


def points_of(m: int, part: int) -> tuple[int, ...]:
    """Which of F(m, 3)'s points a tile of `part` outputs uses: all of them for m, else the first pairs and infinity."""
    return (*range(part + 1), m + 1)


def transform_weights(w: np.ndarray, m: int, parts: Sequence[Sequence[int]] = ()) -> list[np.ndarray]:
    """(O, C, 3, 3) -> arrays (planes, C, O): G g G^T in float64, rounded once. parts: numbers of planes of each array; by default all in one."""
    g = matrices(m)[1]
    o, c = w.shape[:2]
    rows = np.kron(g, g)
    parts = parts or [range(len(rows))]
    result = [np.empty((len(part), c, o), np.float32) for part in parts]
    # in slices that stay in the cache
    some = max(1, PART // (len(rows) * o))
    for first in range(0, c, some):
        taps = w[:, first : first + some].transpose(2, 3, 1, 0).reshape(9, -1).astype(np.float64)
        for planes, part in zip(result, parts):
            planes[:, first : first + some] = (rows[list(part)] @ taps).reshape(len(part), -1, o)
    return result


def transform_input(b: Builder, m: int, xs: Sequence[Expr]) -> list[Expr]:
    """B^T x of a = m + 2 vectors, or of fewer: those of a smaller tile at m's points."""
    part = len(xs) - 2
    rows = matrices(m, part)[0]
    result = [combine(rows[0], xs)]
    for i in range(1, part + 1, 2):
        same = np.isclose(rows[i], rows[i + 1], atol=EPSILON)
        even, odd = b.value(combine(rows[i] * same, xs)), b.value(combine(rows[i] * ~same, xs))
        result += [even + odd, even - odd]
    return [*result, combine(rows[-1], xs)]


def transform_output(b: Builder, m: int, xs: Sequence[Expr]) -> list[Expr]:
    """A^T x of a = m + 2 vectors: m of them; of fewer, as `transform_input`."""
    part = len(xs) - 2
    columns = matrices(m, part)[2]
    sums = [b.value(xs[i] + xs[i + 1]) for i in range(1, part + 1, 2)]
    differences = [b.value(xs[i] - xs[i + 1]) for i in range(1, part + 1, 2)]
    terms = [xs[0], *(v for pair in zip(sums, differences) for v in pair), xs[-1]]
    return [combine(_paired(row), terms) for row in columns]


def _paired(row: np.ndarray) -> np.ndarray:
    """Coefficients of x0, of the sum and the difference of each pair, and of the last, from those of x."""
    result = row.copy()
    for i in range(1, len(row) - 1, 2):
        even = abs(row[i] - row[i + 1]) < EPSILON
        result[i], result[i + 1] = (row[i], 0) if even else (0, row[i])
    return result


def combine(coefficients: np.ndarray, xs: Sequence[Expr]) -> Expr:
    """sum c x: terms of coefficient 1 and -1 first, then the others as multiply-adds."""
    terms = sorted(((float(c), x) for c, x in zip(coefficients, xs) if abs(c) > EPSILON), key=lambda term: (term[0] != 1, abs(term[0]) != 1))
    result: Expr = None
    for c, x in terms:
        if abs(abs(c) - 1) < EPSILON:
            result = (x if c > 0 else const(0.0, lanes=lanes_of(x)) - x) if result is None else result + x if c > 0 else result - x
        else:
            product = x * const(c, lanes=lanes_of(x))
            result = product if result is None else result + product
    return result
