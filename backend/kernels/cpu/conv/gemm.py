"""Convolution as a matrix product over flat pixels: register tiles of any pixels of the map times output vectors.

A pointwise convolution reads its input directly. Any other one first gathers patches into scratch, [input block][kernel row][kernel
column][pixel][channel], zeros outside the map; then both are the same product. So small maps, strides and odd windows get full tiles.
Loops: (image, pixel chunk, output group) > pixel tile > input block and tap > channel. Where a few outputs are dot products (`dot`), they follow the
last group of vectors, which has just read the same chunk.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from tvm import tirx as t

from .....ir.op import Value
from ....codegen.builder import Buffer, Expr, const
from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.fusion import Fusion, RowLayout
from ....tile.ops import TileConv2d
from ...template import Params, kernel
from ..register_tile import Tile, cover, max_rows, runs, tile_cycles, vector_groups
from ..window import Window, balance, chunk_lengths, share, tasks, workers
from .dot import DotTile, dot_cycles, dot_outputs, pack_dots
from .template import Channels, ConvTemplate, conv_window, pack_weights

#: Weights count as few up to 1 / FEW of the second-level cache.
FEW = 16


@kernel(TileConv2d)
class Gemm(ConvTemplate):
    name = "gemm"
    strided_batch = True
    masked_stores = True
    prefetches_next_weights = True

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        g = conv_window(fusion)
        return not g.depthwise and g.lanes > 0 and g.block_in == g.lanes and fusion.array(op.w) is not None

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        g = conv_window(fusion)
        pixels, depth = g.oh * g.ow, g.c * g.kh * g.kw
        groups = output_groups(g)
        widths = [vectors or dots for vectors, _, _, dots in groups]
        tile = max(max_rows(target, width) for width in widths)
        fit = max(1, target.l2 // 2 // (depth * 4) // tile)
        count = max(count for _, _, count, _ in groups)
        best = min(pixels, tile * balance(-(-pixels // tile), min(fit, -(-pixels // tile)), g.n, count, threads, g.small_weights))
        heights = set(cover(pixels, tile, max(widths)))
        few = depth * g.out_blocks * g.lanes * 4 <= target.l2 // FEW and len(heights) == 1
        # few weights stay in the caches by themselves: then all groups read a tile of pixels while it is in L1
        return [{"chunk": chunk} for chunk in [*(heights if few else ()), *chunk_lengths(best, pixels, tile)]]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        g = conv_window(fusion)
        pixels, chunk, channels = g.oh * g.ow, params["chunk"], Channels(g)
        depth, total = channels.length * g.kh * g.kw * (1.2 if channels.ragged else 1.0), 0.0
        for vectors, _, count, dots in output_groups(g):
            for size, repeat in ((chunk, pixels // chunk), (pixels % chunk, 1)):
                if vectors:
                    total += count * g.n * repeat * tile_cycles(target, size, vectors, depth)
                if dots:
                    total += g.n * repeat * dot_cycles(target, size, dots, g.in_blocks)
        if not g.pointwise:
            # one load and one store a vector, in L2, beyond it, or in main memory
            patches = g.n * pixels * g.in_blocks * g.kh * g.kw
            size = patches * g.lanes * 4 / target.l2
            total += patches * (2.0 if size < 1 else 6.0 if size < 8 else 30.0)
        return total

    def weights(self, w: np.ndarray, g: Window) -> np.ndarray:
        whole = g.o - dot_outputs(g)
        if whole == g.o:
            return super().weights(w, g)
        panels = [pack_weights(w[:whole], Channels(replace(g, o=whole)))] if whole else []
        return np.concatenate([*panels, pack_dots(w[whole:, :, 0, 0], g.lanes)])

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        g = conv_window(fusion)
        return 0 if g.pointwise else 4 * g.n * g.oh * g.ow * g.in_blocks * g.kh * g.kw * g.lanes

    def row_partitioned(self, fusion: Fusion, target: Target, params: Params) -> list[list[Value]]:
        op: Any = fusion.anchor
        g = conv_window(fusion)
        return [[op.x], fusion.same_layout] if g.pointwise and g.small_weights else []

    def emit(self, k: KernelBuilder) -> None:
        g, inputs, results = conv_window(k.fusion), k.fusion.map_rows(k.anchor.x), k.fusion.map_rows(k.fusion.result)
        partitions, source = max(inputs.partitions, results.partitions), k.args[k.anchor.x]
        steps = inputs.cut(partitions)
        if not g.pointwise:
            assert k.scratch is not None
            gather_patches(k, g, inputs, source, k.scratch)
            plane = g.oh * g.ow * g.lanes
            source, steps = k.scratch, (g.in_blocks * g.kh * g.kw * plane, plane)
        if partitions > 1:
            # each partition is treated as a separate image
            g = replace(g, n=partitions, h=g.h // partitions, oh=g.oh // partitions)
        products = [Product(k, g, Channels(g), source, steps, results.cut(partitions), *group) for group in output_groups(g)]
        threads = k.threads if any(p.tasks > 1 for p in products) else 1
        # one loop over threads around all products: none has to wait for another
        with workers(k.b, threads) as worker:
            for product in products:
                product.emit(*share(worker, product.tasks, threads))


def output_groups(g: Window) -> list[tuple[int, int, int, int]]:
    """(vectors, first block, number of groups, dot products after the last of them); vectors is 0 where all outputs are dot products."""
    dots = dot_outputs(g)
    *others, last = vector_groups(g.o // g.lanes) if dots else Channels(g).vectors
    return [*((*group, 0) for group in others), (*last, dots)]


def gather_patches(k: KernelBuilder, g: Window, rows: RowLayout, x: Buffer, patches: Buffer) -> None:
    """patches[image][block][r][s][oy][ox][lane] = x[image][block][oy*sh - top + r*dh][ox*sw - left + s*dw][lane], or 0. rows: those of x."""
    b, lanes = k.b, g.lanes
    with b.loop("task", 0, g.n * g.in_blocks, tasks(k.threads, g.n * g.in_blocks)) as task, b.range("r", 0, g.kh) as r, b.loop("oy", 0, g.oh) as oy:
        iy = b.let("iy", oy * g.sh - g.top + r * g.dh)
        inside = t.all(iy >= 0, iy < g.h)
        for s in range(g.kw):
            columns = g.columns(0, s, g.ow)
            lo, hi = (columns[0], columns[-1] + 1) if columns else (0, 0)
            to = b.let("to", (((task * g.kh + r) * g.kw + s) * g.oh + oy) * g.ow)
            start = b.let("start", rows.pixels(lanes).at(task, iy) - g.left + s * g.dw)
            with b.when(inside), b.loop("ox", lo, hi) as ox:
                b.store(patches, (to + ox) * lanes, b.load(x, (start + ox * g.sw) * lanes, lanes), lanes)
            with b.when(t.Not(inside)), b.loop("ox", lo, hi) as ox:
                b.store(patches, (to + ox) * lanes, const(0.0, lanes=lanes), lanes)
            for first, last in ((0, lo), (hi, g.ow)):
                with b.loop("ox", first, last) as ox:
                    b.store(patches, (to + ox) * lanes, const(0.0, lanes=lanes), lanes)


@dataclass
class Product:
    """The code of all output groups of one width, and of the dot products after the last of them."""

    k: KernelBuilder
    g: Window
    channels: Channels
    source: Buffer
    #: elements to the next image or partition, and to the next channel block (and tap), of the source and of the result
    source_steps: tuple[int, int]
    result_steps: tuple[int, int]
    vectors: int
    first: int
    count: int
    dots: int
    #: whether the source stays in the first caches by itself
    cached: bool = False

    @property
    def chunk(self) -> int:
        wanted: int = self.k.params["chunk"]
        return min(wanted, self.g.oh * self.g.ow)

    @property
    def chunks(self) -> int:
        return -(-self.g.oh * self.g.ow // self.chunk)

    @property
    def tasks(self) -> int:
        """Number of tasks to divide among threads: one for each image, chunk and group."""
        return self.g.n * self.chunks * self.count

    def emit(self, start: Expr, stop: Expr) -> None:
        """Tasks from `start` to before `stop`."""
        g, b, chunk, chunks = self.g, self.k.b, self.chunk, self.chunks
        rest = g.oh * g.ow % chunk
        with b.loop("task", start, stop) as task:
            number = b.let("image", t.floordiv(task, chunks * self.count))
            part = b.let("part", t.floormod(t.floordiv(task, self.count), chunks))
            self.begin(number, t.floormod(task, self.count), number * self.source_steps[0])
            if not rest:
                self.pixels(part * chunk, chunk)
            elif chunks == 1:
                self.pixels(0, rest)
            else:
                with b.when(part < chunks - 1):
                    self.pixels(part * chunk, chunk)
                with b.when(part >= chunks - 1):
                    self.pixels((chunks - 1) * chunk, rest)

    def begin(self, number: Expr, group: Expr, source: Expr) -> None:
        """Start an output group of an image or partition, whose first channel block is at `source`."""
        g, b = self.g, self.k.b
        size = self.channels.length * g.kh * g.kw * g.lanes
        self.source_at, self.result_at = b.let("at", source), b.let("at", number * self.result_steps[0])
        self.image = number if g.n == self.k.fusion.out.shape[0] else 0
        self.group = group = b.let("group", group)
        self.weights = b.let("panel", self.first * size + group * (size * self.vectors))
        self.out_block = b.let("out_block", self.first + group * self.vectors)

    def pixels(self, start: Expr, count: int) -> None:
        """Tiles that cover `count` pixels exactly."""
        b = self.k.b
        tiles = cover(count, max_rows(self.k.target, self.vectors), self.vectors) if self.vectors else ()
        number = 0
        for height, first, repeat in runs(tiles):
            with b.range("tile", 0, repeat) as i:
                self._tile(height, b.let("pixel", start + first + i * height), number + i, len(tiles), count)
            number += repeat
        if self.dots:
            with b.when(self.group >= self.count - 1) if self.count > 1 else nullcontext():
                self._dots(start, count)

    def _tile(self, height: int, pixel: Expr, number: Expr, tiles: int, count: int) -> None:
        k, g, b, lanes, op = self.k, self.g, self.k.b, self.g.lanes, self.k.anchor
        pixels, taps = g.oh * g.ow, g.kh * g.kw
        tile = Tile(b, height, self.vectors, lanes, next_weights=k.next_weights, by_element=k.target.by_element)
        tile.start(None if op.b is None else lambda j: b.load(k.args[op.b], (self.out_block + j) * lanes, lanes))
        panel, channel, length = self.vectors * lanes, b.let("channel", self.channels.first(self.out_block)), self.channels.length

        def source(plane: Expr) -> Expr:
            return self.source_at + plane * self.source_steps[1] + pixel * lanes

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
            tile.blocks(self.source, at, self.source_steps[1], k.args[op.w], self.weights, length, taps, turn=turn, neighbours=not self.cached)
        for j in range(self.vectors):
            offset = self.result_at + (self.out_block + j) * self.result_steps[1] + pixel * lanes
            k.finish_rows(height, partial(tile.value, j=j), offset, lanes, (self.out_block + j) * lanes, self.image, lanes)

    def _dots(self, start: Expr, count: int) -> None:
        """The dot products of `count` pixels."""
        k, g, b, lanes, op = self.k, self.g, self.k.b, self.g.lanes, self.k.anchor
        block, outputs = g.out_blocks - 1, self.dots
        bias = const(0.0, lanes=lanes) if op.b is None else b.load(k.args[op.b], block * lanes, lanes)
        for height, first, repeat in runs(cover(count, max_rows(k.target, outputs), outputs)):
            with b.range("dots", 0, repeat) as i:
                pixel = b.let("pixel", start + first + i * height)
                tile = DotTile(b, height, outputs, lanes)
                tile.start(None)
                at = b.let("at", self.source_at + pixel * lanes)
                tile.dots(self.source, at, self.source_steps[1], k.args[op.w], (g.o - outputs) * g.c, g.c)
                offset = self.result_at + block * self.result_steps[1] + pixel * lanes
                k.finish_rows(height, partial(tile.sums, bias=bias), offset, lanes, block * lanes, self.image, lanes)

    def _channels(self, tile: Tile, at: Expr, base: Expr, depth: Expr) -> None:
        at, base = self.k.b.let("at", at), self.k.b.let("base", base)
        rows = [(i, at + i * self.g.lanes) for i in range(tile.rows)]
        tile.channels(self.source, rows, self.k.args[self.k.anchor.w], base, depth)
