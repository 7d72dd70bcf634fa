"""Convolution of packed maps by counting bits: lanes are outputs, a register tile is a run of output columns, taps outside the map are left out.

Planes are counted one pair after the other into the same accumulators, which double in between: P = ((P_2) 2 + P_1) 2 + P_0, P as in
`bit_window.py`. Loops: (image, row chunk, output group) > output row > column tile > pair of planes > kernel row > word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx as t

from .....ir.op import Value
from ....codegen.builder import Buffer, Expr, const, splat
from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.bits import BitConv2dThreshold, TileBitConv2d
from ....tile.fusion import Fusion
from ...template import Params, Template, kernel
from ..window import column_tiles, tiles_of
from .bit_window import OutputRow, Shape, accepted, output_tiles, packed_thresholds, shape_of, sums_size, window_sums
from .counting import COUNTINGS, Counting, counting_named

#: Words in a step of the innermost loop, where they divide its length.
UNROLL = 2


@kernel(TileBitConv2d, BitConv2dThreshold)
class PopcountConv(Template):
    name = "popcount_conv"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return accepted(fusion, target)

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        counting = next(c for c in COUNTINGS if c.runs_on(target))
        # 14 accumulators hide the latency of a count and an addition; several pairs of planes run slower with 28
        most = min(7, (target.registers - 2 - counting.spare) // 2)
        sizes = [(2, most), *((v, min(14, max(1, (target.registers - v - counting.spare) // v))) for v in (2, 4, 1))]
        return [{"counting": counting.name, "vectors": vectors, "columns": columns} for vectors, columns in sizes]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        s, counting = shape_of(fusion, target, params), counting_named(params["counting"])
        tiles = sum(repeat * max(width, 2 / s.vectors) for width, _, repeat in column_tiles(s.g, _columns(s, params), s.vectors))
        return s.g.n * s.g.oh * tiles * s.padded / s.lanes * s.g.kh * s.g.kw * s.words * s.x_planes * s.w_planes * counting.cycles(target)

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        """Words (O, planes, kh, kw, words) -> [group][plane][kh][kw][word][vector][lane]."""
        op: Any = fusion.anchor
        s, w = shape_of(fusion, target, params), fusion.array(op.w)
        assert w is not None
        words = np.concatenate([part.transpose(0, 3, 4, 5, 6, 1, 2).reshape(-1) for part in s.cut(w)])
        return {op.w: words} | packed_thresholds(fusion, s)

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        return 4 * sums_size(shape_of(fusion, target, params))

    def scratch_dtype(self, fusion: Fusion) -> str:
        return "int32"

    def emit(self, k: KernelBuilder) -> None:
        s = shape_of(k.fusion, k.target, k.params)
        if not s.signs:
            window_sums(k, s)
        # where the groups of each size begin in the packed weights
        panels = [s.w_planes * s.g.kh * s.g.kw * s.words * vectors * s.lanes for vectors, _, _ in s.groups]
        starts = [0, panels[0] * s.groups[0][2]]
        for row, kind, group in output_tiles(k, s):
            counter = _Counter(row, counting_named(k.params["counting"]), k.b.let("w_at", starts[kind] + group * panels[kind]))
            for width, ox, known, _ in tiles_of(k.b, column_tiles(s.g, _columns(s, k.params), row.vectors)):
                counter.tile(width, ox, row.live_columns(width, ox, known))


def _columns(s: Shape, params: Params) -> int:
    """Columns of a tile at most: accumulators are as many as the parameters say, also where a group must be a whole word."""
    return s.columns(int(params["columns"]) * int(params["vectors"]))


@dataclass
class _Counter:
    """The code that counts the bits of an output row, with weights from w_at on."""

    row: OutputRow
    counting: Counting
    w_at: Expr

    def tile(self, width: int, ox: Expr, columns: list[list[int]]) -> None:
        """`width` columns from ox on."""
        row, s, b, lanes = self.row, self.row.s, self.row.k.b, self.row.s.lanes
        self.acc = [[b.local(lanes, "int32") for _ in range(row.vectors)] for _ in range(width)]
        for acc in (a for own in self.acc for a in own):
            b.store(acc, 0, const(0, "int32", lanes), lanes)
        for number, pairs in enumerate(_pairs(s)):
            for acc in (a for own in self.acc for a in own) if number else ():
                b.store(acc, 0, b.load(acc, 0, lanes) + b.load(acc, 0, lanes), lanes)
            for m, n in pairs:
                with b.loop("r", row.r0, row.r1, "rolled") as r:
                    self._kernel_row(m, n, r, ox, columns)
        row.finish(ox, columns, width, lambda i, j: b.load(self.acc[i][j], 0, lanes))

    def _kernel_row(self, m: int, n: int, r: Expr, ox: Expr, columns: list[list[int]]) -> None:
        """Count the words under a row of the window, of a plane of x and one of w."""
        row, b, s, g = self.row, self.row.k.b, self.row.s, self.row.s.g
        iy = row.oy * g.sh - g.top + r * g.dh
        plane = (row.image * s.x_planes + m) * g.h + iy
        at = b.let("x_at", (plane * g.w + ox * g.sw - g.left) * s.words)
        run = g.kw * s.words
        w_at = b.let("w_row", self.w_at + (n * g.kh + r) * (run * row.vectors * s.lanes))
        for tap, length, live in s.runs(columns, len(self.acc), s.words):
            self._words(at + tap * g.dw * s.words, w_at + tap * s.words * row.vectors * s.lanes, length, live)

    def _words(self, x_at: Expr, w_at: Expr, length: int, live: list[int]) -> None:
        """Count `length` neighbouring words of some columns."""
        b, limit, lanes = self.row.k.b, self.counting.limit, self.row.s.lanes
        if not limit:
            self._steps(x_at, w_at, length, live, self.acc)
            return
        for first in range(0, length, limit):
            narrow = [[self.counting.narrow(b, lanes) for _ in range(self.row.vectors)] for _ in self.acc]
            for i in live:
                for acc in narrow[i]:
                    self.counting.clear(b, acc, lanes)
            size = self.row.vectors * lanes
            self._steps(x_at + first, w_at + first * size, min(limit, length - first), live, narrow)
            for i in live:
                for acc, wide in zip(narrow[i], self.acc[i]):
                    b.store(wide, 0, b.load(wide, 0, lanes) + self.counting.widened(b, acc, lanes), lanes)

    def _steps(self, x_at: Expr, w_at: Expr, length: int, live: list[int], into: list[list[Buffer]]) -> None:
        b, unroll = self.row.k.b, next(u for u in (UNROLL, 3, 2, 1) if length % u == 0)
        with b.loop("q", 0, length // unroll, "rolled") if length > unroll else b.range("q", 0, 1) as q:
            for u in range(unroll):
                self._word(x_at, w_at, q * unroll + u, live, into)

    def _word(self, x_at: Expr, w_at: Expr, number: Expr, live: list[int], into: list[list[Buffer]]) -> None:
        k, s, lanes, vectors = self.row.k, self.row.s, self.row.s.lanes, self.row.vectors
        b, x, w = k.b, k.args[k.anchor.x], k.args[k.anchor.w]
        combine = t.bitwise_xor if s.signs else t.bitwise_and
        at = w_at + number * (vectors * lanes)
        weights = [b.let("w", b.load(w, at + j * lanes, lanes)) for j in range(vectors)]
        for i in live:
            value = b.let("x", splat(b.load(x, x_at + number + i * s.g.sw * s.words), lanes))
            for acc, weight in zip(into[i], weights):
                self.counting.add(b, acc, combine(value, weight), lanes)


def _pairs(s: Shape) -> list[list[tuple[int, int]]]:
    """Planes of x and w by the power of two of their products, the highest first."""
    top = s.x_planes + s.w_planes - 2
    return [[(m, n - m) for m in range(s.x_planes) if 0 <= n - m < s.w_planes] for n in range(top, -1, -1)]
