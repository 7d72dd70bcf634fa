"""Windows over any number of axes, and the indices of their maxima.

The elements of each window become an axis of taps. A tap outside of x reads the first tap of its window that is inside, so it never adds
a maximum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir.op import Value
from ....ir.ops import ArgMax, Equal, IndexSelect, Sum, Transpose, Where, out_size
from ...call import Call


def window_sources(size: int, kernel: int, stride: int, pad: int, dilation: int, ceil_mode: bool) -> np.ndarray:
    """(windows, taps): the element that each tap reads along one axis."""
    at = np.arange(out_size(size, kernel, stride, pad, pad, dilation, ceil_mode))[:, None] * stride + np.arange(kernel) * dilation - pad
    return _inside(at, size)


def adaptive_sources(size: int, count: int) -> np.ndarray:
    """(windows, taps) of windows from floor(i * size / count) to ceil((i + 1) * size / count)."""
    first, last = np.arange(count) * size // count, -(-np.arange(1, count + 1) * size // count)
    at = first[:, None] + np.arange((last - first).max())
    return _inside(np.where(at < last[:, None], at, -1), size)


def _inside(at: np.ndarray, size: int) -> np.ndarray:
    inside = (at >= 0) & (at < size)
    sources: np.ndarray = np.where(inside, at, at[np.arange(len(at)), inside.argmax(1)][:, None])
    return sources


def places_of_maxima(call: Call, x: Value, sources: Sequence[np.ndarray]) -> Value:
    """The flat index (i64), over the last axes of x, of the maximum of each window; the first of equals. sources: the taps along each axis."""
    dims = call.dims(x)
    lead = len(dims) - len(sources)
    taps, sizes = x, x.shape[lead:]
    for axis, along in enumerate(sources):
        taps = IndexSelect(taps, call.const(along.reshape(-1), "i64"), lead + axis).out
    apart = call.reshape(taps, (*dims[:lead], *(n for along in sources for n in along.shape)))
    order = [*range(lead), *(lead + 2 * i for i in range(len(sources))), *(lead + 2 * i + 1 for i in range(len(sources)))]
    windows = [len(along) for along in sources]
    count = int(np.prod([along.shape[1] for along in sources]))
    rows = call.reshape(Transpose(apart, tuple(order)), (*dims[:lead], *windows, count))
    chosen = Equal(ArgMax(rows, rows.type.rank - 1, True), call.const(np.arange(count), "i64"))
    return Sum(Where(chosen, call.const(_flat(sources, sizes), "i64"), call.const(0, "i64")), (rows.type.rank - 1,)).out


def _flat(sources: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
    """(windows of each axis, taps of all): flat places."""
    space = len(sources)
    total: np.ndarray = np.zeros((1,) * (2 * space), np.int64)
    for axis, along in enumerate(sources):
        shape = [1] * (2 * space)
        shape[axis], shape[space + axis] = along.shape
        total = total + along.reshape(shape) * int(np.prod(sizes[axis + 1 :], dtype=np.int64))
    return total.reshape(*total.shape[:space], -1)
