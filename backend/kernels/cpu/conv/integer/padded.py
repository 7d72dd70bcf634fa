"""Direct convolution of stored integers from a padded copy: rows of the map as i16 in scratch, with the zero point around them.

For layers whose bytes no instruction multiplies. The copy costs little beside what it saves: a pair of channels is one broadcast, no tile lies at a
border, and of the four bytes of a pixel of a first layer only real channels are copied, so that a kernel row is one run of i16.
Loops: (image, row chunk, output group) > output row > column tile > input block > kernel row > kernel column > pair of channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx as t

from ......ir.op import Value
from .....codegen.builder import Buffer, Expr, splat
from .....codegen.kernel_builder import KernelBuilder
from .....target import Target
from .....tile.fusion import Fusion
from .....tile.integer import TileIntConv2d
from ....template import Params, kernel
from ...arithmetic.base import Arithmetic
from ...arithmetic.integers import arithmetic_named
from ...integer_tail import packs
from ...integer_tile import IntegerTile, max_rows, tile_cycles
from ...register_tile import cover, runs
from ...window import Window, balance, share, workers
from ..template import conv_window
from .finish import finish_tile
from .gemm import IntegerConv
from .geometry import Groups
from .widen import WIDE, Copy, widening


@kernel(TileIntConv2d)
class IntegerPadded(IntegerConv):
    name = "integer_padded"
    strided_batch = True

    def scratch_dtype(self, fusion: Fusion) -> str:
        return "int16"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        g = conv_window(fusion)
        able = g.groups == 1 and not g.pointwise and super().accepts(fusion, target)
        return able and bool(widening(target, self.fitting(fusion, target)))

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        g, groups = conv_window(fusion), Groups(conv_window(fusion), target.lanes)
        fit = next((rows for rows in range(g.oh, 1, -1) if WIDE * Copy(g, rows).size <= target.l2 // 2), 1)
        chunk = balance(g.oh, fit, g.n, max(count for _, _, count in groups.groups), threads, g.small_weights)
        return [{"arithmetic": name, "chunk": chunk, "packs": packs(fusion, target)} for name in widening(target, self.fitting(fusion, target))]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        g, groups = conv_window(fusion), Groups(conv_window(fusion), target.lanes)
        copy, arithmetic = Copy(g, int(params["chunk"])), arithmetic_named(params["arithmetic"])
        steps = g.kh * (copy.pairs if copy.dense else g.kw * groups.dwords * arithmetic.steps)
        work = sum(count * tile_cycles(target, g.ow, vectors, steps, arithmetic) for vectors, _, count in groups.groups)
        copied = -(-g.oh // copy.chunk) * copy.rows * copy.columns * g.in_blocks
        return g.n * (g.oh * work + 2.0 * copied)

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        """The weights by `Groups`, or [group][kernel row][pair][vector][lane][2]; biases, then the zero point, in place of the zero point."""
        g, groups = conv_window(fusion), Groups(conv_window(fusion), target.lanes)
        copy, packed = Copy(g, params["chunk"]), super().pack(fusion, target, params)
        op: Any = fusion.anchor
        w = fusion.array(op.w)
        assert w is not None
        if copy.dense:
            full = np.zeros((g.out_blocks * g.lanes, g.kh, copy.pairs * 2), np.int16)
            full[: g.o, :, : g.kw * g.c] = w.transpose(0, 2, 3, 1).reshape(g.o, g.kh, -1)
            parts = []
            for vectors, first, count in groups.groups:
                rows = full[first * groups.lanes : (first + count * vectors) * groups.lanes]
                rows = rows.reshape(count, vectors, groups.lanes, g.kh, copy.pairs, 2)
                parts.append(rows.transpose(0, 3, 4, 1, 2, 5).ravel())
            packed[op.w] = np.concatenate(parts)
        return packed

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        return threads * WIDE * Copy(conv_window(fusion), params["chunk"]).size

    def emit(self, k: KernelBuilder) -> None:
        groups = Groups(conv_window(k.fusion), k.target.lanes)
        with workers(k.b, k.threads) as worker:
            at = 0
            for vectors, first, count in groups.groups:
                group = _Group(k, groups, vectors, first, count, at)
                group.emit(worker)
                at += count * group.size


@dataclass
class _Group:
    """The code of all output groups of `vectors` vectors. weights: the offset of their packed weights."""

    k: KernelBuilder
    groups: Groups
    vectors: int
    first: int
    count: int
    weights: int

    @property
    def g(self) -> Window:
        return self.groups.g

    @property
    def arithmetic(self) -> Arithmetic:
        return arithmetic_named(self.k.params["arithmetic"])

    @property
    def copy(self) -> Copy:
        return Copy(self.g, self.k.params["chunk"])

    @property
    def scratch(self) -> Buffer:
        assert self.k.scratch is not None
        return self.k.scratch

    @property
    def panel(self) -> int:
        """Elements of the packed weights of a pair of channels."""
        return self.vectors * self.groups.lanes * self.arithmetic.each

    @property
    def size(self) -> int:
        """Elements of the packed weights of a group."""
        g = self.g
        return g.kh * self.panel * (self.copy.pairs if self.copy.dense else g.kw * self.groups.dwords * self.arithmetic.steps)

    def emit(self, worker: Expr) -> None:
        """A worker's tasks. It copies the rows of a chunk at its first task for that chunk."""
        k, g, b, chunk = self.k, self.g, self.k.b, self.copy.chunk
        chunks = -(-g.oh // chunk)
        begin, end = share(worker, g.n * chunks * self.count, k.threads)
        self.base = b.let("copy", worker * self.copy.size)
        with b.loop("task", begin, end) as task:
            self.image = b.let("image", t.floordiv(task, chunks * self.count))
            part = b.let("part", t.floormod(t.floordiv(task, self.count), chunks))
            group = b.let("group", t.floormod(task, self.count))
            self.at = b.let("panel", self.weights + group * self.size)
            self.vector = b.let("vector", self.first + group * self.vectors)
            self.start = b.let("start", part * chunk)
            with b.when(t.any(t.EQ(group, 0), t.EQ(task, begin))), b.loop("kb", 0, g.in_blocks) as kb, b.loop("row", 0, self.copy.rows) as row:
                self._copy(kb, row)
            with b.loop("oy", self.start, t.min(g.oh, self.start + chunk), "rolled") as oy:
                self._row(oy)

    def _copy(self, kb: Expr, row: Expr) -> None:
        """A row of the copy."""
        k, g, b, copy = self.k, self.g, self.k.b, self.copy
        x, width = k.args[k.anchor.x], g.block_in
        to = b.let("to", self.base + (kb * copy.rows + row) * copy.row)
        iy = b.let("iy", self.start * g.sh - g.top + row * copy.taken[0])
        fill = splat(t.Cast("int16", b.load(k.args[k.anchor.zero], g.out_blocks * g.lanes)), width)
        low, high = copy.inside
        inside = b.let("inside", t.all(iy >= 0, iy < g.h))
        source = b.let("source", k.fusion.map_rows(k.anchor.x).at(self.image * g.in_blocks + kb, iy) - g.left * width)
        # from left to right, since the store of a dense pixel reaches into the next
        with b.loop("column", 0, low) as column:
            b.store(self.scratch, to + column * copy.pixel, fill, width)
        with b.when(inside), b.loop("column", low, high) as column:
            value = t.Cast(f"int16x{width}", b.load(x, source + column * (copy.taken[1] * width), width))
            b.store(self.scratch, to + column * copy.pixel, value, width)
        with b.when(t.Not(inside)), b.loop("column", low, high) as column:
            b.store(self.scratch, to + column * copy.pixel, fill, width)
        with b.loop("column", high, copy.columns) as column:
            b.store(self.scratch, to + column * copy.pixel, fill, width)

    def _row(self, oy: Expr) -> None:
        b, g = self.k.b, self.g
        heights, before = cover(g.ow, max_rows(self.k.target, self.vectors, self.arithmetic), self.vectors), 0
        source = b.let("row", self.base + (oy - self.start) * (self.copy.steps[0] * self.copy.row))
        for width, first, repeat in runs(heights):
            with b.range("tile", 0, repeat) as i:
                number = b.let("number", (oy - self.start) * len(heights) + before + i)
                self._tile(width, oy, b.let("ox", first + i * width), source, number, self.copy.chunk * len(heights))
            before += repeat

    def _tile(self, width: int, oy: Expr, ox: Expr, source: Expr, number: Expr, tiles: int) -> None:
        k, g, b, copy, lanes = self.k, self.g, self.k.b, self.copy, self.groups.lanes
        w, tile = k.args[k.anchor.w], IntegerTile(b, self.arithmetic, width, self.vectors, lanes)
        tile.start(lambda j, _: b.load(k.args[k.anchor.zero], (self.vector + j) * lanes, lanes))
        corner = b.let("corner", source + ox * (copy.steps[1] * copy.pixel))

        def steps(at: Expr, panel: Expr, count: int, unroll: int) -> None:
            tile.fetch(w, panel + self.size, count, number, tiles)
            tile.steps(self.scratch, [(i, at + i * (copy.steps[1] * copy.pixel)) for i in range(width)], w, panel, count, unroll)

        if copy.dense:
            with b.loop("r", 0, g.kh, "rolled") as r:
                at, panel = b.let("at", corner + r * (g.dh * copy.row)), b.let("tap", self.at + r * (copy.pairs * self.panel))
                steps(at, panel, copy.pairs, copy.pairs)
        for depth in [] if copy.dense else self.groups.depths:
            pairs = depth.steps * self.arithmetic.steps
            with b.range("kb", 0, depth.blocks) as kb, b.loop("r", 0, g.kh, "rolled") as r, b.range("s", 0, g.kw, "rolled") as s:
                at = b.let("at", corner + ((depth.first + kb) * copy.rows + r * g.dh) * copy.row + s * (g.dw * copy.pixel))
                before = depth.before * self.arithmetic.steps * g.kh * g.kw
                panel = b.let("tap", self.at + (before + ((kb * g.kh + r) * g.kw + s) * pairs) * self.panel)
                steps(at, panel, pairs, 4)
        finish_tile(k, self.groups, tile, self.vector, oy * g.ow + ox, self.image)
