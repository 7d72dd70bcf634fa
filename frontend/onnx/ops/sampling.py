"""Sampling at computed points: each point reads its neighbours out of a table of pixels, weighted by their distances."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from ....ir.op import Value
from ....ir.ops import (
    Add,
    Clip,
    CumSum,
    Floor,
    GreaterEqual,
    IndexSelect,
    LessEqual,
    LogicalAnd,
    Maximum,
    Minimum,
    Mul,
    Remainder,
    Round,
    Slice,
    Sub,
    Transpose,
    Where,
)
from ..node import Node
from ..registry import onnx_converter
from ..sizes import Dim

MODES = {"linear": "linear", "bilinear": "linear", "cubic": "cubic", "bicubic": "cubic", "nearest": "nearest"}
#: The parameter of Keys' cubic kernel in GridSample.
A = -0.75


@dataclass(frozen=True)
class Tap:
    """One neighbour along one axis: its index (i64, inside of x), its weight, and whether it counts (None: always)."""

    place: Value
    weight: Value | None
    counts: Value | None


@onnx_converter("GridSample")
def grid_sample(node: Node, x: Value, grid: Value, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros") -> Value:
    """x (N, C, H, W) or (N, C, D, H, W) at grid (N, ..., 2 or 3): coordinates of (W, H) or (W, H, D) from -1 to 1 (1506.02025)."""
    space = x.type.rank - 2
    if mode not in MODES or padding_mode not in ("zeros", "border", "reflection"):
        raise node.unsupported(f"mode {mode!r} with padding_mode {padding_mode!r}; valid: {', '.join(MODES)} with zeros, border or reflection")
    if space not in (2, 3) or grid.type.rank != x.type.rank or grid.shape[-1] != space:
        raise node.unsupported(f"x {list(x.shape)} with a grid {list(grid.shape)}; valid: 2 or 3 dimensions of space")
    if space == 3 and MODES[mode] == "cubic":
        raise node.unsupported(f"mode {mode!r} over 3 dimensions of space; valid: 2, or linear or nearest")
    points = node.dims(grid)[:-1]
    axes = []
    for i in range(space):
        size = node.static(x, 2 + i)
        part = node.reshape(Slice(grid, space + 1, space - 1 - i, space - i), points)
        at = _pixels(node, part, size, bool(align_corners))
        axes.append(_taps(node, at, size, MODES[mode], padding_mode, bool(align_corners)))
    return sampled(node, x, axes, points)


def sampled(node: Node, x: Value, axes: Sequence[Sequence[Tap]], points: Sequence[Dim]) -> Value:
    """The sum over all neighbours of points (N, ...) in x (N, C, space): (N, C, ...)."""
    n, channels, *space = node.dims(x)
    rank = x.type.rank
    table = node.reshape(Transpose(x, (0, *range(2, rank), 1)), (n * math.prod(space), channels))
    first = node.reshape(Mul(numbers(node, n), node.const(math.prod(space), "i64")), (n, *(1,) * (len(points) - 1)))
    count = math.prod(points, start=1)
    strides = [math.prod(space[i + 1 :]) for i in range(len(space))]
    parts: list[Value] = []
    for taps in itertools.product(*axes):
        place, weight = first, None
        for tap, behind in zip(taps, strides):
            place = Add(place, Mul(tap.place, node.const(behind, "i64")) if behind != 1 else tap.place).out
            one = tap.weight
            if tap.counts is not None:
                one = Where(tap.counts, node.like(x, 1) if one is None else one, node.like(x, 0)).out
            weight = one if weight is None or one is None else Mul(weight, one).out
        pixels = IndexSelect(table, node.reshape(place, (count,)), 0).out
        parts.append(pixels if weight is None else Mul(pixels, node.reshape(weight, (count, 1))).out)
    total = reduce(lambda a, b: Add(a, b).out, parts)
    return Transpose(node.reshape(total, (*points, channels)), (0, len(points), *range(1, len(points)))).out


def numbers(node: Node, n: Dim) -> Value:
    """0, 1, ... n - 1 (i64); n may be the batch."""
    if isinstance(n, int):
        return node.const(np.arange(n), "i64")
    ones = node.expand(node.const([1], "i64"), (n,))
    return Sub(CumSum(ones, 0), node.const(1, "i64")).out


def _pixels(node: Node, at: Value, size: int, corners: bool) -> Value:
    """Coordinates from -1 .. 1 in pixels: the ends are the centres of the outermost pixels (corners) or their outer edges."""
    half = (size - 1) / 2 if corners else size / 2
    return Add(Mul(at, node.like(at, half)), node.like(at, (size - 1) / 2)).out


def _taps(node: Node, at: Value, size: int, mode: str, padding: str, corners: bool) -> list[Tap]:
    """The neighbours of points along one axis. Points outside are moved inside first, except with zeros; cubic moves each neighbour."""
    low, high = (0.0, size - 1.0) if corners else (-0.5, size - 0.5)
    if mode == "nearest":
        at = Round(at).out
    if mode == "cubic":
        return _neighbours(node, at, size, mode, padding, low, high)
    if padding == "border":
        at = Clip(at, 0.0, size - 1.0).out
    elif padding == "reflection":
        at = _reflected(node, at, low, high)
    if mode == "nearest":
        return [_tap(node, at, size, None, padding, low, high)]
    return _neighbours(node, at, size, mode, padding, low, high)


def _neighbours(node: Node, at: Value, size: int, mode: str, padding: str, low: float, high: float) -> list[Tap]:
    base = Floor(at).out
    t = Sub(at, base).out
    one = node.like(at, 1)
    if mode == "linear":
        return [
            _tap(node, base, size, Sub(one, t).out, padding, low, high),
            _tap(node, Add(base, one).out, size, t, padding, low, high),
        ]
    distances = [(-1, Add(t, one).out), (0, t), (1, Sub(one, t).out), (2, Sub(node.like(at, 2), t).out)]
    return [_tap(node, Add(base, node.like(at, step)).out, size, _cubic(node, d, step in (-1, 2)), padding, low, high) for step, d in distances]


def _cubic(node: Node, d: Value, far: bool) -> Value:
    """(A+2)d^3 - (A+3)d^2 + 1 up to 1, A(d^3 - 5d^2 + 8d - 4) up to 2"""
    coefficients = (A, -5 * A, 8 * A, -4 * A) if far else (A + 2, -(A + 3), 0.0, 1.0)
    return reduce(lambda y, c: Add(Mul(y, d), node.like(d, c)).out, coefficients[1:], node.like(d, coefficients[0]))


def _tap(node: Node, at: Value, size: int, weight: Value | None, padding: str, low: float, high: float) -> Tap:
    counts = None
    if padding == "zeros":
        counts = LogicalAnd(GreaterEqual(at, node.like(at, 0)), LessEqual(at, node.like(at, size - 1))).out
    elif padding == "reflection":
        at = _reflected(node, at, low, high)
    inside = Clip(at, 0.0, size - 1.0)
    # clamp again in integers, so that NaN coordinates stay inside of the table too
    place = Minimum(Maximum(node.cast(inside, "i64"), node.const(0, "i64")), node.const(size - 1, "i64")).out
    return Tap(place, weight, counts)


def _reflected(node: Node, at: Value, low: float, high: float) -> Value:
    """Coordinates mirrored at both ends as often as needed; those inside stay unchanged."""
    span = high - low
    if span == 0:
        return Mul(at, node.like(at, 0)).out
    round_trip = Remainder(Sub(at, node.like(at, low)), node.like(at, 2 * span)).out
    back = Where(LessEqual(round_trip, node.like(at, span)), round_trip, Sub(node.like(at, 2 * span), round_trip))
    outside = Add(back, node.like(at, low))
    stays = LogicalAnd(GreaterEqual(at, node.like(at, low)), LessEqual(at, node.like(at, high)))
    return Where(stays, at, outside).out
