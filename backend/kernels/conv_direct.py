"""Direct convolution on blocked maps: a register tile of output columns, borders trimmed, no padded copy.

Loops: (image, row chunk, output group) > output row > column tile > input block > kernel row > kernel column > channel.
Columns whose taps fall outside the map are left out tap by tap at compile time; kernel rows by a run-time range. The input is blocked
(NCHW<n>c) or plain planes (the first layer). With groups, an output vector reads the range of input channels its lanes need, with zero
weights where a lane does not need one; of the blocks at its ends only the channels inside are walked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm import tirx as t

from ..region import Kernel, Region
from ..target import Target
from ..tile import TileConv2d
from ..tir import Expr
from .conv import Channels, ConvTemplate, conv_window
from .geometry import Window, balance, chunk_lengths, column_tiles, tasks
from .micro import Tile, ahead, cover, max_rows
from .template import Params, kernel

#: The next plane's pixels are fetched ahead for planes up to these bytes, on maps wider than this. Larger planes outgrow the first-level TLB,
#: narrow rows hold too little work to hide it.
PLANE, NARROW = 256 << 10, 8


def tile_columns(target: Target, vectors: int) -> int:
    """Columns of the widest tile. Where registers are many, two stay free: with the nest of loops around it LLVM spills a full tile."""
    return max_rows(target, vectors, 2 if target.registers == 32 else 0)


@kernel(TileConv2d)
class Direct(ConvTemplate):
    name = "direct"

    def accepts(self, region: Region, target: Target) -> bool:
        op: Any = region.anchor
        g = conv_window(region)
        return g.lanes > 0 and region.array(op.w) is not None and g.block_in in (0, g.lanes) and (g.groups == 1 or g.block_in > 0)

    def candidates(self, region: Region, target: Target, threads: int) -> list[Params]:
        g = conv_window(region)
        fit = max(1, min(g.oh, target.l2 // 2 // (g.c * g.w * g.sh * 4)))
        best = balance(g.oh, fit, g.n, max(count for _, _, count in Channels(g).vectors), threads, g.light)
        return [{"chunk": chunk} for chunk in chunk_lengths(best, g.oh)]

    def cost(self, region: Region, target: Target, params: Params) -> float:
        g = conv_window(region)
        channels, total = Channels(g), 0.0
        overhead = 1.2 if channels.ragged else 1.0
        for vectors, _, count in channels.vectors:
            for m in cover(g.ow, tile_columns(target, vectors), vectors):
                total += count * g.n * g.oh * (overhead * max(m * vectors, 9) / 2 * channels.length * g.kh * g.kw + 16 + 6 * g.kh)
        return total

    def emit(self, k: Kernel) -> None:
        g = conv_window(k.region)
        channels = Channels(g)
        size = channels.length * g.kh * g.kw * g.lanes
        for vectors, first, count in channels.vectors:
            _Group(k, g, channels, vectors, first, count, first * size).emit()


@dataclass
class _Group:
    """The code of all output groups of one width; `panel` is where their weights start."""

    k: Kernel
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
            with b.loop("oy", chunk * rows, t.min(g.oh, (chunk + 1) * rows)) as oy:
                taps = g.rows(b, oy)
                layout = column_tiles(g, tile_columns(k.target, self.vectors), self.vectors)
                row_tiles, number = sum(repeat for _, _, repeat in layout), 0
                self.tiles = row_tiles * min(rows, g.oh)
                for width, x, repeat in layout:
                    with b.range("tile", 0, repeat) as i:
                        self.number = b.let("number", (oy - chunk * rows) * row_tiles + number + i)
                        number += repeat
                        self._tile(width, oy, b.let("ox", x + i * width), x if repeat == 1 else None, taps)

    def _tile(self, width: int, oy: Expr, ox: Expr, static_x: int | None, taps: tuple[Expr, Expr]) -> None:
        k, g, b, lanes, op = self.k, self.g, self.k.b, self.g.lanes, self.k.anchor
        tile = Tile(b, width, self.vectors, lanes)
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
            offset = (((self.image * g.out_blocks + self.out_block + j) * g.oh + oy) * g.ow + ox) * lanes
            k.finish_rows(width, partial(tile.value, j=j), offset, lanes, (self.out_block + j) * lanes, self.image, lanes)

    def _block(
        self, tile: Tile, weights: Expr, channel: Expr, depth: Expr, oy: Expr, ox: Expr, static_x: int | None, taps: tuple[Expr, Expr]
    ) -> None:
        """One input block: kernel rows, runs of kernel columns that touch the same output columns, channels."""
        g, b = self.g, self.k.b
        plane = t.floordiv(channel, g.block_in) if g.block_in else 0
        lane = b.let("lane", t.floormod(channel, g.block_in)) if self.channels.ragged else 0
        with b.loop("r", *taps) as r:
            row = b.let("row", ((self.image * g.in_blocks + plane) * g.h + oy * g.sh - g.top + r * g.dh) * g.w + ox * g.sw - g.left)
            if g.block_in and g.ow > NARROW and g.h * g.w * g.block_in * 4 <= PLANE:
                # the next plane lies a whole map away, where the hardware does not look
                for column in sorted({i * g.sw + s * g.dw for i in range(tile.rows) for s in range(g.kw)}):
                    b.prefetch(self.k.args[self.k.anchor.x], (row + g.h * g.w + column) * g.block_in)
            for first, last, columns in self._runs(tile.rows, static_x):
                with b.range("s", first, last) as s:
                    at = b.let("at", row + s * g.dw)
                    base = b.let("base", weights + (r * g.kw + s) * (depth * tile.vectors * tile.lanes))
                    self._channels(tile, at, base, lane, depth, columns)

    def _channels(self, tile: Tile, at: Expr, base: Expr, lane: Expr, depth: Expr, columns: list[int]) -> None:
        g, b = self.g, self.k.b
        x, w = self.k.args[self.k.anchor.x], self.k.args[self.k.anchor.w]
        # blocked: lanes of a pixel lie together; planes: a map apart
        along, across, first = (g.block_in, 1, at * g.block_in + lane) if g.block_in else (1, g.h * g.w, at)
        floats = self.channels.step * tile.vectors * tile.lanes
        following = self.channels.length * g.kh * g.kw * tile.vectors * tile.lanes
        fetch = ahead(b, w, base + following, floats, self.number, self.tiles)
        tile.channels(x, [(i, first + i * (g.sw * along)) for i in columns], w, base, depth, across, ahead=fetch)

    def _runs(self, width: int, static_x: int | None) -> list[tuple[int, int, list[int]]]:
        """Kernel columns [first, last) that touch the same output columns of the tile. They stay serial loops: unrolled, neighbouring taps would
        share broadcasts, which LLVM keeps alive and spills."""
        g = self.g
        if static_x is None:
            return [(0, g.kw, list(range(width)))]
        result: list[tuple[int, int, list[int]]] = []
        for s in range(g.kw):
            columns = g.columns(static_x, s, width)
            if not columns:
                continue
            if result and result[-1][2] == columns and result[-1][1] == s:
                result[-1] = (result[-1][0], s + 1, columns)
            else:
                result.append((s, s + 1, columns))
        return result
