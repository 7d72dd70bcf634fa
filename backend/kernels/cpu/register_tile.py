"""The f32 micro-kernel: a register tile of MR broadcast rows times NV weight vectors, shared by every template that ends in a GEMM.

Each accumulator is its own stack array of one vector: TVM turns arrays of 1,024 bytes into heap calls, and LLVM keeps these in registers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...codegen.builder import Buffer, Builder, Expr, const, splat
from ...codegen.prefetch import LINE, NextWeights, Prefetch, shared_prefetch
from ...codegen.shuffles import shuffle
from ...target import Target
from .arithmetic.fixed24 import load24, words

#: Elements by which weights that a single tile reads are prefetched ahead: far enough for memory, near enough to stay in L1.
PREFETCH_DISTANCE = 2048
#: Number of rows above which the first tiles do not depend on the remainder, and are not searched for.
FAR = 1 << 15
#: Rows that take turns where factors are lanes.
TOGETHER = 2


@dataclass
class Tile:
    """Accumulators of one register tile: `rows` x `vectors` vectors of `lanes` f32 (or of another float). fixed: weights are those of fixed24.py, and
    the products lack their scales. next_weights: weights to prefetch meanwhile. by_element: see `Target`; consecutive channels
    of x are then loaded as vectors, whose lanes are factors."""

    b: Builder
    rows: int
    vectors: int
    lanes: int
    dtype: str = "float32"
    fixed: bool = False
    next_weights: NextWeights | None = None
    by_element: bool = False

    @property
    def panel(self) -> int:
        """Elements of w in which the weights of one channel lie."""
        return self.vectors * (words(self.lanes) if self.fixed else self.lanes)

    def __post_init__(self) -> None:
        self.acc = [[self.b.local(self.lanes, self.dtype) for _ in range(self.vectors)] for _ in range(self.rows)]

    def start(self, bias: Callable[[int], Expr] | None) -> None:
        """Start from the bias of each vector, or from zero."""
        for j in range(self.vectors):
            for i in range(self.rows):
                self.b.store(self.acc[i][j], 0, const(0.0, self.dtype, self.lanes) if bias is None else bias(j), self.lanes)

    def step(self, x: Buffer, rows: Sequence[tuple[int, Expr]], w: Buffer, w_index: Expr) -> None:
        """acc[i] += x[address] * w[w_index : + panel] for each (i, address) of `rows`."""
        b, lanes, load = self.b, self.lanes, functools.partial(load24, self.b) if self.fixed else self.b.load
        weights = [b.let("w", load(w, w_index + j * (self.panel // self.vectors), lanes)) for j in range(self.vectors)]
        for i, address in rows:
            value = b.let("x", splat(b.load(x, address), lanes))
            for j, weight in enumerate(weights):
                b.store(self.acc[i][j], 0, b.load(self.acc[i][j], 0, lanes) + value * weight, lanes)

    def steps(self, x: Buffer, rows: Sequence[tuple[int, Expr]], w: Buffer, w_index: Expr) -> None:
        """`step` for `lanes` channels one after the other: a vector of them for each row, whose lanes are factors. The sums are the same to the bit.

        `TOGETHER` rows take turns, so that an accumulator has its result when it is used again.
        """
        b, lanes = self.b, self.lanes
        weights = [[b.let("w", b.load(w, w_index + (c * self.vectors + j) * lanes, lanes)) for j in range(self.vectors)] for c in range(lanes)]
        for first in range(0, len(rows), TOGETHER):
            some = [(i, b.let("x", b.load(x, address, lanes))) for i, address in rows[first : first + TOGETHER]]
            for c in range(lanes):
                for i, values in some:
                    factor = shuffle([values], [c] * lanes)
                    for j in range(self.vectors):
                        b.store(self.acc[i][j], 0, b.load(self.acc[i][j], 0, lanes) + factor * weights[c][j], lanes)

    def channels(
        self,
        x: Buffer,
        rows: Sequence[tuple[int, Expr]],
        w: Buffer,
        w_index: Expr,
        depth: Expr,
        across: int = 1,
        down: int | None = None,
        prefetch: Prefetch | None = None,
    ) -> None:
        """`step` over `depth` channels that lie `across` apart in x, and `down` in w (else one after the other)."""
        down = down or self.panel
        if not isinstance(depth, int):
            with self.b.loop("c", 0, depth) as c:
                self.step(x, [(i, at + c * across) for i, at in rows], w, w_index + c * down)
            return
        if self.next_weights is not None:
            self.next_weights.ask(len(rows) * self.vectors * self.lanes * depth)
        together = self.lanes if self.by_element and across == 1 and down == self.panel and depth % self.lanes == 0 and not self.fixed else 1
        u = unroll(len(rows), self.vectors, depth // together) * together
        lines = 0 if prefetch is None else -(-prefetch.lines * u // depth)
        with self.b.range("c", 0, depth // u) as outer:
            for inner in range(u):
                c = outer * u + inner
                for line in range(lines):
                    if prefetch is not None and line * u // lines == inner:
                        self.b.prefetch(prefetch.buffer, prefetch.at + (outer * lines + line) * LINE, locality=prefetch.locality)
                if together == 1:
                    self.step(x, [(i, at + c * across) for i, at in rows], w, w_index + c * down)
                elif inner % together == 0:
                    self.steps(x, [(i, at + c) for i, at in rows], w, w_index + c * down)

    def blocks(
        self,
        x: Buffer,
        at: Expr,
        step: Expr,
        w: Buffer,
        w_at: Expr,
        channels: int,
        taps: int = 1,
        turn: tuple[Expr, int] | None = None,
        neighbours: bool = False,
        on_block: Callable[[Expr, int], None] | None = None,
    ) -> None:
        """`step` over all taps and channels of consecutive pixels: row i reads x[at + plane * step + i * lanes + lane], plane = block * taps + tap.

        turn: (number, tiles), this tile's number among all that read the same weights; together they prefetch the next ones (`shared_prefetch`).
        neighbours: whether to prefetch the pixels after these, which the next tile reads: too few in a row for the hardware prefetcher.
        on_block: called with the number of a block and tap and with how many there are, to prefetch later data. Issue few prefetches at a
        time, so that line-fill buffers stay free.
        """
        b, lanes, panel = self.b, self.lanes, self.panel
        full, rest = divmod(channels, lanes)

        def plane(number: Expr, base: Expr, depth: int, fetch: Prefetch | None = None) -> None:
            start, base = b.let("at", at + number * step), b.let("base", base)
            self.channels(x, [(i, start + i * lanes) for i in range(self.rows)], w, base, depth, prefetch=fetch)

        with b.loop("kt", 0, full * taps) as kt:
            if on_block is not None and full:
                on_block(kt, full * taps)
            if neighbours:
                for i in range(self.rows, 2 * self.rows, LINE // lanes if self.by_element else 1):
                    b.prefetch(x, at + kt * step + i * lanes, locality="L2")
            fetch = None
            if turn is not None:
                distance = PREFETCH_DISTANCE if turn[1] == 1 else channels * taps * panel
                fetch = shared_prefetch(b, w, w_at + kt * (lanes * panel) + distance, lanes * panel, *turn)
            plane(kt, w_at + kt * (lanes * panel), lanes, fetch)
        if rest:
            with b.loop("kt", 0, taps) as kt:
                plane(full * taps + kt, w_at + (full * taps * lanes + kt * rest) * panel, rest)

    def value(self, i: int, j: int) -> Expr:
        return self.b.load(self.acc[i][j], 0, self.lanes)


def max_rows(target: Target, vectors: int, spare: int = 0) -> int:
    """Rows that fit the registers beside the weight vectors, one broadcast and `spare` more.

    `by_element`: beside the weights of as many channels as lanes, and `TOGETHER` rows twice, since LLVM loads pairs of vectors.
    """
    if target.by_element:
        return max(1, min((target.registers - target.lanes * vectors - 2 * TOGETHER) // vectors, 24))
    return max(1, min((target.registers - vectors - 1 - spare) // vectors, 24 if target.registers == 32 else 12))


def tile_cycles(target: Target, rows: int, vectors: int, depth: float) -> float:
    """Modelled cycles of `rows` times `vectors` accumulators over a reduction, in tiles of the best heights."""
    biggest = max_rows(target, vectors)
    height, count = far(rows, biggest, vectors)

    def tile(m: int) -> float:
        return max(m * vectors, 9) / 2 * depth + 14

    return count * tile(height) + sum(map(tile, cover(rows - count * height, biggest, vectors)))


def vector_groups(blocks: int) -> list[tuple[int, int, int]]:
    """Cover `blocks` channel blocks by groups of 1 to 3 vectors: (vectors, first block, number of groups). Twos, then a three."""
    if blocks <= 3:
        return [(blocks, 0, 1)]
    if blocks % 2 == 0:
        return [(2, 0, blocks // 2)]
    return [(2, 0, (blocks - 3) // 2), (3, blocks - 3, 1)]


def cover(n: int, biggest: int, vectors: int) -> tuple[int, ...]:
    """`n` rows as a sum of tile heights up to `biggest`, largest first, at the least modelled cost: without remainder code or unused rows.

    A tile costs its FMAs, but never less than the FMA latency allows (8 independent accumulators), plus a start of half an FMA chain.
    With more than `FAR` rows, the first ones get tiles of the height with the least cost per row.
    """
    height, count = far(n, biggest, vectors)
    rest = n - count * height
    return tuple(sorted((*(height,) * count, *_Cover.of(biggest, vectors).tiles(rest)), reverse=True))


def far(n: int, biggest: int, vectors: int) -> tuple[int, int]:
    """(height, how many) of the equal tiles that leave at most `FAR` of `n` rows: there the best tiles do not depend on where the rows end."""
    costs = _Cover.of(biggest, vectors).costs
    height = min(range(1, biggest + 1), key=lambda m: (costs[m - 1] / m, -m))
    return height, max(0, -(-(n - FAR) // height))


class _Cover:
    """The cheapest tiles of 0, 1, 2, ... rows, by the recurrence cost[k] = min over m of cost[k - m] + cost of a tile of m rows."""

    def __init__(self, biggest: int, vectors: int):
        self.costs = [max(m * vectors, 8.5) / vectors + 0.35 + 0.4 / vectors for m in range(1, biggest + 1)]
        self._parts = [(m, max(m * vectors, 8.5) / vectors) for m in range(1, biggest + 1)]
        self._last = 0.4 / vectors
        self._best, self._height = [0.0], [0]

    @staticmethod
    @functools.cache
    def of(biggest: int, vectors: int) -> _Cover:
        return _Cover(biggest, vectors)

    def tiles(self, n: int) -> list[int]:
        """The heights of `n` rows."""
        best, height = self._best, self._height
        for k in range(len(best), n + 1):
            # add the terms in this order: their rounding decides ties
            cost, m = min([(best[k - m] + part + 0.35 + self._last, m) for m, part in self._parts[:k]])
            best.append(cost)
            height.append(m)
        result = []
        while n > 0:
            result.append(height[n])
            n -= height[n]
        return result


def runs(tiles: Sequence[int]) -> list[tuple[int, int, int]]:
    """Equal neighbours counted: (height, first row, count)."""
    result: list[tuple[int, int, int]] = []
    at = 0
    for m in tiles:
        if result and result[-1][0] == m:
            height, first, count = result[-1]
            result[-1] = (height, first, count + 1)
        else:
            result.append((m, at, 1))
        at += m
    return result


def unroll(rows: int, vectors: int, depth: int) -> int:
    """How many reduction steps of `depth` go into one loop body: about 100 FMAs."""
    for u in (1, 2, 4, 8, 16):
        if depth % u == 0 and rows * vectors * u >= 96:
            return u
    return next(u for u in (16, 8, 4, 2, 1) if depth % u == 0)
