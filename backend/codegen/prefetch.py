"""Software prefetch: loops that multiply request cache lines of weights that are read later."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as t

from .builder import Buffer, Builder, Expr, int32

#: f32 in a cache line.
LINE = 16
#: Multiply-adds of a thread per cache line that it prefetches for another kernel.
PACE = 24 * LINE


@dataclass(frozen=True)
class Prefetch:
    """Cache lines of weights (or of a feature map) to prefetch, spread over a loop that multiplies. locality: see `Builder.prefetch`."""

    buffer: Buffer
    at: Expr
    lines: int
    write: bool = False
    locality: str = "L1"


class NextWeights:
    """Prefetches the weights of a later kernel, each thread its part: call `ask` in loops that multiply, for a few lines at a time.

    macs: multiply-accumulates of the current kernel, on all threads.
    """

    def __init__(self, b: Builder, weights: Buffer, elements: int, macs: int):
        self._b, self._weights = b, weights
        self._lines, self._macs = elements // LINE, max(macs, 1)
        self._at = b.local(1, "int32", hint=True)
        each = -(-self._lines // b.team) * LINE
        b.store(self._at, 0, int32(0) if b.team == 1 else b.worker * each)

    def ask(self, macs: int) -> None:
        """Prefetch the share for `macs` multiply-adds in vectors, no more than memory delivers in that time."""
        lines = min(-(-self._lines * macs // self._macs), macs // PACE, self._lines)
        if lines == 0:
            return
        at = self._b.let("next", t.min(self._b.load(self._at, 0), (self._lines - lines) * LINE))
        for line in range(lines):
            self._b.prefetch(self._weights, at + line * LINE, locality="L2")
        self._b.store(self._at, 0, at + lines * LINE)


def shared_prefetch(b: Builder, w: Buffer, start: Expr, elements: int, tile: Expr, tiles: int) -> Prefetch | None:
    """One tile's share in prefetching `elements` weights from `start` on: the `tiles` that read the current panel prefetch the next one together.

    Weights of a whole network do not stay in the caches, so without prefetch the first tile of each panel would wait for memory. With more
    tiles than cache lines that wait is small, and nothing is prefetched.
    """
    lines = -(-elements // LINE)
    if tiles > lines:
        return None
    share = -(-lines // tiles)
    return Prefetch(w, b.let("ahead", start + tile * (share * LINE)), share, locality="L2" if tiles > 1 else "L1")
