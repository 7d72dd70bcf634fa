"""Direct convolution on blocked maps: a register tile of output columns, borders trimmed, no padded copy.

Loops: (image, row chunk, output group) > output row > column tile > input block > kernel row > kernel column > channel.
Columns whose taps fall outside the map are left out tap by tap at compile time; kernel rows by a run-time range. The input may be
blocked (NCHW<n>c) or plain planes (the first layer). Groups other than 1 walk their channels one by one, since they start anywhere in a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx as t

from ...ir.op import Value
from ..region import Kernel, Region
from ..target import Target
from ..tile import TileConv2d
from ..tir import Expr
from .geometry import Window, tasks, window
from .micro import Tile, cover, max_rows, runs, unroll, vector_groups
from .template import Params, kernel


def conv_window(op: Any, region: Region) -> Window:
    return window(op.x, op.out.type, op.kernel, op.stride, op.padding, op.dilation, op.groups)


def padded_bias(b: np.ndarray | None, o: int, lanes: int) -> np.ndarray:
    """Bias with zeros up to a whole block."""
    full = np.zeros(-(-o // lanes) * lanes, np.float32)
    if b is not None:
        full[:o] = b
    return full


def pack_dense(w: np.ndarray, lanes: int, groups: list[tuple[int, int, int]], block_in: int) -> np.ndarray:
    """(O, C, kh, kw) -> [group][input block][kh][kw][channel][vectors * lanes], one forward stream; the last input block may be short."""
    o, c, kh, kw = w.shape
    full = np.zeros((-(-o // lanes) * lanes, c, kh, kw), np.float32)
    full[:o] = w
    parts = []
    for vectors, first, count in groups:
        width = vectors * lanes
        for g in range(count):
            panel = full[first * lanes + g * width : first * lanes + (g + 1) * width].transpose(2, 3, 1, 0)
            parts.extend(panel[:, :, k : k + block_in].ravel() for k in range(0, c, block_in))
    return np.concatenate(parts)


@kernel(TileConv2d)
class Direct:
    name = "direct"

    def accepts(self, region: Region, target: Target) -> bool:
        op: Any = region.anchor
        g = conv_window(op, region)
        return g.lanes > 0 and op.groups == 1 and region.array(op.w) is not None and (g.block_in in (0, g.lanes))

    def candidates(self, region: Region, target: Target, threads: int) -> list[Params]:
        g = conv_window(region.anchor, region)
        return [{"rows": max(max_rows(target, v) for v, _, _ in vector_groups(g.out_blocks, target)), "chunk": self._chunk(g, target, threads)}]

    def _chunk(self, g: Window, target: Target, threads: int) -> int:
        """Output rows a task works on: their input fits half of L2, and the tasks share out evenly."""
        per_row = g.c * g.w * g.sh * 4
        fit = max(1, min(g.oh, target.l2 // 2 // per_row))
        groups = max(count for _, _, count in vector_groups(g.out_blocks, target))
        best = min(range(1, fit + 1), key=lambda r: (self._imbalance(g, r, groups, threads) * (1 + 0.02 / r), -r))
        return best

    @staticmethod
    def _imbalance(g: Window, rows: int, groups: int, threads: int) -> float:
        """Rows of the busiest thread over the mean: TVM hands out contiguous ranges of tasks."""
        work = [min(rows, g.oh - r) for _ in range(g.n) for r in range(0, g.oh, rows) for _ in range(groups)]
        share = -(-len(work) // threads)
        return max(sum(work[i : i + share]) for i in range(0, len(work), share)) * threads / sum(work)

    def cost(self, region: Region, target: Target, params: Params) -> float:
        g = conv_window(region.anchor, region)
        total = 0.0
        for vectors, _, count in vector_groups(g.out_blocks, target):
            for m in cover(g.ow, min(params["rows"], max_rows(target, vectors)), vectors):
                total += count * g.n * g.oh * (max(m * vectors, 9) / 2 * g.c * g.kh * g.kw + 12 + 6 * g.kh)
        return total

    def pack(self, region: Region, target: Target, params: Params) -> dict[Value, np.ndarray]:
        op: Any = region.anchor
        g = conv_window(op, region)
        w = region.array(op.w)
        assert w is not None
        packed = {op.w: pack_dense(w, g.lanes, vector_groups(g.out_blocks, target), g.block_in or g.c)}
        if op.b is not None:
            packed[op.b] = padded_bias(region.array(op.b), g.o, g.lanes)
        return packed

    def scratch(self, region: Region, target: Target, params: Params, threads: int) -> int:
        return 0

    def emit(self, k: Kernel) -> None:
        g = conv_window(k.anchor, k.region)
        panel = 0
        for vectors, first, count in vector_groups(g.out_blocks, k.target):
            self._group(k, g, vectors, first, count, panel)
            panel += count * vectors * g.lanes * g.c * g.kh * g.kw

    def _group(self, k: Kernel, g: Window, vectors: int, first: int, count: int, panel: int) -> None:
        """All output groups of one width."""
        b = k.b
        rows = k.params["chunk"]
        chunks = -(-g.oh // rows)
        with b.loop("task", 0, g.n * chunks * count, tasks(k.threads, g.n, chunks, count)) as task:
            image = b.let("image", t.floordiv(task, chunks * count))
            chunk = b.let("chunk", t.floormod(t.floordiv(task, count), chunks))
            group = b.let("group", t.floormod(task, count))
            base = b.let("panel", panel + group * (vectors * g.lanes * g.c * g.kh * g.kw))
            out_block = b.let("out_block", first + group * vectors)
            with b.loop("oy", chunk * rows, t.min(g.oh, (chunk + 1) * rows)) as oy:
                taps = g.rows(b, oy)
                biggest = min(k.params["rows"], max_rows(k.target, vectors))
                for height, x, repeat in self._tiles(g, biggest, vectors):
                    if repeat == 1:
                        self._tile(k, g, vectors, height, image, out_block, base, oy, x, x, taps)
                    else:
                        with b.loop("tile", 0, repeat) as i:
                            self._tile(k, g, vectors, height, image, out_block, base, oy, b.let("ox", x + i * height), None, taps)

    def _tiles(self, g: Window, biggest: int, vectors: int) -> list[tuple[int, int, int]]:
        """(width, first column, count): border tiles stand alone, equal inner neighbours are one loop."""
        result: list[tuple[int, int, int]] = []
        for width, x, count in runs(cover(g.ow, biggest, vectors)):
            for i in range(count):
                at = x + i * width
                inner = all(len(g.columns(at, s, width)) == width for s in (0, g.kw - 1))
                if inner and result and result[-1][0] == width and result[-1][2] > 0 and self._inner(g, result[-1]):
                    result[-1] = (width, result[-1][1], result[-1][2] + 1)
                else:
                    result.append((width, at, 1))
        return result

    @staticmethod
    def _inner(g: Window, tile: tuple[int, int, int]) -> bool:
        width, x, _ = tile
        return all(len(g.columns(x, s, width)) == width for s in (0, g.kw - 1))

    def _tile(self, k: Kernel, g: Window, vectors: int, width: int, image: Expr, out_block: Expr, base: Expr, oy: Expr, ox: Expr, static_x: int | None, taps: tuple[Expr, Expr]) -> None:
        b, lanes, op = k.b, g.lanes, k.anchor
        tile = Tile(b, width, vectors, lanes)
        tile.start(None if op.b is None else lambda j: b.load(k.args[op.b], (out_block + j) * lanes, lanes))
        step = g.block_in or g.c
        full, rest = divmod(g.c, step)
        with b.loop("kb", 0, full) as kb:
            self._taps(k, g, tile, image, base + kb * (g.kh * g.kw * step * vectors * lanes), kb, step, oy, ox, static_x, taps)
        if rest:
            self._taps(k, g, tile, image, base + full * (g.kh * g.kw * step * vectors * lanes), full, rest, oy, ox, static_x, taps)
        for j in range(vectors):
            for i in range(width):
                offset = (((image * g.out_blocks + out_block + j) * g.oh + oy) * g.ow + ox + i) * lanes
                k.finish(tile.value(i, j), offset, (out_block + j) * lanes, image, lanes)

    def _taps(self, k: Kernel, g: Window, tile: Tile, image: Expr, base: Expr, kb: Expr, depth: int, oy: Expr, ox: Expr, static_x: int | None, taps: tuple[Expr, Expr]) -> None:
        """One input block: kernel rows, runs of kernel columns that touch the same pixels, channels."""
        b = k.b
        x, w = k.args[k.anchor.x], k.args[k.anchor.w]
        width, weights = tile.vectors * tile.lanes, depth * tile.vectors * tile.lanes
        with b.loop("r", *taps) as r:
            plane = kb if g.block_in else 0
            row = b.let("row", ((image * g.in_blocks + plane) * g.h + oy * g.sh - g.top + r * g.dh) * g.w + ox * g.sw - g.left)
            for first, last, columns in self._runs(g, tile.rows, static_x):
                u = unroll(len(columns), tile.vectors, depth)

                def channels(s: Expr, columns: list[int] = columns, u: int = u, row: Expr = row, r: Expr = r) -> None:
                    at = b.let("at", row + s * g.dw)
                    wat = b.let("wat", base + (r * g.kw + s) * weights)

                    def step(c: Expr) -> None:
                        pixel = (lambda i: (at + i * g.sw) * g.block_in + c) if g.block_in else (lambda i: at + i * g.sw + c * (g.h * g.w))
                        tile.step(x, [(i, pixel(i)) for i in columns], w, wat + c * width)

                    if u == depth:
                        for c in range(depth):
                            step(c)
                    else:
                        with b.loop("c", 0, depth // u) as cc:
                            for c in range(u):
                                step(cc * u + c)

                if last - first == 1:
                    channels(first)
                else:
                    with b.loop("s", first, last) as s:
                        channels(s)

    @staticmethod
    def _runs(g: Window, width: int, static_x: int | None) -> list[tuple[int, int, list[int]]]:
        """Kernel columns [first, last) that touch the same output columns of the tile, in serial loops: unrolled, neighbouring taps would share
        broadcasts, which LLVM keeps alive and spills."""
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
