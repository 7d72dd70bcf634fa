"""Convolution of packed maps by counting bits: lanes are outputs, a register tile is a run of output columns, taps outside the map are left out.

    signs    sum x w = (2^B - 1) taps channels - 2 P        P = sum over planes n of 2^n popcount(x xor w_n)
    levels   sum x w = 2 P - (2^B - 1) S                    P = sum over planes m, n of 2^(m+n) popcount(x_m and w_n),  S = sum of x over the window

Planes are counted one pair after the other into the same accumulators, which double in between: P = ((P_2) 2 + P_1) 2 + P_0. S does not depend on
the output; it is computed once, into scratch. Loops: (image, row chunk, output group) > output row > column tile > pair of planes > kernel row >
word. After the sums comes an epilogue on blocked maps, or thresholds that give the next packed map.
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
from ....tile.bits import WORD, BitConv2dThreshold, TileBitConv2d
from ....tile.fusion import Fusion
from ...template import Params, Template, kernel
from ..window import Window, column_tiles, share, span, tasks, tiles_of
from .counting import COUNTINGS, Counting, counting_named
from .masks import joined, mask, word

#: Words in a step of the innermost loop, where they divide its length.
UNROLL = 2


@dataclass(frozen=True)
class Shape:
    """The numbers of a convolution: a window over words, planes of x and w, and outputs in vectors of `lanes`."""

    g: Window
    words: int
    x_planes: int
    w_planes: int
    signs: bool
    lanes: int
    #: vectors of a group at most, and in what they must divide (a word of outputs, where the result is packed)
    vectors: int
    unit: int

    @property
    def groups(self) -> list[tuple[int, int, int]]:
        """(vectors, first vector, number of groups)."""
        total = -(-self.g.o // (self.lanes * self.unit)) * self.unit
        vectors = min(self.vectors, total)
        whole, rest = divmod(total, vectors)
        return [(vectors, 0, whole)] + ([(rest, whole * vectors, 1)] if rest else [])

    @property
    def padded(self) -> int:
        """Outputs of all groups."""
        return sum(vectors * count for vectors, _, count in self.groups) * self.lanes

    @property
    def run(self) -> int:
        """Words under a kernel row."""
        return self.g.kw * self.words

    @property
    def pairs(self) -> list[list[tuple[int, int]]]:
        """Planes of x and w by the power of two of their products, the highest first."""
        top = self.x_planes + self.w_planes - 2
        return [[(m, s - m) for m in range(self.x_planes) if 0 <= s - m < self.w_planes] for s in range(top, -1, -1)]

    def pack(self, w: np.ndarray) -> np.ndarray:
        """Words (O, planes, kh, kw, words) -> [group][plane][kh][kw][word][vector][lane]."""
        full = np.zeros((self.padded, *w.shape[1:]), np.int32)
        full[: len(w)] = w
        parts = []
        for vectors, first, count in self.groups:
            own = full[first * self.lanes : (first + vectors * count) * self.lanes]
            parts.append(own.reshape(count, vectors, self.lanes, *w.shape[1:]).transpose(0, 3, 4, 5, 6, 1, 2).reshape(-1))
        return np.concatenate(parts)


def shape_of(fusion: Fusion, target: Target, params: Params) -> Shape:
    """The numbers of a fusion's anchor."""
    op: Any = fusion.anchor
    n, planes, h, w, words = op.x.shape
    _, o, oh, ow = op.map_shape if isinstance(op, BitConv2dThreshold) else op.logical().map_shape
    packed = isinstance(op, BitConv2dThreshold)
    (kh, kw), (sh, sw), (dh, dw), (top, _, left, _) = op.kernel, op.stride, op.dilation, op.padding
    block = target.lanes if packed else op.lanes
    window = Window(n, op.channels, h, w, o, oh, ow, kh, kw, sh, sw, top, left, dh, dw, lanes=block)
    unit = WORD // target.lanes if packed else 1
    return Shape(window, words, planes, op.w.shape[1], op.signs, target.lanes, max(params["vectors"], unit), unit)


@kernel(TileBitConv2d, BitConv2dThreshold)
class PopcountConv(Template):
    name = "popcount_conv"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        if isinstance(op, BitConv2dThreshold):
            return fusion.array(op.w) is not None and fusion.array(op.t) is not None
        return fusion.array(op.w) is not None and op.lanes % target.lanes == 0

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        counting = next(c for c in COUNTINGS if c.runs_on(target))
        result = []
        for vectors in (2, 4, 1):
            columns = max(1, (target.registers - vectors - counting.spare) // vectors)
            result.append({"counting": counting.name, "vectors": vectors, "columns": min(columns, 14)})
        return result

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        s, counting = shape_of(fusion, target, params), counting_named(params["counting"])
        tiles = sum(repeat * max(width, 2 / s.vectors) for width, _, repeat in column_tiles(s.g, self._columns(s, params), s.vectors))
        return s.g.n * s.g.oh * tiles * s.padded / s.lanes * s.g.kh * s.run * s.x_planes * s.w_planes * counting.cycles

    @staticmethod
    def _columns(s: Shape, params: Params) -> int:
        """Columns of a tile at most: accumulators are as many as the parameters say, also where a group must be a whole word."""
        return max(1, int(params["columns"]) * int(params["vectors"]) // s.vectors)

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        op: Any = fusion.anchor
        s = shape_of(fusion, target, params)
        w = fusion.array(op.w)
        assert w is not None
        result = {op.w: s.pack(w)}
        if isinstance(op, BitConv2dThreshold):
            own = fusion.array(op.t)
            assert own is not None
            full = np.full((own.shape[1], s.padded), np.iinfo(np.int32).max, np.int32)
            full[:, : s.g.o] = own.T
            result[op.t] = full
        return result

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        op: Any = fusion.anchor
        g = shape_of(fusion, target, params).g
        return 0 if op.signs else 4 * g.n * (g.oh * g.ow + g.h * g.w)

    def scratch_dtype(self, fusion: Fusion) -> str:
        return "int32"

    def emit(self, k: KernelBuilder) -> None:
        s = shape_of(k.fusion, k.target, k.params)
        if not s.signs:
            window_sums(k, s)
        g, b = s.g, k.b
        chunks = min(k.threads, g.oh)
        at = 0
        for vectors, first, count in s.groups:
            panel = s.w_planes * g.kh * s.run * vectors * s.lanes
            with b.loop("task", 0, g.n * chunks * count, tasks(k.threads, g.n * chunks * count)) as task:
                group = b.let("group", t.floormod(task, count))
                part, image = b.let("part", t.floormod(t.floordiv(task, count), chunks)), b.let("image", t.floordiv(task, count * chunks))
                vector, w_at = b.let("vector", first + group * vectors), b.let("w_at", at + group * panel)
                with b.loop("oy", *share(part, g.oh, chunks), "rolled") as oy:
                    r0, r1 = g.rows(b, oy)
                    row = _Row(k, s, counting_named(k.params["counting"]), vectors, vector, w_at, image, oy, r0, r1)
                    for width, ox, known, _ in tiles_of(b, column_tiles(g, self._columns(s, k.params), vectors)):
                        row.tile(width, ox, known)
            at += count * panel


@dataclass
class _Row:
    """The code of an output row of a group."""

    k: KernelBuilder
    s: Shape
    counting: Counting
    vectors: int
    vector: Expr
    w_at: Expr
    image: Expr
    oy: Expr
    r0: Expr
    r1: Expr

    def tile(self, width: int, ox: Expr, known: int | None) -> None:
        """`width` columns from ox on; known: ox where it is a number."""
        b, s, lanes = self.k.b, self.s, self.s.lanes
        self.acc = [[b.local(lanes, "int32") for _ in range(self.vectors)] for _ in range(width)]
        for acc in (a for row in self.acc for a in row):
            b.store(acc, 0, const(0, "int32", lanes), lanes)
        columns = [s.g.columns(known, tap, width) if known is not None else [*range(width)] for tap in range(s.g.kw)]
        for number, pairs in enumerate(s.pairs):
            for acc in (a for row in self.acc for a in row) if number else ():
                b.store(acc, 0, b.load(acc, 0, lanes) + b.load(acc, 0, lanes), lanes)
            for m, n in pairs:
                with b.loop("r", self.r0, self.r1, "rolled") as r:
                    self._kernel_row(m, n, r, ox, columns)
        taps = [sum(i in live for live in columns) for i in range(width)]
        self._finish(width, ox, taps)

    def _kernel_row(self, m: int, n: int, r: Expr, ox: Expr, columns: list[list[int]]) -> None:
        """Count the words under a row of the window, of a plane of x and one of w."""
        b, g, s = self.k.b, self.s.g, self.s
        iy = self.oy * g.sh - g.top + r * g.dh
        plane = (self.image * s.x_planes + m) * g.h + iy
        at = b.let("x_at", (plane * g.w + ox * g.sw - g.left) * s.words)
        w_at = b.let("w_row", self.w_at + (n * g.kh + r) * (s.run * self.vectors * s.lanes))
        whole = all(len(live) == len(columns[0]) == len(self.acc) for live in columns) and g.dw == 1
        runs = [(0, s.run, columns[0])] if whole else [(tap, s.words, live) for tap, live in enumerate(columns) if live]
        for tap, length, live in runs:
            self._words(at + tap * g.dw * s.words, w_at + tap * s.words * self.vectors * s.lanes, length, live)

    def _words(self, x_at: Expr, w_at: Expr, length: int, live: list[int]) -> None:
        """Count `length` neighbouring words of some columns."""
        b, limit = self.k.b, self.counting.limit
        if not limit:
            self._steps(x_at, w_at, length, live, self.acc)
            return
        lanes = self.s.lanes
        for first in range(0, length, limit):
            narrow = [[self.counting.narrow(b, lanes) for _ in range(self.vectors)] for _ in self.acc]
            for i in live:
                for acc in narrow[i]:
                    self.counting.clear(b, acc, lanes)
            size = self.vectors * lanes
            self._steps(x_at + first, w_at + first * size, min(limit, length - first), live, narrow)
            for i in live:
                for acc, wide in zip(narrow[i], self.acc[i]):
                    b.store(wide, 0, b.load(wide, 0, lanes) + self.counting.widened(b, acc, lanes), lanes)

    def _steps(self, x_at: Expr, w_at: Expr, length: int, live: list[int], into: list[list[Buffer]]) -> None:
        b, unroll = self.k.b, next(u for u in (UNROLL, 3, 2, 1) if length % u == 0)
        with b.loop("q", 0, length // unroll, "rolled") if length > unroll else b.range("q", 0, 1) as q:
            for u in range(unroll):
                self._word(x_at, w_at, q * unroll + u, live, into)

    def _word(self, x_at: Expr, w_at: Expr, number: Expr, live: list[int], into: list[list[Buffer]]) -> None:
        b, s, op, lanes = self.k.b, self.s, self.k.anchor, self.s.lanes
        x, w = self.k.args[op.x], self.k.args[op.w]
        combine = t.bitwise_xor if s.signs else t.bitwise_and
        at = w_at + number * (self.vectors * lanes)
        weights = [b.let("w", b.load(w, at + j * lanes, lanes)) for j in range(self.vectors)]
        for i in live:
            value = b.let("x", splat(b.load(x, x_at + number + i * s.g.sw * s.words), lanes))
            for acc, weight in zip(into[i], weights):
                self.counting.add(b, acc, combine(value, weight), lanes)

    # -- results -------------------------------------------------------------------------------

    def _finish(self, width: int, ox: Expr, taps: list[int]) -> None:
        k, s, b = self.k, self.s, self.k.b
        packed = isinstance(k.anchor, BitConv2dThreshold)
        stride, plane = (0, 0) if packed else k.fusion.map_rows(k.fusion.result).cut(1)
        pixel = b.let("pixel", self.oy * s.g.ow + ox)
        constants = [self._constant(i, pixel, taps[i]) for i in range(width)]
        if packed:
            for i in range(width):
                self._pack(i, pixel + i, constants[i])
            return
        block = s.g.lanes
        for j in range(self.vectors):
            channel = b.let("channel", (self.vector + j) * s.lanes)
            offset = b.let("offset", self.image * stride + t.floordiv(channel, block) * plane + pixel * block + t.floormod(channel, block))
            for i in range(width):
                k.finish(self._sum(i, j, constants[i]), offset + i * block, channel, self.image, s.lanes)

    def _constant(self, i: int, pixel: Expr, taps: int) -> Expr:
        """The other term of the sums of a column, besides P: the terms of the window, or S; times 2^B - 1."""
        k, s, b = self.k, self.s, self.k.b
        top = (1 << s.w_planes) - 1
        if s.signs:
            rows = self.r1 - self.r0 if isinstance(self.r1, int) and isinstance(self.r0, int) else t.max(self.r1 - self.r0, 0)
            return b.let("terms", rows * (top * taps * s.g.c))
        assert k.scratch is not None
        return b.let("window", b.load(k.scratch, self.image * (s.g.oh * s.g.ow) + pixel + i) * top)

    def _sum(self, i: int, j: int, constant: Expr) -> Expr:
        lanes = self.s.lanes
        double = self.k.b.load(self.acc[i][j], 0, lanes)
        double = double + double
        fixed = splat(t.IntImm("int32", constant) if isinstance(constant, int) else constant, lanes)
        return fixed - double if self.s.signs else double - fixed

    def _pack(self, i: int, pixel: Expr, constant: Expr) -> None:
        """Stored integers of a pixel, by thresholds, in planes of words."""
        k, s, b, op, lanes = self.k, self.s, self.k.b, self.k.anchor, self.s.lanes
        per_word, words = WORD // lanes, -(-s.g.o // WORD)
        one, zero = const(1, "int32", lanes), const(0, "int32", lanes)
        planes: list[list[Expr]] = [[] for _ in range(op.bits)]
        for j in range(self.vectors):
            total = b.value(self._sum(i, j, constant))
            stored: Expr = zero
            for level in range((1 << op.bits) - 1):
                edge = b.load(k.args[op.t], level * s.padded + (self.vector + j) * lanes, lanes)
                stored = stored + t.Select(total >= edge, one, zero)
            stored = b.value(stored)
            for m, own in enumerate(planes):
                own.append(mask(b, t.bitwise_and(stored, const(1 << m, "int32", lanes)), lanes))
        for m, own in enumerate(planes):
            at = b.let("at", ((self.image * op.bits + m) * (s.g.oh * s.g.ow) + pixel) * words + t.floordiv(self.vector, per_word))
            for number in range(self.vectors // per_word):
                b.store(k.out, at + number, joined(own[number * per_word : (number + 1) * per_word], lanes))


def window_sums(k: KernelBuilder, s: Shape) -> None:
    """Write S of every output pixel to scratch, followed by sums of the channels of every input pixel."""
    b, g, x = k.b, s.g, k.args[k.anchor.x]
    scratch, sums = k.scratch, g.n * g.oh * g.ow
    assert scratch is not None
    with b.loop("row", 0, g.n * g.h, tasks(k.threads, g.n * g.h)) as row:
        image, y = b.let("image", t.floordiv(row, g.h)), b.let("y", t.floormod(row, g.h))
        with b.loop("column", 0, g.w) as column:
            total = b.local(1, "int32")
            b.store(total, 0, t.const(0, "int32"))
            for m in range(s.x_planes):
                at = b.let("at", (((image * s.x_planes + m) * g.h + y) * g.w + column) * s.words)
                with b.loop("word", 0, s.words) as number:
                    count = t.Cast("int32", t.popcount(word(b, x, at + number)))
                    b.store(total, 0, b.load(total, 0) + count * (1 << m))
            b.store(scratch, sums + row * g.w + column, b.load(total, 0))
    with b.loop("row", 0, g.n * g.oh, tasks(k.threads, g.n * g.oh)) as row:
        image, oy = b.let("image", t.floordiv(row, g.oh)), b.let("oy", t.floormod(row, g.oh))
        r0, r1 = g.rows(b, oy)
        with b.loop("ox", 0, g.ow) as ox:
            left = b.let("left", ox * g.sw - g.left)
            first, last = span(b, left, g.kw, g.dw, g.w, True, True)
            total = b.local(1, "int32")
            b.store(total, 0, t.const(0, "int32"))
            with b.loop("r", 0, r1 - r0) as r:
                iy = b.let("iy", oy * g.sh - g.top + (r0 + r) * g.dh)
                with b.loop("q", 0, t.max(last - first, 0)) as q:
                    at = sums + (image * g.h + iy) * g.w + left + (first + q) * g.dw
                    b.store(total, 0, b.load(total, 0) + b.load(scratch, at))
            b.store(scratch, row * g.ow + ox, b.load(total, 0))
