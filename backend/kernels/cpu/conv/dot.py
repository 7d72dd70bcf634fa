"""The last output channels of a pointwise convolution as dot products, where they fill only a few lanes of a vector.

    y[pixel][o] = sum over lanes (sum over blocks x[block][pixel][lane] * w[block][o][lane])

A blocked map has `lanes` input channels of a pixel side by side. One FMA multiplies all of them for one output, where with a broadcast it multiplies
one of them for `lanes` outputs: r outputs take r FMAs a block in place of `lanes`, and then the lanes of r accumulators are summed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import tirx as t

from ....codegen.builder import Buffer, Builder, Expr, const, lanes_of, ramp
from ....codegen.shuffles import shuffle
from ....target import Target
from ..register_tile import Tile, tile_cycles
from ..window import Window

#: Vectors of f32 are made of quads, 128 bits wide; the shuffles within them are the cheapest.
QUAD = 4
#: Shuffles and additions that sum the lanes of up to four vectors. They run beside FMAs: counted as such, they are overestimated.
SUM = 13
#: By what factor the operations of the whole layer must decrease.
GAIN = 1.02


def dot_outputs(g: Window) -> int:
    """How many output channels, the last ones, are computed as dot products: those of an unfilled block, or none where that gains too little."""
    blocks, rest = divmod(g.o, g.lanes)
    operations = rest * g.in_blocks + SUM * -(-rest // QUAD)
    gains = (blocks + 1) * g.c >= GAIN * (blocks * g.c + operations)
    return rest if g.pointwise and g.groups == 1 and gains else 0


def dot_cycles(target: Target, rows: int, outputs: int, blocks: int) -> float:
    """Modelled cycles of `outputs` dot products over `blocks` input blocks for each of `rows` pixels."""
    return tile_cycles(target, rows, outputs, blocks) + rows * SUM / 2 * -(-outputs // QUAD)


def pack_dots(w: np.ndarray, lanes: int) -> np.ndarray:
    """(O, C) -> [input block][O][lanes], zeros beyond C."""
    o, c = w.shape
    blocks = -(-c // lanes)
    return np.pad(w, ((0, 0), (0, blocks * lanes - c))).reshape(o, blocks, lanes).transpose(1, 0, 2).ravel()


class DotTile(Tile):
    """Accumulators of `rows` pixels times `vectors` outputs, whose lanes are partial sums."""

    def dots(self, x: Buffer, at: Expr, step: Expr, w: Buffer, w_at: Expr, channels: int) -> None:
        """acc[i][j] += x[at + block * step + i * lanes + lane] * w[w_at + (block * vectors + j) * lanes + lane] over the blocks of all channels."""
        full, rest = divmod(channels, self.lanes)
        panel = self.vectors * self.lanes
        with self.b.loop("kb", 0, full) as kb:
            self._block(x, at + kb * step, w, w_at + kb * panel, self.lanes)
        if rest:
            self._block(x, at + full * step, w, w_at + full * panel, rest)

    def _block(self, x: Buffer, at: Expr, w: Buffer, w_at: Expr, live: int) -> None:
        b, lanes = self.b, self.lanes
        at, w_at = b.let("at", at), b.let("base", w_at)
        weights = [b.let("w", b.load(w, w_at + j * lanes, lanes)) for j in range(self.vectors)]
        for i in range(self.rows):
            value = b.load(x, at + i * lanes, lanes)
            if live < lanes:
                # a dead lane may be infinite or NaN, and stays so times zero
                value = t.Select(ramp(0, lanes) < const(live, "int32", lanes), value, const(0.0, lanes=lanes))
            value = b.let("x", value)
            for j, weight in enumerate(weights):
                b.store(self.acc[i][j], 0, b.load(self.acc[i][j], 0, lanes) + value * weight, lanes)

    def sums(self, i: int, bias: Expr) -> Expr:
        """bias + the outputs of row i, which lie in the first lanes of a vector with zeros behind."""
        return self.b.value(lane_sums(self.b, [self.value(i, j) for j in range(self.vectors)]) + bias)


def lane_sums(b: Builder, vectors: Sequence[Expr]) -> Expr:
    """The sum over the lanes of vector j in lane j, zeros behind; of as many vectors as lanes at most."""
    lanes = lanes_of(vectors[0])
    zero = const(0.0, lanes=lanes)
    padded = [*vectors, *[zero] * (-len(vectors) % QUAD)]
    quads = [_quad_sums(b, padded[i : i + QUAD]) for i in range(0, len(padded), QUAD)]
    return shuffle([*quads, zero], list(range(lanes)))


def _quad_sums(b: Builder, vectors: Sequence[Expr]) -> Expr:
    """The sums of four vectors in a quad: within each quad of theirs they are transposed and added, and then the quads."""
    lanes = lanes_of(vectors[0])

    def added(x: Expr, y: Expr, low: Sequence[int], high: Sequence[int]) -> Expr:
        """Lanes picked from each quad of x (0 to 3) and of y (4 to 7), two ways, added."""
        ways = [[first + i % QUAD + i // QUAD * lanes for first in range(0, lanes, QUAD) for i in way] for way in (low, high)]
        return b.value(shuffle([x, y], ways[0]) + shuffle([x, y], ways[1]))

    pairs = [added(vectors[i], vectors[i + 1], (0, 4, 1, 5), (2, 6, 3, 7)) for i in (0, 2)]
    total = added(pairs[0], pairs[1], (0, 1, 4, 5), (2, 3, 6, 7))
    for half in (lanes // 2, lanes // 4):
        if half >= QUAD:
            total = b.value(shuffle([total], list(range(half))) + shuffle([total], list(range(half, 2 * half))))
    return total
