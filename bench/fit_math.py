"""Finds the polynomial coefficients of `backend/codegen/vector_math.py`: `python bench/fit_math.py`.

Each approximation is linear in its coefficients, so the minimax fit is Lawson's iteration (least squares on a Chebyshev grid, weights
multiplied by the error until it levels), in long double. A rational p/q is made linear by |q f - p| / |q of the step before|.
The printed error is the relative error of the whole function with the coefficients rounded to f32 and exact arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Array = np.ndarray
LD = np.longdouble


def grid(lo: float, hi: float, n: int = 400) -> Array:
    """Chebyshev points of [lo, hi] without 0."""
    x = LD(lo + hi) / 2 + LD(hi - lo) / 2 * np.cos(np.arange(n, dtype=LD) * LD(np.pi) / (n - 1))
    result: Array = x[np.abs(x) > 1e-9]
    return result


def lawson(basis: Array, target: Array, weight: Array, steps: int = 60) -> Array:
    """Coefficients c with max |weight * (basis @ c - target)| near its least."""
    w = np.ones(len(target), LD)
    a, b = basis * weight[:, None], target * weight
    scale = np.max(np.abs(a), axis=0)
    a = a / scale
    best: tuple[float, Array] = (math.inf, np.zeros(basis.shape[1], LD))
    for _ in range(steps):
        r = np.sqrt(w)
        c = solve(a * r[:, None], b * r)
        error = np.abs(a @ c - b)
        if error.max() < best[0]:
            best = (float(error.max()), c / scale)
        w = w * (error + error.max() * 1e-3)
        w = w / w.max()
    return best[1]


def solve(a: Array, b: Array) -> Array:
    """Least squares in long double by Householder QR (LAPACK has only double)."""
    a, b = a.copy(), b.copy()
    m = a.shape[1]
    for k in range(m):
        v = a[k:, k].copy()
        v[0] += np.copysign(np.sqrt((v * v).sum()), v[0])
        v /= np.sqrt((v * v).sum())
        a[k:] -= 2 * np.outer(v, v @ a[k:])
        b[k:] -= 2 * v * (v @ b[k:])
    c = np.zeros(m, LD)
    for k in reversed(range(m)):
        c[k] = (b[k] - a[k, k + 1 : m] @ c[k + 1 :]) / a[k, k]
    return c


def powers(x: Array, degree: int) -> Array:
    return np.stack([x**i for i in range(degree + 1)], 1)


def horner(c: Sequence[float] | Array, x: Array) -> Array:
    y = np.zeros_like(x)
    for k in reversed(list(c)):
        y = y * x + LD(k)
    return y


def show(name: str, c: Array, error: Callable[[Array], Array], dtype: type = np.float32) -> None:
    rounded: Array = c.astype(dtype)
    print(f"{name}: {[float(k) for k in rounded]}  # relative error {float(np.max(np.abs(error(rounded.astype(LD))))):.2e}")


def fit_exp() -> None:
    """exp(r) = 1 + (r + r^2 p(r)), |r| <= ln2/2; the weight keeps r + r^2 p close to expm1 in relative error too."""
    r = grid(-0.3468, 0.3468)
    f = np.expm1(r)
    c = lawson(powers(r, 4), (f - r) / r**2, np.abs(r**2 / f))
    show("EXP", c, lambda c: (r + r**2 * horner(c, r) - f) / f)


def fit_log() -> None:
    """log(1 + f) = f - f^2/2 + f^3 p(f), f in [-1/3, 1/3]."""
    f = grid(-0.33334, 0.33334)
    y = np.log1p(f)
    c = lawson(powers(f, 7), (y - f + f * f / 2) / f**3, np.abs(f**3 / y))
    show("LOG", c, lambda c: (f - f * f / 2 + f**3 * horner(c, f) - y) / y)


def fit_log64() -> None:
    """log(m) = 2 s (1 + s^2 p(s^2)), s = (m - 1) / (m + 1), m in [2/3, 4/3]: for pow, which works in f64."""
    s = grid(1e-4, 0.2)
    y = np.arctanh(s)
    c = lawson(powers(s * s, 4), (y / s - 1) / s**2, np.abs(s**3 / y))
    show("LOG64", c, lambda c: (s + s**3 * horner(c, s * s) - y) / y, np.float64)


def fit_erf() -> None:
    """erf(x) = x p(x^2) / q(x^2) for |x| <= 3.92, where erf rounds to 1; p and q of degree 5, q(0) = 1."""
    x = grid(1e-3, 3.93)
    y = np.array([math.erf(v) for v in x], LD)
    u, q, c = x * x, np.ones_like(x), np.zeros(11, LD)
    for _ in range(8):
        basis = np.concatenate([powers(u, 5), -powers(u, 5)[:, 1:] * (y / x)[:, None]], 1)
        c = lawson(basis, y / x, np.abs(x / y / q))
        q = 1 + u * horner(c[6:], u)
    show("ERF", c, lambda c: (x * horner(c[:6], u) / (1 + u * horner(c[6:], u)) - y) / y)


if __name__ == "__main__":
    fit_exp()
    fit_log()
    fit_log64()
    fit_erf()
