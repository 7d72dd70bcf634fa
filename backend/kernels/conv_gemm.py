"""Convolution as a matrix product over flat pixels: register tiles of any pixels of the map times output vectors.

A pointwise convolution reads its input as it lies. Any other one first gathers patches into scratch, [input block][kernel row][kernel
column][pixel][channel], zeros outside the map; then both are the same product. So small maps, strides and odd windows get full tiles.
Loops: (image, pixel chunk, output group) > pixel tile > input block and tap > channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm import tirx as t

from ..region import Kernel, Region
from ..target import Target
from ..tile import TileConv2d
from ..tir import Buffer, Expr, const
from .conv import Channels, ConvTemplate, conv_window
from .geometry import Window, balance, chunk_lengths, tasks
from .micro import Tile, cover, max_rows, runs, tile_cycles
from .template import Params, kernel

#: Weights up to this part of the second-level cache are few.
FEW = 16


@kernel(TileConv2d)
class Gemm(ConvTemplate):
    name = "gemm"

    def accepts(self, region: Region, target: Target) -> bool:
        op: Any = region.anchor
        g = conv_window(region)
        return not g.depthwise and g.lanes > 0 and g.block_in == g.lanes and region.array(op.w) is not None

    def candidates(self, region: Region, target: Target, threads: int) -> list[Params]:
        g = conv_window(region)
        pixels, depth = g.oh * g.ow, g.c * g.kh * g.kw
        tile = max(max_rows(target, vectors) for vectors, _, _ in Channels(g).vectors)
        fit = max(1, target.l2 // 2 // (depth * 4) // tile)
        count = max(count for _, _, count in Channels(g).vectors)
        best = min(pixels, tile * balance(-(-pixels // tile), min(fit, -(-pixels // tile)), g.n, count, threads, g.light))
        heights = set(cover(pixels, tile, max(vectors for vectors, _, _ in Channels(g).vectors)))
        few = depth * g.out_blocks * g.lanes * 4 <= target.l2 // FEW and len(heights) == 1
        # few weights stay near by themselves: then all groups read a tile of pixels while it is in L1
        return [{"chunk": chunk} for chunk in [*(heights if few else ()), *chunk_lengths(best, pixels, tile)]]

    def cost(self, region: Region, target: Target, params: Params) -> float:
        g = conv_window(region)
        pixels, chunk, channels = g.oh * g.ow, params["chunk"], Channels(g)
        depth, total = channels.length * g.kh * g.kw * (1.2 if channels.ragged else 1.0), 0.0
        for vectors, _, count in channels.vectors:
            for size, repeat in ((chunk, pixels // chunk), (pixels % chunk, 1)):
                total += count * g.n * repeat * tile_cycles(target, size, vectors, depth)
        if not g.pointwise:
            # one load and one store a vector, in L2, beyond it, or in main memory
            patches = g.n * pixels * g.in_blocks * g.kh * g.kw
            size = patches * g.lanes * 4 / target.l2
            total += patches * (2.0 if size < 1 else 6.0 if size < 8 else 30.0)
        return total

    def scratch(self, region: Region, target: Target, params: Params, threads: int) -> int:
        g = conv_window(region)
        return 0 if g.pointwise else 4 * g.n * g.oh * g.ow * g.in_blocks * g.kh * g.kw * g.lanes

    def emit(self, k: Kernel) -> None:
        g = conv_window(k.region)
        source = k.args[k.anchor.x]
        if not g.pointwise:
            assert k.scratch is not None
            gather_patches(k, g, source, k.scratch)
            source = k.scratch
        channels = Channels(g)
        for vectors, first, count in channels.vectors:
            _Product(k, g, channels, source, vectors, first, count).emit()


def gather_patches(k: Kernel, g: Window, x: Buffer, patches: Buffer) -> None:
    """patches[image][block][r][s][oy][ox][lane] = x[image][block][oy*sh - top + r*dh][ox*sw - left + s*dw][lane], or 0."""
    b, lanes = k.b, g.lanes
    with b.loop("task", 0, g.n * g.in_blocks, tasks(k.threads, g.n * g.in_blocks)) as task, b.range("r", 0, g.kh) as r, b.loop("oy", 0, g.oh) as oy:
        iy = b.let("iy", oy * g.sh - g.top + r * g.dh)
        inside = t.all(iy >= 0, iy < g.h)
        for s in range(g.kw):
            columns = g.columns(0, s, g.ow)
            lo, hi = (columns[0], columns[-1] + 1) if columns else (0, 0)
            to = b.let("to", (((task * g.kh + r) * g.kw + s) * g.oh + oy) * g.ow)
            start = b.let("start", (task * g.h + iy) * g.w - g.left + s * g.dw)
            with b.when(inside), b.loop("ox", lo, hi) as ox:
                b.store(patches, (to + ox) * lanes, b.load(x, (start + ox * g.sw) * lanes, lanes), lanes)
            with b.when(t.Not(inside)), b.loop("ox", lo, hi) as ox:
                b.store(patches, (to + ox) * lanes, const(0.0, lanes=lanes), lanes)
            for first, last in ((0, lo), (hi, g.ow)):
                with b.loop("ox", first, last) as ox:
                    b.store(patches, (to + ox) * lanes, const(0.0, lanes=lanes), lanes)


@dataclass
class _Product:
    """The code of all output groups of one width."""

    k: Kernel
    g: Window
    channels: Channels
    source: Buffer
    vectors: int
    first: int
    count: int

    def emit(self) -> None:
        k, g, b = self.k, self.g, self.k.b
        pixels, chunk = g.oh * g.ow, k.params["chunk"]
        chunks, rest = -(-pixels // chunk), pixels % chunk
        size = self.channels.length * g.kh * g.kw * g.lanes
        with b.loop("task", 0, g.n * chunks * self.count, tasks(k.threads, g.n * chunks * self.count)) as task:
            self.image = b.let("image", t.floordiv(task, chunks * self.count))
            part = b.let("part", t.floormod(t.floordiv(task, self.count), chunks))
            group = b.let("group", t.floormod(task, self.count))
            self.weights = b.let("panel", self.first * size + group * (size * self.vectors))
            self.out_block = b.let("out_block", self.first + group * self.vectors)
            if not rest:
                self._pixels(part * chunk, chunk)
            elif chunks == 1:
                self._pixels(0, rest)
            else:
                with b.when(part < chunks - 1):
                    self._pixels(part * chunk, chunk)
                with b.when(part >= chunks - 1):
                    self._pixels((chunks - 1) * chunk, rest)

    def _pixels(self, start: Expr, count: int) -> None:
        """Tiles that cover `count` pixels exactly."""
        b = self.k.b
        tiles = cover(count, max_rows(self.k.target, self.vectors), self.vectors)
        number = 0
        for height, first, repeat in runs(tiles):
            with b.range("tile", 0, repeat) as i:
                self._tile(height, b.let("pixel", start + first + i * height), number + i, len(tiles), count)
            number += repeat

    def _tile(self, height: int, pixel: Expr, number: Expr, tiles: int, count: int) -> None:
        k, g, b, lanes, op = self.k, self.g, self.k.b, self.g.lanes, self.k.anchor
        pixels, taps = g.oh * g.ow, g.kh * g.kw
        tile = Tile(b, height, self.vectors, lanes)
        tile.start(None if op.b is None else lambda j: b.load(k.args[op.b], (self.out_block + j) * lanes, lanes))
        planes, panel = b.let("planes", self.image * (g.in_blocks * taps)), self.vectors * lanes
        channel, length = b.let("channel", self.channels.first(self.out_block)), self.channels.length

        def source(plane: Expr) -> Expr:
            return ((planes + plane) * pixels + pixel) * lanes

        if self.channels.ragged:
            stop = channel + length
            with b.loop("kb", t.floordiv(channel, lanes), t.floordiv(stop + lanes - 1, lanes)) as kb:
                first = b.let("c0", t.max(channel, kb * lanes))
                depth = b.let("depth", t.min(stop, (kb + 1) * lanes) - first)
                at = b.let("at", self.weights + (first - channel) * (taps * panel))
                with b.range("tap", 0, taps) as tap:
                    self._channels(tile, source(kb * taps + tap) + first - kb * lanes, at + tap * (depth * panel), depth)
        else:
            at = b.let("at", source(t.floordiv(channel, lanes) * taps))
            # a chunk of one tile finds the weights where the chunk before left them
            turn = (number, tiles) if tiles > 1 or count == pixels else None
            tile.blocks(self.source, at, pixels * lanes, k.args[op.w], self.weights, length, taps, turn=turn, neighbours=True)
        for j in range(self.vectors):
            offset = ((self.image * g.out_blocks + self.out_block + j) * pixels + pixel) * lanes
            k.finish_rows(height, partial(tile.value, j=j), offset, lanes, (self.out_block + j) * lanes, self.image, lanes)

    def _channels(self, tile: Tile, at: Expr, base: Expr, depth: Expr) -> None:
        at, base = self.k.b.let("at", at), self.k.b.let("base", base)
        rows = [(i, at + i * self.g.lanes) for i in range(tile.rows)]
        tile.channels(self.source, rows, self.k.args[self.k.anchor.w], base, depth)
