"""Direct convolution of stored integers on blocked maps: a register tile of output columns (whole rows where maps are narrow), without im2col.

Loops: (image, row chunk, output group) > output rows > column tile > input block > run of kernel columns > kernel row > kernel column > dword.
Taps outside the map are skipped, columns at compile time and rows by a run-time range; `borders` makes that exact for all zero points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tvm import tirx as t

from ......ir.op import Value
from .....codegen.builder import Expr
from .....codegen.kernel_builder import KernelBuilder
from .....target import Target
from .....tile.fusion import Fusion
from .....tile.integer import TileIntConv2d
from ....template import Params, kernel
from ...arithmetic.base import STEP, Arithmetic
from ...arithmetic.integers import arithmetic_named
from ...integer_tail import packs
from ...integer_tile import IntegerTile, max_rows, tile_cycles
from ...window import Window, balance, column_tiles, tasks, tiles_of
from ..template import conv_window
from .borders import Borders
from .finish import finish_tile
from .gemm import IntegerConv
from .geometry import Depth, Groups

#: Kernel columns [first, last), and the pixels of a tile that all of them touch.
Run = tuple[int, int, list[int]]


@kernel(TileIntConv2d)
class IntegerDirect(IntegerConv):
    name = "integer_direct"
    strided_batch = True

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        g = conv_window(fusion)
        return super().accepts(fusion, target) and not g.pointwise and not g.depthwise and Borders(g, 0).few

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        g, groups = conv_window(fusion), Groups(conv_window(fusion), target.lanes)
        fit = max(1, min(g.oh, target.l2 // 2 // (groups.span * g.block_in * g.w * g.sh)))
        chunk = balance(g.oh, fit, g.n, max(count for _, _, count in groups.groups), threads, g.small_weights)
        return [{"arithmetic": name, "chunk": chunk, "packs": packs(fusion, target)} for name in self.fitting(fusion, target)]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        g, groups = conv_window(fusion), Groups(conv_window(fusion), target.lanes)
        arithmetic = arithmetic_named(params["arithmetic"])
        pixels, taps = g.n * g.oh * g.ow, g.kh * g.kw
        work = sum(count * tile_cycles(target, pixels, vectors, groups.dwords * taps, arithmetic) for vectors, _, count in groups.groups)
        return work + taps * pixels

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        """The weights by `Groups`; the biases of all borders in place of the zero point."""
        op: Any = fusion.anchor
        g = conv_window(fusion)
        w, b, zero = (None if v is None else fusion.array(v) for v in (op.w, op.b, op.zero))
        assert w is not None and zero is not None
        arithmetic = arithmetic_named(params["arithmetic"])
        biases = Borders(g, g.out_blocks * g.lanes).biases(w, b, int(zero) - arithmetic.offset(str(op.x.type.elem)))
        return {op.w: Groups(g, target.lanes).pack(w, arithmetic), op.zero: biases}

    def emit(self, k: KernelBuilder) -> None:
        groups, at = Groups(conv_window(k.fusion), k.target.lanes), 0
        for vectors, first, count in groups.groups:
            at = _Group(k, groups, vectors, first, count, at).emit()


@dataclass
class _Group:
    """The code of all output groups of `vectors` vectors. weights: the offset of their packed weights."""

    k: KernelBuilder
    groups: Groups
    vectors: int
    first: int
    count: int
    weights: int
    #: the tile being written, of all those that share a panel of weights
    number: Expr = 0
    tiles: int = 1

    @property
    def g(self) -> Window:
        return self.groups.g

    @cached_property
    def arithmetic(self) -> Arithmetic:
        return arithmetic_named(self.k.params["arithmetic"])

    @cached_property
    def borders(self) -> Borders:
        return Borders(self.g, self.g.out_blocks * self.g.lanes)

    @property
    def pixels(self) -> int:
        """Pixels of a tile at most."""
        return max_rows(self.k.target, self.vectors, self.arithmetic)

    @property
    def panel(self) -> int:
        """Elements of the packed weights of a dword."""
        return self.vectors * self.groups.lanes * self.arithmetic.each

    @property
    def size(self) -> int:
        """Elements of the packed weights of a group."""
        return self.groups.dwords * self.g.kh * self.g.kw * self.panel

    def emit(self) -> int:
        """Returns the offset of the weights of the next groups."""
        k, g, b, rows = self.k, self.g, self.k.b, self.k.params["chunk"]
        chunks, size = -(-g.oh // rows), self.size
        with b.loop("task", 0, g.n * chunks * self.count, tasks(k.threads, g.n * chunks * self.count)) as task:
            self.image = b.let("image", t.floordiv(task, chunks * self.count))
            chunk = b.let("part", t.floormod(t.floordiv(task, self.count), chunks))
            group = b.let("group", t.floormod(task, self.count))
            self.at = b.let("panel", self.weights + group * size)
            self.vector = b.let("vector", self.first + group * self.vectors)
            self.plane = b.let("plane", self.image * g.in_blocks + self.groups.first(self.vector))
            start, stop = b.let("start", chunk * rows), b.let("stop", t.min(g.oh, (chunk + 1) * rows))
            self._rows(start, stop)
        return self.weights + self.count * size

    def _rows(self, start: Expr, stop: Expr) -> None:
        """Output rows [start, stop). Where maps are narrow, rows with all taps inside go in tiles of whole rows, the others one by one."""
        g, b, axis = self.g, self.k.b, self.borders.rows
        height, rows = self.pixels // g.ow, min(self.k.params["chunk"], g.oh)
        if height < 2 or axis.stop - axis.first < height:
            with b.loop("oy", start, stop, "rolled") as oy:
                self._row(oy, oy - start, rows)
            return
        tall = min(rows, axis.stop - axis.first) // height
        begin = b.let("begin", t.max(start, axis.first))
        count = b.let("count", t.max(0, t.floordiv(t.min(stop, axis.stop) - begin, height)))
        with b.loop("tall", 0, count, "rolled") as i:
            self.number, self.tiles = i, rows - tall * (height - 1)
            self._tile(height * g.ow, b.let("oy", begin + i * height), 0, 0, (0, g.kh), axis.first)
        with b.loop("rest", start, stop - count * height, "rolled") as rest:
            self._row(b.let("oy", t.Select(rest < begin, rest, rest + count * height)), rest - start + tall, rows - tall * (height - 1))

    def _row(self, oy: Expr, number: Expr, rows: int) -> None:
        """An output row. number: its index among `rows` rows or tall tiles."""
        taps, above = self.g.rows(self.k.b, oy), self.borders.rows.emit(self.k.b, oy)
        layout = column_tiles(self.g, self.pixels, self.vectors)
        each = sum(repeat for _, _, repeat in layout)
        self.tiles = rows * each
        for width, ox, static_x, i in tiles_of(self.k.b, layout):
            self.number = number * each + i
            self._tile(width, oy, ox, static_x, taps, above)

    def _tile(self, width: int, oy: Expr, ox: Expr, static_x: int | None, taps: tuple[Expr, Expr], above: Expr) -> None:
        k, g, b, lanes, columns = self.k, self.g, self.k.b, self.groups.lanes, self.borders.columns
        tile = IntegerTile(b, self.arithmetic, width, self.vectors, lanes)
        sides = [columns.first if static_x is None else columns.of((static_x + i) % g.ow) for i in range(width)]
        tile.start(lambda j, side: b.load(k.args[k.anchor.zero], self.borders.place(above, side, (self.vector + j) * lanes), lanes), sides)
        for depth in self.groups.depths:
            with b.range("kb", 0, depth.blocks) as kb:
                plane = b.let("plane", self.plane + depth.first + kb)
                panel = b.let("block", self.at + (depth.before + kb * depth.steps) * (g.kh * g.kw * self.panel))
                for run in self._runs(width, static_x):
                    with b.loop("r", *taps, "rolled") as r:
                        row = b.let("row", k.fusion.map_rows(k.anchor.x).at(plane, oy * g.sh - g.top + r * g.dh) + (ox * g.sw - g.left) * g.block_in)
                        self._columns(tile, run, row, b.let("tap", panel + r * (g.kw * depth.steps * self.panel)), depth)
        finish_tile(k, self.groups, tile, self.vector, oy * g.ow + ox, self.image)

    def _columns(self, tile: IntegerTile, run: Run, row: Expr, panel: Expr, depth: Depth) -> None:
        """A run of kernel columns of a kernel row. Where a pixel is one dword, neighbouring columns are neighbouring dwords."""
        g, b, (first, last, pixels) = self.g, self.k.b, run
        x, w = self.k.args[self.k.anchor.x], self.k.args[self.k.anchor.w]
        starts = [(i, (i // g.ow * g.sh * g.w + i % g.ow * g.sw) * g.block_in) for i in pixels]
        if g.block_in == STEP and g.dw == 1:
            at = b.let("at", row + first * STEP)
            tile.steps(x, [(i, at + start) for i, start in starts], w, panel + first * self.panel, last - first, last - first)
            return
        with b.range("s", first, last, "rolled") as s:
            at, w_at = b.let("at", row + s * (g.dw * g.block_in)), b.let("w_at", panel + s * (depth.steps * self.panel))
            tile.fetch(w, w_at + self.size, depth.steps, self.number, self.tiles)
            tile.steps(x, [(i, at + start) for i, start in starts], w, w_at, depth.steps)

    def _runs(self, width: int, static_x: int | None) -> list[Run]:
        """Runs of kernel columns. Each has its own loop over kernel rows: in one loop LLVM would keep broadcasts that two runs share, and spill."""
        g = self.g
        if static_x is None:
            return [(0, g.kw, list(range(width)))]
        result: list[Run] = []
        for s in range(g.kw):
            pixels = g.columns(static_x, s, width)
            if result and pixels and result[-1][1:] == (s, pixels):
                result[-1] = (result[-1][0], s + 1, pixels)
            elif pixels:
                result.append((s, s + 1, pixels))
        return result
