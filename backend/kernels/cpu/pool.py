"""Pooling on blocked maps: lanes are channels. Windows are trimmed at the borders, so padding is never read."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from tvm import tirx as t

from ....ir.op import Value
from ....ir.ops import MaxPool2d
from ...codegen.builder import Builder, Expr, const, lanes_of, splat
from ...codegen.kernel_builder import KernelBuilder
from ...target import Target
from ...tile.fusion import Fusion, RowLayout
from ...tile.ops import TileAdaptiveAvgPool2d, TileAdaptiveMaxPool2d, TileAvgPool2d, TileMaxPool2d
from ..template import Params, Template, kernel
from .chunks import Chunk, chunks_of_rows
from .register_tile import Tile
from .sliding import Element, Sliding, beyond_l2
from .window import Row, Window, balance, tasks, window

LOWEST = -np.inf


class _Pool(Template):
    """Base of the pooling templates."""

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        return bool(op.lanes) and op.x.type.layout is not None and op.x.shape[-1] == op.lanes and op.x.type.elem == "f32"

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        return float(fusion.anchor.operands[0].type.size)


def pool_window(fusion: Fusion) -> Window:
    op: Any = fusion.anchor
    return window(op.x, op.out.type, op.kernel, op.stride, op.padding, op.dilation if isinstance(op, MaxPool2d) else (1, 1))


@kernel(TileMaxPool2d, TileAvgPool2d)
class Pool(_Pool):
    """Loops: (image, channel block, row chunk) > output row > pass > pixel (see sliding.py)."""

    name = "pool"
    strided_batch = True
    masked_stores = True

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        g = pool_window(fusion)
        return [{"chunk": balance(g.oh, g.oh, g.n, g.in_blocks, threads, rows=True)}]

    def emit(self, k: KernelBuilder) -> None:
        g = pool_window(k.fusion)
        with chunks_of_rows(k, g) as chunk:
            pool_rows(k, g, chunk, beyond_l2(g, k.target))


def pool_rows(k: KernelBuilder, g: Window, chunk: Chunk, streamed: bool = False) -> None:
    """Output rows of a channel block; `streamed` as for `Sliding`."""
    largest, start = _largest(k), _neutral(k, g.lanes)

    def add(columns: Sequence[Sequence[Element]], before: Expr | None) -> Expr:
        merge = partial(_larger, k.b) if largest else partial(_sum, k.b)
        parts = [functools.reduce(merge, [x for _, _, x in column]) for column in columns]
        if before is not None or not parts:
            parts.insert(0, start if before is None else before)
        total = functools.reduce(merge, parts)
        if not largest:
            return total
        # the first operand, the result of earlier passes, is kept where it is NaN
        return _or_nan(total, [x for column in columns for _, _, x in column])

    def mean(total: Expr, row: Row, ox: Expr, whole: bool) -> Expr:
        if whole and k.anchor.divisor is None:
            return total * const(1.0 / (g.kh * g.kw), lanes=g.lanes)
        return total * splat(k.b.let("scale", 1.0 / _count(k, g, row.oy, ox)), g.lanes)

    (Sliding(k, g, streamed, start, add) if largest else Sliding(k, g, streamed, start, add, mean)).rows(chunk)


def _largest(k: KernelBuilder) -> bool:
    return isinstance(k.anchor, (TileMaxPool2d, TileAdaptiveMaxPool2d))


def _neutral(k: KernelBuilder, lanes: int) -> Expr:
    return const(LOWEST if _largest(k) else 0.0, lanes=lanes)


def _sum(b: Builder, a: Expr, c: Expr) -> Expr:
    return b.value(a + c)


def _larger(b: Builder, a: Expr, c: Expr) -> Expr:
    """The larger one where none is NaN: one instruction."""
    return b.value(t.Select(c > a, c, a))


def _or_nan(value: Expr, xs: Sequence[Expr]) -> Expr:
    """NaN where one of xs is, else the value. One instruction compares two of them and accumulates the result."""
    if not xs:
        return value
    return t.Select(_numbers(xs), value, const(math.nan, lanes=lanes_of(value)))


def _numbers(xs: Sequence[Expr]) -> Expr:
    """Whether none is NaN. A tree, since TVM takes exponential time to simplify a chain."""
    if len(xs) == 1:
        return t.Not(t.isnan(xs[0]))
    half = (len(xs) + 1) // 4 * 2 or 1
    return t.And(_numbers(xs[:half]), _numbers(xs[half:]))


def _count(k: KernelBuilder, g: Window, oy: Expr, ox: Expr) -> Expr:
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
    """Window i covers floor(i*H/h) to ceil((i+1)*H/h). For a single window the map is one run of pixels with several accumulators."""

    name = "adaptive_pool"
    strided_batch = True
    masked_stores = True
    accumulators = 8

    def row_partitioned(self, fusion: Fusion, target: Target, params: Params) -> list[list[Value]]:
        op: Any = fusion.anchor
        return [[op.x]] if op.out.shape[2:4] == (1, 1) else []

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        op: Any = fusion.anchor
        return 4 * rows.partitions * fusion.out.size if (rows := fusion.map_rows(op.x)).partitions > 1 else 0

    def emit(self, k: KernelBuilder) -> None:
        op, b = k.anchor, k.b
        n, blocks, oh, ow, lanes = k.fusion.out.shape
        h, w = op.x.shape[2:4]
        if (rows := k.fusion.map_rows(op.x)).partitions > 1:
            self._bands(k, rows)
            return
        inputs, results = rows.pixels(lanes), k.fusion.map_rows(k.fusion.result).pixels(lanes)
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
                acc.start(lambda j: _neutral(k, lanes))
                with b.loop("iy", y0, y1) as iy, b.loop("ix", x0, x1) as ix:
                    value = b.load(k.args[op.x], (inputs.at(plane, iy) + ix) * lanes, lanes)
                    b.store(acc.acc[0][0], 0, self._merge(k, acc.value(0, 0), value), lanes)
                result = self._mean(k, acc.value(0, 0), (y1 - y0) * (x1 - x0))
                k.finish(result, (results.at(plane, oy) + ox) * lanes, channel, image, lanes)

    def _bands(self, k: KernelBuilder, rows: RowLayout) -> None:
        """Each thread reduces its partition, then the partitions are combined."""
        b, lanes, partial = k.b, k.fusion.out.shape[-1], k.scratch
        pixels = rows.pixels(lanes)
        assert partial is not None
        with b.loop("partition", 0, rows.partitions, tasks(k.threads, rows.partitions)) as partition, b.loop("plane", 0, rows.blocks) as plane:
            total = self._run(k, b.let("start", pixels.at(plane, partition * pixels.rows, partition)), pixels.rows * pixels.elements)
            b.store(partial, (partition * rows.blocks + plane) * lanes, total, lanes)
        with b.loop("plane", 0, rows.blocks) as plane:
            total = b.load(partial, plane * lanes, lanes)
            for partition in range(1, rows.partitions):
                total = self._merge(k, total, b.load(partial, (partition * rows.blocks + plane) * lanes, lanes))
            total = self._mean(k, total, pixels.partitions * pixels.rows * pixels.elements)
            k.finish(b.value(total), plane * lanes, plane * lanes, 0, lanes)

    def _run(self, k: KernelBuilder, start: Expr, pixels: int) -> Expr:
        """All of `pixels` neighbouring pixels merged, through independent accumulators."""
        b, lanes = k.b, k.fusion.out.shape[-1]
        count = min(self.accumulators, pixels)
        acc = Tile(b, count, 1, lanes)
        acc.start(lambda j: _neutral(k, lanes))
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

    def _merge(self, k: KernelBuilder, a: Expr, c: Expr) -> Expr:
        return k.math.max(a, c) if _largest(k) else a + c

    def _mean(self, k: KernelBuilder, total: Expr, count: Expr) -> Expr:
        if _largest(k):
            return total
        lanes = k.fusion.out.shape[-1]
        if isinstance(count, int):
            return total * const(1.0 / count, lanes=lanes)
        return total * splat(1.0 / t.Cast("float32", count), lanes)


def bounds(i: Expr, size: int, out: int) -> tuple[Expr, Expr]:
    """First and one past the last element of adaptive window i."""
    return t.floordiv(i * size, out), t.floordiv((i + 1) * size + out - 1, out)
