"""What convolutions of packed maps share: their geometry, and what becomes of the counts of an output row.

    signs    sum x w = (2^B - 1) taps channels - 2 P        P = sum over planes n of 2^n popcount(x xor w_n)
    levels   sum x w = 2 P - (2^B - 1) S                    P = sum over planes m, n of 2^(m+n) popcount(x_m and w_n),  S = sum of x over the window

S does not depend on the output; it is computed once, into scratch. After the sums comes an epilogue on blocked maps, or thresholds that give the
next packed map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx as t

from .....ir.op import Value
from ....codegen.builder import Expr, const, splat
from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.bits import WORD, BitConv2dThreshold
from ....tile.fusion import Fusion
from ...template import Params
from ..window import Window, share, tasks
from .masks import joined, mask, word


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
    def sums_pitch(self) -> int:
        """Columns of a row of `window_sums`: output columns, up to whole vectors."""
        return -(-self.g.ow // self.lanes) * self.lanes

    @property
    def padded_rows(self) -> int:
        """Rows of the map that windows lie over."""
        return max((self.g.oh - 1) * self.g.sh + (self.g.kh - 1) * self.g.dh + 1, self.g.top + self.g.h)

    @property
    def padded_pitch(self) -> int:
        """Columns that windows of whole vectors of outputs lie over, up to whole vectors."""
        last = max((self.sums_pitch - 1) * self.g.sw + (self.g.kw - 1) * self.g.dw + 1, self.g.left + self.g.w)
        return -(-last // self.lanes) * self.lanes

    def columns(self, accumulators: int) -> int:
        """Columns of a tile with at most so many accumulators."""
        return max(1, accumulators // self.vectors)

    def runs(self, columns: list[list[int]], width: int, elements: int) -> list[tuple[int, int, list[int]]]:
        """(first tap, elements, columns) of neighbouring elements under a kernel row, `elements` for each pixel: all taps at once where they can."""
        whole = all(len(live) == width for live in columns) and self.g.dw == 1
        if whole:
            return [(0, self.g.kw * elements, columns[0])]
        return [(tap, elements, live) for tap, live in enumerate(columns) if live]

    def cut(self, w: np.ndarray) -> list[np.ndarray]:
        """Weights (O, ...) as [group][vector][lane][...], one array for groups of each size; outputs that do not exist are 0."""
        full = np.zeros((self.padded, *w.shape[1:]), w.dtype)
        full[: len(w)] = w
        parts = []
        for vectors, first, count in self.groups:
            own = full[first * self.lanes : (first + vectors * count) * self.lanes]
            parts.append(own.reshape(count, vectors, self.lanes, *w.shape[1:]))
        return parts


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


@dataclass
class OutputRow:
    """An output row of a group: `vectors` vectors of outputs, the first being number `vector`, under kernel rows r0 to before r1."""

    k: KernelBuilder
    s: Shape
    vectors: int
    vector: Expr
    image: Expr
    oy: Expr
    r0: Expr
    r1: Expr

    def live_columns(self, width: int, ox: Expr, known: int | None) -> list[list[int]]:
        """For each tap of a kernel row the columns of a tile where it is inside the map. known: the first column, ox, where it is a number."""
        return [self.s.g.columns(known, tap, width) if known is not None else [*range(width)] for tap in range(self.s.g.kw)]

    def finish(self, ox: Expr, live: list[list[int]], width: int, counted: Callable[[int, int], Expr]) -> None:
        """Make results of `width` columns from ox on. counted: P of a column and a vector, i32; live: as `live_columns` gives it."""
        taps = [sum(i in columns for columns in live) for i in range(width)]
        k, s, b = self.k, self.s, self.k.b
        packed = isinstance(k.anchor, BitConv2dThreshold)
        stride, plane = (0, 0) if packed else k.fusion.map_rows(k.fusion.result).cut(1)
        pixel = b.let("pixel", self.oy * s.g.ow + ox)
        constants = [self._constant(i, ox, taps[i]) for i in range(width)]
        if packed:
            for i in range(width):
                self._pack([self._sum(counted(i, j), constants[i]) for j in range(self.vectors)], pixel + i)
            return
        block = s.g.lanes
        for j in range(self.vectors):
            channel = b.let("channel", (self.vector + j) * s.lanes)
            offset = b.let("offset", self.image * stride + t.floordiv(channel, block) * plane + pixel * block + t.floormod(channel, block))
            for i in range(width):
                k.finish(self._sum(counted(i, j), constants[i]), offset + i * block, channel, self.image, s.lanes)

    def _constant(self, i: int, ox: Expr, taps: int) -> Expr:
        """The other term of the sums of a column, besides P: the terms of the window, or S; times 2^B - 1."""
        k, s, b = self.k, self.s, self.k.b
        top = (1 << s.w_planes) - 1
        if s.signs:
            rows = self.r1 - self.r0 if isinstance(self.r1, int) and isinstance(self.r0, int) else t.max(self.r1 - self.r0, 0)
            return b.let("terms", rows * (top * taps * s.g.c))
        assert k.scratch is not None
        return b.let("window", b.load(k.scratch, (self.image * s.g.oh + self.oy) * s.sums_pitch + ox + i) * top)

    def _sum(self, double: Expr, constant: Expr) -> Expr:
        lanes = self.s.lanes
        double = double + double
        fixed = splat(t.IntImm("int32", constant) if isinstance(constant, int) else constant, lanes)
        return fixed - double if self.s.signs else double - fixed

    def _pack(self, sums: list[Expr], pixel: Expr) -> None:
        """Stored integers of a pixel, by thresholds, in planes of words."""
        k, s, b, op, lanes = self.k, self.s, self.k.b, self.k.anchor, self.s.lanes
        per_word, words = WORD // lanes, -(-s.g.o // WORD)
        one, zero = const(1, "int32", lanes), const(0, "int32", lanes)
        planes: list[list[Expr]] = [[] for _ in range(op.bits)]
        for j, total in enumerate(b.value(value) for value in sums):
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


def packed_thresholds(fusion: Fusion, s: Shape) -> dict[Value, np.ndarray]:
    """Thresholds by level, then output; empty for other results."""
    op: Any = fusion.anchor
    if not isinstance(op, BitConv2dThreshold):
        return {}
    own = fusion.array(op.t)
    assert own is not None
    full = np.full((own.shape[1], s.padded), np.iinfo(np.int32).max, np.int32)
    full[:, : s.g.o] = own.T
    return {op.t: full}


def accepted(fusion: Fusion, target: Target) -> bool:
    """Whether weights and thresholds are constant and vectors of outputs fit the layout of the result."""
    op: Any = fusion.anchor
    if isinstance(op, BitConv2dThreshold):
        return fusion.array(op.w) is not None and fusion.array(op.t) is not None
    return fusion.array(op.w) is not None and op.lanes % target.lanes == 0


def sums_size(s: Shape) -> int:
    """Elements of scratch of `window_sums`."""
    return 0 if s.signs else s.g.n * (s.g.oh * s.sums_pitch + s.padded_rows * s.padded_pitch)


def output_tiles(k: KernelBuilder, s: Shape) -> Iterator[tuple[OutputRow, int, Expr]]:
    """Loops over images, chunks of rows, groups of outputs and rows: an output row, the index of its kind of groups, and its group's number."""
    g, b = s.g, k.b
    chunks = min(k.threads, g.oh)
    for kind, (vectors, first, count) in enumerate(s.groups):
        with b.loop("task", 0, g.n * chunks * count, tasks(k.threads, g.n * chunks * count)) as task:
            group = b.let("group", t.floormod(task, count))
            part, image = b.let("part", t.floormod(t.floordiv(task, count), chunks)), b.let("image", t.floordiv(task, count * chunks))
            vector = b.let("vector", first + group * vectors)
            with b.loop("oy", *share(part, g.oh, chunks), "rolled") as oy:
                yield OutputRow(k, s, vectors, vector, image, oy, *g.rows(b, oy)), kind, group


def window_sums(k: KernelBuilder, s: Shape) -> None:
    """Write S of every output pixel to scratch, then sums of the channels of every input pixel, with zeros around the map for taps outside.

    A row of results is as long as whole vectors, `Shape.sums_pitch`.
    """
    b, g, x, lanes, scratch = k.b, s.g, k.args[k.anchor.x], s.lanes, k.scratch
    assert scratch is not None
    rows, pitch = s.padded_rows, s.padded_pitch
    first = g.n * g.oh * s.sums_pitch
    with b.loop("row", 0, g.n * rows, tasks(k.threads, g.n * rows)) as row:
        image, y = b.let("image", t.floordiv(row, rows)), b.let("y", t.floormod(row, rows) - g.top)
        to = b.let("to", first + row * pitch)
        with b.loop("v", 0, pitch // lanes) as v:
            b.store(scratch, to + v * lanes, const(0, "int32", lanes), lanes)
        with b.when(t.all(y >= 0, y < g.h)), b.loop("column", 0, g.w) as column:
            total: Expr = t.const(0, "int32")
            for m in range(s.x_planes):
                at = b.let("at", (((image * s.x_planes + m) * g.h + y) * g.w + column) * s.words)
                count = b.local(1, "int32")
                b.store(count, 0, t.const(0, "int32"))
                with b.range("word", 0, s.words) as number:
                    b.store(count, 0, b.load(count, 0) + t.Cast("int32", t.popcount(word(b, x, at + number))))
                total = total + b.load(count, 0) * (1 << m)
            b.store(scratch, to + g.left + column, total)
    with b.loop("row", 0, g.n * g.oh, tasks(k.threads, g.n * g.oh)) as row:
        image, oy = b.let("image", t.floordiv(row, g.oh)), b.let("oy", t.floormod(row, g.oh))
        with b.loop("v", 0, s.sums_pitch // lanes) as v:
            acc: Expr = const(0, "int32", lanes)
            for r in range(g.kh):
                for q in range(g.kw):
                    at = first + (image * rows + oy * g.sh + r * g.dh) * pitch + v * (lanes * g.sw) + q * g.dw
                    acc = acc + b.load_strided(scratch, at, g.sw, lanes)
            b.store(scratch, row * s.sums_pitch + v * lanes, acc, lanes)
