"""Pooling on blocked maps: lanes are channels. Windows are trimmed at the borders, so padding is never read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from tvm import tirx as t

from ...ir.op import Value
from ..region import Kernel, MapRows, Region
from ..target import Target
from ..tile import TileAdaptiveAvgPool2d, TileAdaptiveMaxPool2d, TileAvgPool2d, TileMaxPool2d
from ..tir import Expr, const, splat
from .depthwise import touched
from .geometry import Row, Window, balance, column_tiles, planes_and_parts, tasks, tiles_of, window
from .micro import LINE, Ahead, Tile
from .template import Params, kernel

LOWEST = -np.inf


class _Pool:
    """What all pooling templates share: no constants, no scratch."""

    writes_lanes = True

    def accepts(self, region: Region, target: Target) -> bool:
        op: Any = region.anchor
        return bool(op.lanes) and op.x.type.layout is not None and op.x.shape[-1] == op.lanes

    def cost(self, region: Region, target: Target, params: Params) -> float:
        return float(region.anchor.operands[0].type.size)

    def pack(self, region: Region, target: Target, params: Params) -> dict[Value, np.ndarray]:
        return {}

    def scratch(self, region: Region, target: Target, params: Params, threads: int) -> int:
        return 0


def pool_window(region: Region) -> Window:
    op: Any = region.anchor
    return window(op.x, op.out.type, op.kernel, op.stride, op.padding, getattr(op, "dilation", (1, 1)))


@kernel(TileMaxPool2d, TileAvgPool2d)
class Pool(_Pool):
    """Loops: (image, channel block, row chunk) > output row > column tile > window row; one load feeds every window it lies in."""

    name = "pool"
    images_apart = True

    def candidates(self, region: Region, target: Target, threads: int) -> list[Params]:
        g = pool_window(region)
        return [{"width": target.registers - 4, "chunk": balance(g.oh, g.oh, g.n, g.in_blocks, threads, rows=True)}]

    def emit(self, k: Kernel) -> None:
        g, b, rows = pool_window(k.region), k.b, k.params["chunk"]
        inputs, results = k.region.map_rows(k.anchor.x), k.region.map_rows(k.region.result)
        chunks = -(-g.oh // rows)
        with b.loop("task", 0, g.n * g.in_blocks * chunks, tasks(k.threads, g.n * g.in_blocks * chunks)) as task:
            plane, part = planes_and_parts(b, task, g.in_blocks, chunks)
            image, block = b.let("image", t.floordiv(plane, g.in_blocks)), b.let("block", t.floormod(plane, g.in_blocks))
            with b.loop("oy", part * rows, t.min(g.oh, (part + 1) * rows)) as oy:
                # what the next output row needs of the map for the first time, and itself: both lie in memory line behind line
                new = inputs.at(plane, (oy + 1) * g.sh - g.top + max(0, (g.kh - 1) * g.dh + 1 - g.sh))
                following = new, results.at(plane, oy + 1)
                row = Row(oy, partial(inputs.at, plane), b.let("result", results.at(plane, oy)), block, image)
                pool_row(k, g, k.params["width"], row, following)


def pool_row(k: Kernel, g: Window, width: int, row: Row, following: tuple[Expr, Expr] | None = None) -> None:
    """One output row of a channel block, in tiles of at most `width` columns; `following` as for `depthwise_row`."""
    b, taps, layout = k.b, g.rows(k.b, row.oy), column_tiles(g, width, 1)
    turns = g.kh * sum(repeat for _, _, repeat in layout)
    new, below = (b.let("following", at) for at in following) if following else (None, None)
    streams = [(k.args[k.anchor.x], new, g.sh * g.w), (k.out, below, g.ow)] if following else []
    for columns, ox, static_x, number in tiles_of(b, layout):
        ahead = []
        for buffer, at, vectors in streams:
            lines = -(-vectors * g.lanes // (LINE * turns))
            ahead.append(Ahead(buffer, b.let("ahead", at + number * (g.kh * lines * LINE)), lines, write=buffer is k.out))
        _tile(k, g, columns, row, ox, static_x, taps, ahead)


def _tile(k: Kernel, g: Window, width: int, row: Row, ox: Expr, static_x: int | None, taps: tuple[Expr, Expr], ahead: Sequence[Ahead]) -> None:
    """ahead: lines to ask for in each window row, spread over the loads there."""
    b, lanes, op = k.b, g.lanes, k.anchor
    largest = isinstance(op, TileMaxPool2d)
    tile = Tile(b, width, 1, lanes)
    tile.start(lambda j: const(LOWEST if largest else 0.0, lanes=lanes))
    with b.loop("r", *taps) as r:
        at = b.let("row", row.source(row.oy * g.sh - g.top + r * g.dh) + (ox * g.sw - g.left) * lanes)
        columns = touched(g, width, static_x)
        for number, (column, pairs) in enumerate(columns):
            for a in ahead:
                for line in range(a.lines * number // len(columns), a.lines * (number + 1) // len(columns)):
                    b.prefetch(a.buffer, a.at + (r * a.lines + line) * LINE, a.write)
            value = b.let("x", b.load(k.args[op.x], at + column * lanes, lanes))
            for i, _ in pairs:
                old = tile.value(i, 0)
                b.store(tile.acc[i][0], 0, k.math.max(old, value) if largest else old + value, lanes)
    for i in range(width):
        value = tile.value(i, 0)
        if not largest:
            value = value * splat(b.let("scale", 1.0 / _count(k, g, row.oy, ox + i if static_x is None else static_x + i)), lanes)
        k.finish(value, row.result + (ox + i) * lanes, row.block * lanes, row.image, lanes)


def _count(k: Kernel, g: Window, oy: Expr, ox: Expr) -> Expr:
    """Elements that count in the window of an output pixel, as f32 (see `AvgPool2d.counts`)."""
    op = k.anchor
    if op.divisor is not None:
        return t.const(float(op.divisor), "float32")

    def along(at: Expr, stride: int, lo: int, hi: int, kernel: int, size: int) -> Expr:
        start = at * stride - lo
        first, last = (-lo, size + hi) if op.count_include_pad else (0, size)
        return t.min(start + kernel, last) - t.max(start, first)

    top, bottom, left, right = op.padding
    rows, columns = along(oy, g.sh, top, bottom, g.kh, g.h), along(ox, g.sw, left, right, g.kw, g.w)
    return t.Cast("float32", rows * columns)


@kernel(TileAdaptiveAvgPool2d, TileAdaptiveMaxPool2d)
class AdaptivePool(_Pool):
    """Window i covers floor(i*H/h) to ceil((i+1)*H/h). The whole map is one run of pixels with several accumulators."""

    name = "adaptive_pool"
    images_apart = True
    accumulators = 8

    def candidates(self, region: Region, target: Target, threads: int) -> list[Params]:
        return [{}]

    def in_bands(self, region: Region, target: Target, params: Params) -> list[list[Value]]:
        op: Any = region.anchor
        return [[op.x]] if op.out.shape[2:4] == (1, 1) else []

    def scratch(self, region: Region, target: Target, params: Params, threads: int) -> int:
        op: Any = region.anchor
        return 4 * rows.bands * region.out.size if (rows := region.map_rows(op.x)).bands > 1 else 0

    def emit(self, k: Kernel) -> None:
        op, b = k.anchor, k.b
        n, blocks, oh, ow, lanes = k.region.out.shape
        h, w = op.x.shape[2:4]
        if (rows := k.region.map_rows(op.x)).bands > 1:
            self._bands(k, rows)
            return
        inputs, results = rows.pixels(lanes), k.region.map_rows(k.region.result).pixels(lanes)
        with b.loop("plane", 0, n * blocks, tasks(k.threads, n * blocks)) as plane:
            image, channel = b.let("image", t.floordiv(plane, blocks)), b.let("channel", t.floormod(plane, blocks) * lanes)
            if (oh, ow) == (1, 1):
                total = self._run(k, b.let("start", inputs.at(plane, 0)), h * w)
                k.finish(self._mean(k, total, h * w), results.at(plane, 0) * lanes, channel, image, lanes)
                return
            with b.loop("oy", 0, oh) as oy, b.loop("ox", 0, ow) as ox:
                y0, y1 = (b.let("y", v) for v in bounds(oy, h, oh))
                x0, x1 = (b.let("x", v) for v in bounds(ox, w, ow))
                acc = Tile(b, 1, 1, lanes)
                acc.start(lambda j: self._neutral(k, lanes))
                with b.loop("iy", y0, y1) as iy, b.loop("ix", x0, x1) as ix:
                    value = b.load(k.args[op.x], (inputs.at(plane, iy) + ix) * lanes, lanes)
                    b.store(acc.acc[0][0], 0, self._merge(k, acc.value(0, 0), value), lanes)
                result = self._mean(k, acc.value(0, 0), (y1 - y0) * (x1 - x0))
                k.finish(result, (results.at(plane, oy) + ox) * lanes, channel, image, lanes)

    def _bands(self, k: Kernel, rows: MapRows) -> None:
        """Each band is merged by its thread, then the bands are."""
        b, lanes, partial = k.b, k.region.out.shape[-1], k.scratch
        pixels = rows.pixels(lanes)
        assert partial is not None
        with b.loop("band", 0, rows.bands, tasks(k.threads, rows.bands)) as band, b.loop("plane", 0, rows.blocks) as plane:
            total = self._run(k, b.let("start", pixels.at(plane, band * pixels.rows, band)), pixels.rows * pixels.floats)
            b.store(partial, (band * rows.blocks + plane) * lanes, total, lanes)
        with b.loop("plane", 0, rows.blocks) as plane:
            total = b.load(partial, plane * lanes, lanes)
            for band in range(1, rows.bands):
                total = self._merge(k, total, b.load(partial, (band * rows.blocks + plane) * lanes, lanes))
            total = self._mean(k, total, pixels.bands * pixels.rows * pixels.floats)
            k.finish(b.value(total), plane * lanes, plane * lanes, 0, lanes)

    def _run(self, k: Kernel, start: Expr, pixels: int) -> Expr:
        """All of `pixels` neighbouring pixels merged, through independent accumulators."""
        b, lanes = k.b, k.region.out.shape[-1]
        count = min(self.accumulators, pixels)
        acc = Tile(b, count, 1, lanes)
        acc.start(lambda j: self._neutral(k, lanes))
        for first, steps, width in ((0, pixels // count, count), (pixels - pixels % count, 1, pixels % count)):
            with b.range("p", 0, steps) as p:
                for i in range(width):
                    value = b.load(k.args[k.anchor.x], (start + first + p * count + i) * lanes, lanes)
                    b.store(acc.acc[i][0], 0, self._merge(k, acc.value(i, 0), value), lanes)
        values = [acc.value(i, 0) for i in range(count)]
        while len(values) > 1:
            merged = [self._merge(k, a, c) for a, c in zip(values[::2], values[1::2])]
            values = merged + values[len(merged) * 2 :]
        return values[0]

    def _neutral(self, k: Kernel, lanes: int) -> Expr:
        return const(LOWEST if isinstance(k.anchor, TileAdaptiveMaxPool2d) else 0.0, lanes=lanes)

    def _merge(self, k: Kernel, a: Expr, c: Expr) -> Expr:
        return k.math.max(a, c) if isinstance(k.anchor, TileAdaptiveMaxPool2d) else a + c

    def _mean(self, k: Kernel, total: Expr, count: Expr) -> Expr:
        if isinstance(k.anchor, TileAdaptiveMaxPool2d):
            return total
        lanes = k.region.out.shape[-1]
        if isinstance(count, int):
            return total * const(1.0 / count, lanes=lanes)
        return total * splat(1.0 / t.Cast("float32", count), lanes)


def bounds(i: Expr, size: int, out: int) -> tuple[Expr, Expr]:
    """First and one past the last element of adaptive window i."""
    return t.floordiv(i * size, out), t.floordiv((i + 1) * size + out - 1, out)
