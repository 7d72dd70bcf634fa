"""Direct convolution on blocked maps: a register tile of output columns (of narrow maps, whole rows), borders trimmed, no padded copy.

Loops: (image, row chunk, output group) > output rows > column tile > input block > kernel row > kernel column > channel.
Columns whose taps fall outside the map are left out tap by tap at compile time; kernel rows by a run-time range. The input is blocked
(NCHW<n>c) or plain planes (the first layer). With groups, an output vector reads the range of input channels its lanes need, with zero
weights where a lane does not need one; of the blocks at its ends only the channels inside are walked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from tvm import tirx as t

from .....ir.op import Value
from ....codegen.builder import Expr
from ....codegen.kernel_builder import KernelBuilder
from ....codegen.prefetch import LINE, shared_prefetch
from ....target import Target
from ....tile.fusion import Fusion
from ....tile.ops import TileConv2d
from ...template import Params, kernel
from ..register_tile import Tile, cover, max_rows
from ..window import Window, balance, chunk_lengths, column_tiles, tasks
from .template import Channels, ConvTemplate, conv_window

#: The next plane's pixels are prefetched for planes up to this many bytes, on feature maps wider than this. Larger planes exceed the first-level
#: TLB, and narrow rows have too little work to hide the prefetches.
PLANE, NARROW = 256 << 10, 8
#: Up to this many multiply-adds, LLVM unrolls a loop over channels completely.
STRAIGHT = 200
#: Kernel columns [first, last), and the output columns of a tile that all of them touch.
Run = tuple[int, int, list[int]]


def tile_columns(target: Target, vectors: int) -> int:
    """Columns of the widest tile. With many registers, two stay free, since LLVM spills a full tile inside a nest of loops."""
    return max_rows(target, vectors, 2 if target.registers == 32 else 0)


@kernel(TileConv2d)
class Direct(ConvTemplate):
    name = "direct"
    strided_batch = True
    masked_stores = True
    prefetches_next_weights = True

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        g = conv_window(fusion)
        return g.lanes > 0 and fusion.array(op.w) is not None and g.block_in in (0, g.lanes) and (g.groups == 1 or g.block_in > 0)

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        g = conv_window(fusion)
        fit = max(1, min(g.oh, target.l2 // 2 // (g.c * g.w * g.sh * 4)))
        best = balance(g.oh, fit, g.n, max(count for _, _, count in Channels(g).vectors), threads, g.small_weights)
        return [{"chunk": chunk} for chunk in chunk_lengths(best, g.oh)]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        return direct_cycles(conv_window(fusion), target)

    def unaligned_inputs(self, fusion: Fusion) -> list[Value]:
        op: Any = fusion.anchor
        return [] if conv_window(fusion).block_in else [op.x]

    def row_partitioned(self, fusion: Fusion, target: Target, params: Params) -> list[list[Value]]:
        g = conv_window(fusion)
        op: Any = fusion.anchor
        short = all(tile_height(g, target, vectors) == 1 for vectors, _, _ in Channels(g).vectors)
        return [[op.x], fusion.same_layout if params["chunk"] < g.oh else []] if short else []

    def emit(self, k: KernelBuilder) -> None:
        g = conv_window(k.fusion)
        channels = Channels(g)
        size = channels.length * g.kh * g.kw * g.lanes
        for vectors, first, count in channels.vectors:
            _Group(k, g, channels, vectors, first, count, first * size).emit()


def direct_cycles(g: Window, target: Target) -> float:
    """Modelled cycles of one thread."""
    return sum(count * g.n * map_cycles(g, target, vectors, tile_height(g, target, vectors)) for vectors, _, count in Channels(g).vectors)


def tile_height(g: Window, target: Target, vectors: int) -> int:
    """Output rows of one tile: several whole ones where a row alone is too short to fill the pipelines."""
    return min(range(1, max(1, tile_columns(target, vectors) // g.ow) + 1), key=lambda height: map_cycles(g, target, vectors, height))


def map_cycles(g: Window, target: Target, vectors: int, height: int) -> float:
    """Modelled cycles of one output group of one image, as many of its rows as possible in tiles of `height`."""
    channels, (first, stop) = Channels(g), g.whole_rows
    depth = channels.length * g.kh * g.kw * (1.2 if channels.ragged else 1.0)

    def tile(pixels: int) -> float:
        return max(pixels * vectors, 9) / 2 * depth + 16 + 6 * g.kh

    tall = max(0, stop - first) // height if height > 1 else 0
    return tall * tile(height * g.ow) + (g.oh - tall * height) * sum(map(tile, cover(g.ow, tile_columns(target, vectors), vectors)))


@dataclass
class _Group:
    """The code of all output groups of one width; `panel` is where their weights start."""

    k: KernelBuilder
    g: Window
    channels: Channels
    vectors: int
    first: int
    count: int
    panel: int
    #: the tile being written, of all those that share a panel of weights
    number: Expr = 0
    tiles: int = 1

    def emit(self) -> None:
        k, g, b, rows = self.k, self.g, self.k.b, self.k.params["chunk"]
        chunks = -(-g.oh // rows)
        size = self.channels.length * g.kh * g.kw * self.vectors * g.lanes
        with b.loop("task", 0, g.n * chunks * self.count, tasks(k.threads, g.n * chunks * self.count)) as task:
            self.image = b.let("image", t.floordiv(task, chunks * self.count))
            chunk = b.let("chunk", t.floormod(t.floordiv(task, self.count), chunks))
            group = b.let("group", t.floormod(task, self.count))
            self.weights = b.let("panel", self.panel + group * size)
            self.out_block = b.let("out_block", self.first + group * self.vectors)
            self.channel = b.let("channel", self.channels.first(self.out_block))
            start, stop = b.let("start", chunk * rows), b.let("stop", t.min(g.oh, (chunk + 1) * rows))
            height = tile_height(g, k.target, self.vectors)
            if height > 1:
                self._tall(start, stop, height, min(rows, g.oh))
                return
            with b.loop("oy", start, stop) as oy:
                self._row(oy, oy - start, min(rows, g.oh))

    def _tall(self, start: Expr, stop: Expr, height: int, rows: int) -> None:
        """Output rows [start, stop): those without borders above or below in tiles of `height` whole rows, then the others one by one."""
        b, (first, last) = self.k.b, self.g.whole_rows
        begin = b.let("begin", t.max(start, first))
        count = b.let("count", t.max(0, t.floordiv(t.min(stop, last) - begin, height)))
        self.tiles = max(1, rows // height)
        with b.loop("tall", 0, count) as tall:
            self.number = tall
            self._tile(height * self.g.ow, b.let("oy", begin + tall * height), 0, 0, (0, self.g.kh))
        with b.loop("rest", start, stop - count * height) as rest:
            self._row(b.let("oy", t.Select(rest < begin, rest, rest + count * height)), rest - start, rows)

    def _row(self, oy: Expr, row: Expr, rows: int) -> None:
        """An output row, the `row`th of about `rows` in the chunk."""
        g, b = self.g, self.k.b
        taps = g.rows(b, oy)
        layout = column_tiles(g, tile_columns(self.k.target, self.vectors), self.vectors)
        row_tiles, number = sum(repeat for _, _, repeat in layout), 0
        self.tiles = row_tiles * rows
        for width, x, repeat in layout:
            with b.range("tile", 0, repeat) as i:
                self.number = b.let("number", row * row_tiles + number + i)
                number += repeat
                self._tile(width, oy, b.let("ox", x + i * width), x if repeat == 1 else None, taps)

    def _place(self, i: int) -> int:
        """Input pixels from that of a tile's first output pixel to that of its `i`th. Tall tiles continue in the next row."""
        return i // self.g.ow * self.g.sh * self.g.w + i % self.g.ow * self.g.sw

    def _tile(self, width: int, oy: Expr, ox: Expr, static_x: int | None, taps: tuple[Expr, Expr]) -> None:
        k, g, b, lanes, op = self.k, self.g, self.k.b, self.g.lanes, self.k.anchor
        tile = Tile(b, width, self.vectors, lanes, next_weights=k.next_weights, by_element=k.target.by_element)
        tile.start(None if op.b is None else lambda j: b.load(k.args[op.b], (self.out_block + j) * lanes, lanes))
        step, length = self.channels.step, self.channels.length
        size = g.kh * g.kw * self.vectors * lanes
        if self.channels.ragged:
            stop = self.channel + length
            with b.loop("kb", t.floordiv(self.channel, step), t.floordiv(stop + step - 1, step)) as kb:
                first = b.let("c0", t.max(self.channel, kb * step))
                depth = b.let("depth", t.min(stop, (kb + 1) * step) - first)
                self._block(tile, self.weights + (first - self.channel) * size, first, depth, oy, ox, static_x, taps)
        else:
            full, rest = divmod(length, step)
            with b.loop("kb", 0, full) as kb:
                self._block(tile, self.weights + kb * (step * size), self.channel + kb * step, step, oy, ox, static_x, taps)
            if rest:
                self._block(tile, self.weights + full * (step * size), self.channel + full * step, rest, oy, ox, static_x, taps)
        for j in range(self.vectors):
            offset = k.fusion.map_rows(k.fusion.result).at(self.image * g.out_blocks + self.out_block + j, oy) + ox * lanes
            k.finish_rows(width, partial(tile.value, j=j), offset, lanes, (self.out_block + j) * lanes, self.image, lanes)

    def _block(
        self, tile: Tile, weights: Expr, channel: Expr, depth: Expr, oy: Expr, ox: Expr, static_x: int | None, taps: tuple[Expr, Expr]
    ) -> None:
        """One input block: kernel rows, runs of kernel columns that touch the same output columns, channels."""
        g, b, panel = self.g, self.k.b, tile.vectors * tile.lanes
        if not g.block_in:
            self._planes(tile, weights, oy, ox, static_x, taps)
            return
        lane = b.let("lane", t.floormod(channel, g.block_in)) if self.channels.ragged else 0
        rows = self._prefetched_rows()
        if tile.by_element:
            self._taps(tile, weights, channel, depth, lane, self._runs(tile.rows, static_x), rows, oy, ox, taps)
            return
        for number, runs in enumerate(self._apart(self._runs(tile.rows, static_x), tile.vectors, depth)):
            with b.loop("r", *taps) as r:
                row = self._pixel(t.floordiv(channel, g.block_in), oy, ox, r)
                if rows and number == 0:
                    for column in sorted({self._place(i) + s * g.dw for i in range(tile.rows) for s in range(g.kw)}):
                        b.prefetch(self.k.args[self.k.anchor.x], (row + rows * g.w + column) * g.block_in)
                for first, last, columns in runs:
                    with b.range("s", first, last) as s:
                        at = b.let("at", row + s * g.dw)
                        base = b.let("base", weights + (r * g.kw + s) * (depth * panel))
                        self._channels(tile, at, base, lane, depth, columns)

    def _taps(
        self,
        tile: Tile,
        weights: Expr,
        channel: Expr,
        depth: Expr,
        lane: Expr,
        runs: list[Run],
        rows: int,
        oy: Expr,
        ox: Expr,
        taps: tuple[Expr, Expr],
    ) -> None:
        """`_block` where factors are lanes: one loop over kernel rows and columns for each run, so that LLVM keeps no pixels that they share."""
        g, b, panel = self.g, self.k.b, tile.vectors * tile.lanes
        plane = t.floordiv(channel, g.block_in)
        if rows:
            with b.loop("r", *taps) as r:
                row, width = self._pixel(plane, oy, ox, r), self._place(tile.rows - 1) + (g.kw - 1) * g.dw + 1
                for column in range(0, width, max(1, LINE // g.block_in)):
                    b.prefetch(self.k.args[self.k.anchor.x], (row + rows * g.w + column) * g.block_in)
        for first, last, columns in runs:
            count = last - first
            with b.loop("tap", taps[0] * count, taps[1] * count) as tap:
                r, s = b.let("r", t.floordiv(tap, count)), b.let("s", first + t.floormod(tap, count))
                at = b.let("at", self._pixel(plane, oy, ox, r) + s * g.dw)
                base = b.let("base", weights + (r * g.kw + s) * (depth * panel))
                self._channels(tile, at, base, lane, depth, columns)

    def _prefetched_rows(self) -> int:
        """How many rows below a tile's pixels to prefetch: those of the next plane, a whole map away, which the hardware does not prefetch; in
        large planes those of the next output row, where nothing has read them before (it has its own rows, or no other output group came
        first). 0: none."""
        g = self.g
        if g.ow <= NARROW:
            return 0
        if g.h * g.w * g.block_in * 4 <= PLANE:
            return self.k.fusion.map_rows(self.k.anchor.x).rows
        return g.sh if g.kh <= g.sh or self.count == 1 else 0

    def _planes(self, tile: Tile, weights: Expr, oy: Expr, ox: Expr, static_x: int | None, taps: tuple[Expr, Expr]) -> None:
        """All input channels, as planes. Kernel rows and columns are one loop: LLVM unrolls a loop over two columns of a few channels and then
        spills the tile."""
        g, b = self.g, self.k.b
        for first, last, columns in self._runs(tile.rows, static_x):
            count = last - first
            with b.loop("tap", taps[0] * count, taps[1] * count) as tap:
                r, s = b.let("r", t.floordiv(tap, count)), b.let("s", first + t.floormod(tap, count))
                at = b.let("at", self._pixel(0, oy, ox, r) + s * g.dw)
                base = b.let("base", weights + (r * g.kw + s) * (g.c * tile.vectors * tile.lanes))
                self._channels(tile, at, base, 0, g.c, columns)

    def _pixel(self, plane: Expr, oy: Expr, ox: Expr, r: Expr) -> Expr:
        """The pixel, counted from the first of x, that kernel row r and column 0 read for the output pixel (oy, ox)."""
        g = self.g
        plane, y = self.image * g.in_blocks + plane, oy * g.sh - g.top + r * g.dh
        row = self.k.fusion.map_rows(self.k.anchor.x).pixels(g.block_in).at(plane, y) if g.block_in else (plane * g.h + y) * g.w
        return self.k.b.let("row", row + ox * g.sw - g.left)

    def _channels(self, tile: Tile, at: Expr, base: Expr, lane: Expr, depth: Expr, columns: list[int]) -> None:
        g, b = self.g, self.k.b
        x, w = self.k.args[self.k.anchor.x], self.k.args[self.k.anchor.w]
        # blocked: lanes of a pixel lie together; planes: a map apart
        along, across, first = (g.block_in, 1, at * g.block_in + lane) if g.block_in else (1, g.h * g.w, at)
        elements = self.channels.step * tile.vectors * tile.lanes
        distance = self.channels.length * g.kh * g.kw * tile.vectors * tile.lanes
        fetch = shared_prefetch(b, w, base + distance, elements, self.number, self.tiles)
        tile.channels(x, [(i, first + self._place(i) * along) for i in columns], w, base, depth, across, prefetch=fetch)

    @staticmethod
    def _apart(runs: list[Run], vectors: int, depth: Expr) -> list[list[Run]]:
        """The runs that share a loop over kernel rows: all, unless two single columns in a row would become one basic block. LLVM would keep
        their common pixels alive there, and spill."""
        straight = [last - first == 1 and isinstance(depth, int) and len(columns) * vectors * depth <= STRAIGHT for first, last, columns in runs]
        return [[run] for run in runs] if any(a and b for a, b in pairwise(straight)) else [runs]

    def _runs(self, width: int, static_x: int | None) -> list[Run]:
        """Kernel columns [first, last) that touch the same output columns of the tile. They stay serial loops: unrolled, neighbouring taps would
        share broadcasts, which LLVM keeps alive and spills."""
        g = self.g
        if static_x is None:
            return [(0, g.kw, list(range(width)))]
        result: list[Run] = []
        for s in range(g.kw):
            columns = g.columns(static_x, s, width)
            if not columns:
                continue
            if result and result[-1][2] == columns and result[-1][1] == s:
                result[-1] = (result[-1][0], s + 1, columns)
            else:
                result.append((s, s + 1, columns))
        return result
