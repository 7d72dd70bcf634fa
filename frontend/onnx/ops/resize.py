"""Resize: along each axis a constant matrix (size of the result x size of x), so that all modes are products with constants.

It becomes nn.upsample where that computes the same, an index_select where elements are copied, else a linear layer along the axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import IndexSelect, Linear, Transpose, Upsample, Where
from ..node import Node
from ..registry import Floats, Ints, onnx_converter


@dataclass(frozen=True)
class Options:
    """The attributes that say how a position becomes a weighted sum."""

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    exclude_outside: bool
    antialias: bool


@dataclass(frozen=True)
class Axis:
    """One axis to be resized: its sizes, the scale, and the region of tf_crop_and_resize."""

    axis: int
    size: int
    target: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)


@onnx_converter("Resize")
def resize(
    node: Node,
    x: Value,
    roi: Floats | None = None,
    scales: Floats | None = None,
    sizes: Ints | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Value:
    places = [node.axis(a, x.type.rank) for a in axes] if axes is not None else list(range(x.type.rank))
    plan = _plan(node, x, places, scales or None, sizes or None, roi, keep_aspect_ratio_policy)
    options = Options(mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, bool(exclude_outside), bool(antialias))
    crop = options.coordinates == "tf_crop_and_resize"
    work = [a for a in plan if crop or not (a.size == a.target and a.scale == 1)]
    up = _upsample(x, work, options)
    if up is not None:
        return up.out
    outside = np.zeros((1,) * x.type.rank, bool)
    for a in work:
        points = source_points(node, a, options)
        x = _along(node, x, a, points, options)
        if crop:
            outside = outside | ((points < 0) | (points > a.size - 1)).reshape(-1, *[1] * (x.type.rank - a.axis - 1))
    return Where(node.const(outside, "bool"), node.like(x, extrapolation_value), x).out if outside.any() else x


def _plan(
    node: Node, x: Value, places: Sequence[int], scales: Sequence[float] | None, sizes: Sequence[int] | None, roi: Floats | None, policy: str
) -> list[Axis]:
    """Sizes and scales of the axes, whichever of the two is given."""
    dims = node.dims(x)
    moved = [i for i, a in enumerate(places) if not _stays(dims[a], scales[i] if scales else None, sizes[i] if sizes else None)]
    current = {i: node.static(x, places[i]) for i in moved}
    targets = {i: math.floor(current[i] * scales[i]) if scales else sizes[i] if sizes else 0 for i in moved if scales or sizes}
    if len(targets) != len(moved) or not (scales or sizes):
        raise node.unsupported("neither scales nor sizes")
    factors = {i: scales[i] if scales else targets[i] / current[i] for i in moved}
    if policy != "stretch" and not scales:
        factor = (min if policy == "not_larger" else max)(factors.values())
        factors = dict.fromkeys(moved, factor)
        targets = {i: math.floor(factor * current[i] + 0.5) for i in moved}
    if any(t < 1 for t in targets.values()):
        raise node.unsupported("an empty result")
    n = len(places)
    regions = {i: (roi[i], roi[n + i]) if roi and len(roi) == 2 * n else (0.0, 1.0) for i in moved}
    return [Axis(places[i], current[i], targets[i], factors[i], regions[i]) for i in moved]


def _stays(dim: object, scale: float | None, size: object) -> bool:
    return scale == 1 if scale is not None else not isinstance(dim, int) and str(dim) == str(size)


def _upsample(x: Value, work: Sequence[Axis], options: Options) -> Op | None:
    """nn.upsample where it computes the same."""
    if x.type.rank != 4 or not x.type.is_float or not work or not {a.axis for a in work} <= {2, 3} or options.antialias:
        return None
    by_axis = {a.axis: a for a in work}
    height, width = (by_axis.get(i, Axis(i, x.shape[i], x.shape[i], 1.0)) for i in (2, 3))
    size = (height.target, width.target)
    plain = all(a.scale == a.target / a.size for a in (height, width))
    scales = None if plain else (height.scale, width.scale)
    kind, many = (options.mode, options.coordinates), min(size) > 1
    if kind == ("linear", "half_pixel") or (kind == ("linear", "pytorch_half_pixel") and many):
        return Upsample(x, size, "bilinear", False, scales)
    if kind == ("linear", "align_corners") and plain:
        return Upsample(x, size, "bilinear", True)
    if options.mode == "nearest" and all(np.array_equal(nearest_places(a, options), _floor_places(a)) for a in work):
        return Upsample(x, size, "nearest", False, scales)
    return None


def _floor_places(a: Axis) -> np.ndarray:
    places: np.ndarray = np.minimum(np.floor(np.arange(a.target) * np.float32(1 / a.scale)), a.size - 1).astype(int)
    return places


def source_points(node: Node | None, a: Axis, options: Options) -> np.ndarray:
    """The coordinate in x of each element of the result, by ONNX's coordinate_transformation_mode."""
    i = np.arange(a.target, dtype=np.float64)
    length = a.scale * a.size
    match options.coordinates:
        case "half_pixel":
            return (i + 0.5) / a.scale - 0.5
        case "half_pixel_symmetric":
            return a.size / 2 * (1 - a.target / length) + (i + 0.5) / a.scale - 0.5
        case "pytorch_half_pixel":
            return (i + 0.5) / a.scale - 0.5 if length > 1 else np.full_like(i, -0.5)
        case "align_corners":
            return i * ((a.size - 1) / (length - 1)) if length > 1 else np.zeros_like(i)
        case "asymmetric":
            return i / a.scale
        case "tf_crop_and_resize":
            start, end = a.roi
            if length == 1:
                return np.full_like(i, (start + end) * (a.size - 1) / 2)
            return start * (a.size - 1) + i * (end - start) * (a.size - 1) / (length - 1)
    valid = "half_pixel, half_pixel_symmetric, pytorch_half_pixel, align_corners, asymmetric, tf_crop_and_resize"
    message = f"coordinate_transformation_mode {options.coordinates!r}; valid: {valid}"
    raise node.unsupported(message) if node is not None else ValueError(message)


def nearest_places(a: Axis, options: Options, points: np.ndarray | None = None) -> np.ndarray:
    """The element that each element of the result copies."""
    at = source_points(None, a, options) if points is None else points
    # a coordinate that should be whole, or a half, may be off by rounding
    near = np.round(at * 2) / 2
    at = np.where(np.abs(at - near) < 1e-6, near, at)
    rounded = {
        "round_prefer_floor": np.ceil(at - 0.5),
        "round_prefer_ceil": np.floor(at + 0.5),
        "floor": np.floor(at),
        "ceil": np.ceil(at),
    }[options.nearest]
    places: np.ndarray = np.clip(rounded, 0, a.size - 1).astype(int)
    return places


def _along(node: Node, x: Value, a: Axis, points: np.ndarray, options: Options) -> Value:
    """x resized along one axis."""
    if options.mode == "nearest":
        places = nearest_places(a, options, points)
        return IndexSelect(x, node.const(places, "i64"), a.axis).out
    if not x.type.is_float:
        raise node.unsupported(f"mode {options.mode!r} of {x.type.elem}; valid: nearest, or a float tensor")
    weights = node.const(matrix(node, a, points, options), str(x.type.elem))
    last = x.type.rank - 1
    swap = tuple(last if i == a.axis else a.axis if i == last else i for i in range(last + 1))
    if a.axis == last:
        return Linear(x, weights).out
    return Transpose(Linear(Transpose(x, swap), weights), swap).out


def matrix(node: Node, a: Axis, points: np.ndarray, options: Options) -> np.ndarray:
    """Weights (size of the result, size of x): a kernel around each point, whose taps outside of x count at the edge or not at all."""
    if options.mode not in ("linear", "cubic"):
        raise node.unsupported(f"mode {options.mode!r}; valid: nearest, linear, cubic")
    # with antialiasing the kernel is stretched where the result is smaller than x
    stretch = min(a.scale, 1.0) if options.antialias else 1.0
    radius = math.ceil((2 if options.mode == "cubic" else 1) / stretch)
    taps = np.floor(points)[:, None] + np.arange(-radius, radius + 1)
    distance = np.abs(taps - points[:, None]) * stretch
    weights = np.clip(1 - distance, 0, None) if options.mode == "linear" else cubic(distance, options.cubic)
    if options.exclude_outside:
        weights = np.where((taps >= 0) & (taps < a.size), weights, 0)
    if options.exclude_outside or options.antialias:
        weights = weights / weights.sum(1, keepdims=True)
    result = np.zeros((a.target, a.size))
    np.add.at(result, (np.arange(a.target)[:, None], np.clip(taps, 0, a.size - 1).astype(int)), weights)
    return result


def cubic(d: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel of the distance (1981): (a+2)d^3 - (a+3)d^2 + 1 up to 1, a(d^3 - 5d^2 + 8d - 4) up to 2."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
