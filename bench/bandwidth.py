"""The bandwidth of copies, with which kernels are compared."""

from __future__ import annotations

import functools
import math
import statistics
import time

import numpy as np

from tersor.backend.runtime.measure import Flush

#: Bytes of the smallest and largest copy.
SIZES = (2**16, 2**29)


def copy_gbs(nbytes: float, cold: bool = False) -> float:
    """GB/s read and written by copying between two arrays of `nbytes` together, rounded to a power of two."""
    return _copy_gbs(min(max(2 ** round(math.log2(max(nbytes, 1))), SIZES[0]), SIZES[1]), cold)


@functools.cache
def _copy_gbs(nbytes: int, cold: bool) -> float:
    source = np.ones(nbytes // 8, np.float32)
    target = np.ones_like(source)
    flush = Flush(1) if cold else None
    times = []
    for _ in range(15):
        if flush is not None:
            flush()
        start = time.perf_counter_ns()
        np.copyto(target, source)
        times.append(time.perf_counter_ns() - start)
    # warm, the first copies only warm the caches
    return nbytes / (statistics.median(times) if cold else min(times))
