"""Max pooling that also returns the indices of the maxima."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir.op import Value
from ....ir.ops import Add, ArgMax, Equal, IndexSelect, ReduceMax, Sum, Transpose, Where, out_size
from ..node import Node
from .geometry import Sides, as_image, four, pair


def max_pool_with_places(
    node: Node, x: Value, kernel: Sequence[int], stride: Sequence[int], sides: Sides, dilation: Sequence[int], ceil_mode: bool, columns_first: bool
) -> list[Value]:
    """The maxima of x (N, C, W) or (N, C, H, W), and where each lies in x as one flat number (i64).

    Windows become an axis of taps. A tap outside of x reads the first tap of its window that is inside, so it never adds a maximum.
    columns_first: the flat number counts along H before W.
    """
    space = len(kernel)
    image = as_image(node, x, space)
    for axis in (0, 1):
        node.static(image, axis)
    n, c, height, width = image.shape
    window = zip((height, width), pair(kernel, 1), pair(stride, 1), zip(*[iter(four(sides))] * 2), pair(dilation, 1))
    rows, columns = (_sources(node, size, k, s, lo, hi, d, ceil_mode) for size, k, s, (lo, hi), d in window)
    picked = IndexSelect(IndexSelect(image, node.const(rows.reshape(-1), "i64"), 2), node.const(columns.reshape(-1), "i64"), 3)
    (oh, kh), (ow, kw) = rows.shape, columns.shape
    taps = node.reshape(Transpose(node.reshape(picked, (n, c, oh, kh, ow, kw)), (0, 1, 2, 4, 3, 5)), (n, c, oh, ow, kh * kw))
    at = rows[:, None, :, None] + columns[None, :, None, :] * height if columns_first else rows[:, None, :, None] * width + columns[None, :, None, :]
    chosen = Equal(ArgMax(taps, 4, True), node.const(np.arange(kh * kw), "i64"))
    inside = Sum(Where(chosen, node.const(at.reshape(oh, ow, kh * kw), "i64"), node.const(0, "i64")), (4,))
    places = Add(inside, node.const(np.arange(n * c).reshape(n, c, 1, 1) * height * width, "i64"))
    shape = (n, c, *(oh, ow)[2 - space :])
    return [node.reshape(ReduceMax(taps, (4,)), shape), node.reshape(places, shape)]


def _sources(node: Node, size: int, kernel: int, stride: int, lo: int, hi: int, dilation: int, ceil_mode: bool) -> np.ndarray:
    """(windows, taps): the element that each tap reads along one axis."""
    count = out_size(size, kernel, stride, lo, hi, dilation, ceil_mode)
    at = np.arange(count)[:, None] * stride + np.arange(kernel) * dilation - lo
    inside = (at >= 0) & (at < size)
    if not inside.any(1).all():
        raise node.unsupported(f"a window of {kernel} with pads {lo} and {hi} that holds padding alone; it has no maximum")
    first = at[np.arange(count), inside.argmax(1)]
    sources: np.ndarray = np.where(inside, at, first[:, None])
    return sources
