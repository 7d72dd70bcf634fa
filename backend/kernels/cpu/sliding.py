"""A window that slides over a feature map pixel by pixel, for kernels that are bound by reads: pools, and depthwise convolutions with strides.

Where L2 does not hold the feature map, each of its rows is read from one end to the other before the next one, since the hardware prefetcher
follows one stream better than several interleaved ones. So a row of the result takes several passes, and partial results are kept in the result's
memory. The first pass reads the kernel rows that are in L1 from the previous output row, and the first new one; each further pass reads one more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx as t

from ...codegen.builder import Expr
from ...codegen.kernel_builder import KernelBuilder
from ...target import Target
from .chunks import Chunk
from .window import Row, Window, column_tiles, tiles_of

#: Most elements of a window that is unrolled; the rows of a larger one are passes of a loop.
UNROLLED = 36
#: Most rows near the border that are unrolled; with more, all are passes of a loop.
BORDER = 4
#: An element under the window: kernel row and column, and its value.
Element = tuple[Expr, int, Expr]


@dataclass(frozen=True)
class Sliding:
    """streamed: whether the rows of the feature map come from beyond L2. start: the initial value of a result.
    add: merges elements, column by column, into the result of the earlier passes; None where there are none.
    end: the anchor's result from that of the last pass, for a row and column; the last argument is whether the whole window is inside the map.
    """

    k: KernelBuilder
    g: Window
    streamed: bool
    start: Expr
    add: Callable[[Sequence[Sequence[Element]], Expr | None], Expr]
    end: Callable[[Expr, Row, Expr, bool], Expr] = lambda total, row, ox, whole: total

    def rows(self, chunk: Chunk) -> None:
        """The rows of a chunk. Those near the border are unrolled separately, with the kernel rows that are inside the map."""
        g, b = self.g, self.k.b
        first, last = g.whole_rows
        if first >= last or first + g.oh - last > BORDER or g.kh * g.kw > UNROLLED:
            with b.loop("oy", chunk.start, chunk.stop) as oy:
                self._any(chunk.row(oy))
            return
        for oy in range(first):
            self._near_border(chunk, oy)
        low = b.let("low", t.min(chunk.stop, t.max(chunk.start, first)))
        with b.loop("oy", low, b.let("high", t.max(low, t.min(chunk.stop, last)))) as oy:
            self._row(chunk.row(oy), range(g.kh))
        for oy in range(last, g.oh):
            self._near_border(chunk, oy)

    def _near_border(self, chunk: Chunk, oy: int) -> None:
        with self.k.b.when(t.And(chunk.start <= oy, oy < chunk.stop)):
            self._row(chunk.row(t.IntImm("int32", oy)), range(*self.g.rows(self.k.b, oy)))

    def _row(self, row: Row, taps: Sequence[int]) -> None:
        """An output row that has these kernel rows in the map."""
        groups = [group for taken in passes(self.g, self.streamed) if (group := [r for r in taken if r in taps])] or [[]]
        for group in groups:
            self._pass(row, group, begins=group is groups[0], ends=group is groups[-1], whole=len(taps) == self.g.kh)

    def _any(self, row: Row) -> None:
        """Any output row: a kernel row after the other, as many as lie in the map."""
        k, b, lanes = self.k, self.k.b, self.g.lanes
        with b.loop("ox", 0, self.g.ow) as ox:
            k.put(self.start, row.result + ox * lanes, row.block * lanes, lanes)
        with b.loop("r", *self.g.rows(b, row.oy)) as r:
            self._pass(row, [r], begins=False, ends=False, whole=False)
        with b.loop("ox", 0, self.g.ow) as ox:
            at = b.let("at", row.result + ox * lanes)
            k.finish(self.end(k.get(at, lanes), row, ox, False), at, row.block * lanes, row.image, lanes)

    def _pass(self, row: Row, taps: Sequence[Expr], begins: bool, ends: bool, whole: bool) -> None:
        """Some kernel rows for all columns of an output row."""
        k, g, b, lanes, x = self.k, self.g, self.k.b, self.g.lanes, self.k.args[self.k.anchor.operands[0]]
        rows = [b.let("row", row.source(row.oy * g.sh - g.top + r * g.dh) - g.left * lanes) for r in taps]
        # unrolling would read the shared elements of pixels once, which matters only where the window moves by one
        kind = "rolled" if self.streamed and g.sw > 1 else "serial"
        for _, ox, static_x, _ in tiles_of(b, column_tiles(g, 1, 1), kind):
            at = b.let("at", row.result + ox * lanes)
            columns = [
                [(r, s, b.let("x", b.load(x, start + (ox * g.sw + s * g.dw) * lanes, lanes))) for r, start in zip(taps, rows)]
                for s in range(g.kw)
                if taps and (static_x is None or g.columns(static_x, s, 1))
            ]
            total = self.add(columns, None if begins else b.let("partial", k.get(at, lanes)))
            if ends:
                k.finish(self.end(total, row, ox, whole and static_x is None), at, row.block * lanes, row.image, lanes)
            else:
                k.put(total, at, row.block * lanes, lanes)


def passes(g: Window, streamed: bool) -> list[list[int]]:
    """The kernel rows of each pass over an output row that needs all of them."""
    if not streamed or g.dh > 1:
        return [list(range(g.kh))]
    seen = max(0, g.kh - g.sh)
    return [list(range(seen + 1)), *([r] for r in range(seen + 1, g.kh))]


def beyond_l2(g: Window, target: Target) -> bool:
    """Whether L2 does not hold a map and its result."""
    return 4 * g.n * g.in_blocks * g.lanes * (g.h * g.w + g.oh * g.ow) > target.l2
