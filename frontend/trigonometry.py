"""Trigonometry of f64 tensors, written out, with errors far below f32's: the namespace of kernels has no sine."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..ir.op import Const, Value
from ..ir.ops import Abs, Add, Div, Equal, Greater, Less, Mul, Neg, Remainder, Round, Sqrt, Sub, Where


def _polynomial(x2: Value, coefficients: list[float]) -> Value:
    """c0 + c1*x2 + c2*x2^2 + … (Horner)"""
    y = _f64(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        y = Add(Mul(y, x2), _f64(c)).out
    return y


def _f64(number: float) -> Value:
    return Const(np.float64(number)).out


def _sine(x: Value) -> Value:
    """sin(r) * (-1)^n with x = n*pi + r, |r| <= pi/2; Taylor's series to r^21 (error below 1e-16)."""
    turns = Round(Mul(x, _f64(1 / math.pi))).out
    # pi as a sum of two numbers, the first of which is exact times any number of turns below 2^20
    high = float(np.float32(math.pi))
    r = Sub(Sub(x, Mul(turns, _f64(high))), Mul(turns, _f64(math.pi - high))).out
    y = Mul(r, _polynomial(Mul(r, r).out, [(-1) ** k / math.factorial(2 * k + 1) for k in range(11)])).out
    odd = Remainder(turns, _f64(2)).out
    return Mul(y, Sub(_f64(1), Add(odd, odd))).out


def _cosine(x: Value) -> Value:
    """sin(x + pi/2)"""
    return _sine(Add(x, _f64(math.pi / 2)).out)


def _arc_tangent(x: Value) -> Value:
    """8 * atan(y) with the argument halved three times, atan(x) = 2 * atan(x / (1 + sqrt(1 + x^2))); then Taylor's series."""
    size = Abs(x).out
    large = Greater(size, _f64(1)).out
    y = Where(large, Div(_f64(1), size), size).out
    for _ in range(3):
        y = Div(y, Add(_f64(1), Sqrt(Add(_f64(1), Mul(y, y))))).out
    series = _polynomial(Mul(y, y).out, [(-1) ** k / (2 * k + 1) for k in range(9)])
    angle = Mul(_f64(8), Mul(y, series)).out
    angle = Where(large, Sub(_f64(math.pi / 2), angle), angle).out
    return Where(Less(x, _f64(0)), Neg(angle), angle).out


def _arc_sine(x: Value) -> Value:
    """2 * atan(x / (1 + sqrt(1 - x^2)))"""
    half = _arc_tangent(Div(x, Add(_f64(1), Sqrt(Sub(_f64(1), Mul(x, x))))).out)
    return Add(half, half).out


TRIGONOMETRY: dict[str, Callable[[Value], Value]] = {
    "Sin": _sine,
    "Cos": _cosine,
    "Tan": lambda x: Div(_sine(x), _cosine(x)).out,
    "Atan": _arc_tangent,
    "Asin": _arc_sine,
    "Acos": lambda x: Sub(_f64(math.pi / 2), _arc_sine(x)).out,
}


def arc_tangent_2(y: Value, x: Value) -> Value:
    """The angle of (x, y) from -pi to pi."""
    zero = _f64(0)
    angle = _arc_tangent(Div(y, x).out)
    behind = Where(Less(y, zero), _f64(-math.pi), _f64(math.pi)).out
    turned = Where(Less(x, zero), Add(angle, behind), angle).out
    upright = Where(Less(y, zero), _f64(-math.pi / 2), Where(Greater(y, zero), _f64(math.pi / 2), zero)).out
    return Where(Equal(x, zero), upright, turned).out
