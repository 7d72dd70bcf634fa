"""M = V U of an output group: for each plane a matrix product over channels. U = G g G^T is computed in the kernel, from weights of one byte.

For m = 4 the transformed weights are 8 times as large: from 512 to 512 channels 18.9 MB instead of 2.4.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from tvm import tirx as t

from ......codegen.builder import Expr, const
from ....integer_tile import LINE_BYTES, IntegerTile, max_rows
from ....register_tile import cover, runs
from .scratch import Scratch
from .transforms import by_rows

#: Taps of a kernel.
TAPS = 9


@dataclass
class Products(Scratch):
    """The phase of products, with its transform of weights. vectors: output vectors of a group."""

    vectors: int = 2

    def emit(self, weights: Expr) -> None:
        """The products of a group, whose packed weights begin at element `weights`: one part of the channels after the other."""
        b, p = self.k.b, self.p
        with b.range("part", 0, p.parts) as part:
            at = b.let("at", weights + part * p.part(self.vectors))
            self._weights(at)
            self._planes(part, b.let("next", at + p.part(self.vectors)))

    def _weights(self, at: Expr) -> None:
        """U of a part: [pair of channels][vector][tap][lane][2] i8 to all planes."""
        b, p, width, matrix = self.k.b, self.p, 2 * self.p.lanes, self.p.transform.weights
        with b.loop("pair", 0, p.depth * self.vectors, "rolled") as number:
            base = b.let("base", at + number * (TAPS * width))
            taps = [t.Cast(f"int16x{width}", b.load(self.k.args[self.k.anchor.w], base + i * width, width)) for i in range(TAPS)]
            columns = [[b.value(value) for value in by_rows(b, matrix, [b.value(tap) for tap in taps[s::3]])] for s in range(3)]
            to = b.let("to", self.place("u") + number * width)
            for i, row in enumerate(zip(*columns)):
                for j, value in enumerate(by_rows(b, matrix, row)):
                    b.store(self.buffer, to + (i * p.a + j) * p.u_plane, value, width)

    def _planes(self, part: Expr, ahead: Expr) -> None:
        """All planes, added to the sums of the parts before. ahead: the offset of the weights of the next part, which are prefetched."""
        b, p, lanes = self.k.b, self.p, self.p.lanes
        heights = cover(p.tiles, max_rows(self.k.target, self.vectors, p.arithmetic), self.vectors)
        lines = -(-p.part(self.vectors) // LINE_BYTES)
        share = -(-lines // (p.planes * len(heights)))
        with b.loop("xi", 0, p.planes) as xi:
            before = 0
            for height, first, repeat in runs(heights):
                with b.range("tile", 0, repeat) as i:
                    fetch = b.let("fetch", ahead + (xi * len(heights) + before + i) * (share * LINE_BYTES))
                    for line in range(share):
                        b.prefetch(self.k.args[self.k.anchor.w], fetch + line * LINE_BYTES, locality="L2")
                    begin = b.let("begin", first + i * height)
                    v = b.let("v", self.place("v") + xi * p.v_plane + begin * p.channels + part * (2 * p.depth))
                    m = b.let("m", self.place("m") + xi * p.m_plane + begin * (self.vectors * lanes * 2))
                    tile = IntegerTile(b, p.arithmetic, height, self.vectors, lanes)
                    self._start(tile, m, part)
                    rows = [(r, v + r * p.channels) for r in range(height)]
                    tile.steps(self.buffer, rows, self.buffer, b.let("u", self.place("u") + xi * p.u_plane), p.depth)
                    for r in range(height):
                        for j in range(self.vectors):
                            self.store(m + (r * self.vectors + j) * (2 * lanes), tile.value(r, j))
                before += repeat

    def _start(self, tile: IntegerTile, m: Expr, part: Expr) -> None:
        """Initialize accumulators with 0, or the sums of the parts before."""
        b, lanes = self.k.b, self.p.lanes
        every = [(r * self.vectors + j, acc) for r, row in enumerate(tile.acc) for j, acc in enumerate(row)]
        with nullcontext() if self.p.parts == 1 else b.when(t.EQ(part, 0)):
            for _, acc in every:
                b.store(acc, 0, const(0, "int32", lanes), lanes)
        if self.p.parts > 1:
            with b.when(part > 0):
                for i, acc in every:
                    b.store(acc, 0, self.load(m + i * (2 * lanes)), lanes)
