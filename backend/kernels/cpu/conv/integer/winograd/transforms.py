"""Winograd's F(m x m, 3x3) in integers: matrices without fractions, code for the one-dimensional transforms, and the proof that a sum is exact.

    s * y = A^T [ (G g) * (B^T d) ]        Lavin and Gray, 1509.09308; Maji and others, 1903.08066 for integers

G of F(4, 3) has fractions of 24: its rows are multiplied by 24 or a divisor of it, and the columns of A^T by the remaining factor. So in 2-d the
result is s^2 = 576 = 2^6 * 9 times the sum. Every step is an addition or a product of integers, so all of it may wrap modulo 2^32: a product by the
inverse of 9 modulo 2^32 and a shift by 6 give the sum, if 2^6 times the sum fits i32.

Transformed inputs and weights must fit i16: |V| <= 100 * 255 and |U| <= 12 * 12 * 128.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ......codegen.builder import Builder, Expr, const, lanes_of

Matrix = tuple[tuple[int, ...], ...]

#: Subtracted from u8 activations, which centers them about 0 and halves the bound of the sums.
CENTER = 128


@dataclass(frozen=True)
class Transform:
    """F(m, 3). input B^T (a, a), weights G (a, 3), output A^T (m, a), a = m + 2; scale: s."""

    m: int
    input: Matrix
    weights: Matrix
    output: Matrix
    scale: int

    @property
    def a(self) -> int:
        return self.m + 2

    @cached_property
    def shift(self) -> int:
        """The exponent of 2 in s^2."""
        square = self.scale**2
        return (square & -square).bit_length() - 1

    @cached_property
    def inverse(self) -> int:
        """The inverse of the odd part of s^2 modulo 2^32, as i32."""
        value = pow(self.scale**2 >> self.shift, -1, 2**32)
        return value - 2**32 if value >= 2**31 else value

    @property
    def constant(self) -> int:
        """The element (1, 1) of B^T d B where every d is 1; all others are 0."""
        return sum(self.input[1]) ** 2

    def fits(self, w: np.ndarray) -> bool:
        """Whether 2^shift times every sum of weights (O, ...) i8 by activations in -128 .. 127 fits i32.

        u8 activations minus `CENTER` lie in this range, i8 as they are.
        """
        taps = w.reshape(len(w), -1)
        above, below = np.maximum(taps, 0).sum(1, dtype=np.int64), np.maximum(-taps.astype(np.int16), 0).sum(1, dtype=np.int64)
        most, least = 127 * above + 128 * below, -128 * above - 127 * below
        limit = 1 << (31 - self.shift)
        return bool((most < limit).all() and (least >= -limit).all())


TRANSFORMS = {
    2: Transform(
        2,
        ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
        ((2, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 2)),
        ((1, 1, 1, 0), (0, 1, -1, -1)),
        2,
    ),
    4: Transform(
        4,
        ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0), (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1)),
        ((6, 0, 0), (4, 4, 4), (4, -4, 4), (1, 2, 4), (1, -2, 4), (0, 0, 12)),
        ((1, -1, -1, 1, 1, 0), (0, -1, 1, 2, -2, 0), (0, -1, -1, 4, 4, 0), (0, -1, 1, 8, -8, 2)),
        24,
    ),
}


def by_rows(b: Builder, matrix: Matrix, xs: Sequence[Expr]) -> list[Expr]:
    """B^T x or G x: rows except the first and the last come in pairs, an even part plus or minus an odd part."""
    result = [combine(matrix[0], xs)]
    for plus, minus in zip(matrix[1:-1:2], matrix[2:-1:2]):
        even, odd = (b.value(combine([x if (x == y) == same else 0 for x, y in zip(plus, minus)], xs)) for same in (True, False))
        result += [even + odd, even - odd]
    return [*result, combine(matrix[-1], xs)]


def by_columns(b: Builder, matrix: Matrix, xs: Sequence[Expr]) -> list[Expr]:
    """A^T x: columns except the first and the last come in pairs, which each row uses as a sum or a difference."""
    pairs = range(1, len(xs) - 1, 2)
    sums, differences = ([b.value(xs[i] + xs[i + 1]) for i in pairs], [b.value(xs[i] - xs[i + 1]) for i in pairs])
    terms = [xs[0], *sums, *differences, xs[-1]]
    result = []
    for row in matrix:
        even = [row[i] if row[i] == row[i + 1] else 0 for i in pairs]
        odd = [row[i] if row[i] != row[i + 1] else 0 for i in pairs]
        result.append(combine([row[0], *even, *odd, row[-1]], terms))
    return result


def combine(coefficients: Sequence[int], xs: Sequence[Expr]) -> Expr:
    """sum c x of integer vectors, positive terms first."""
    terms = sorted(((c, x) for c, x in zip(coefficients, xs) if c), key=lambda term: (term[0] < 0, abs(term[0]) != 1))
    result: Expr = None
    for c, x in terms:
        dtype = str(x.ty.dtype).partition("x")[0]
        product = x if abs(c) == 1 else x * const(abs(c), dtype, lanes_of(x))
        result = const(0, dtype, lanes_of(x)) if result is None and c < 0 else result
        result = product if result is None else result + product if c > 0 else result - product
    return result
