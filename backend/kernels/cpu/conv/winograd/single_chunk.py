"""Winograd on feature maps that are one chunk of tiles. Each stage transforms in registers, from a copy of a channel block padded with zeros; the
result accumulates the stages."""

from __future__ import annotations

from contextlib import nullcontext

from tvm import tirx as t

from .....codegen.builder import Expr, const
from ...window import workers
from .phases import Phases
from .plan import Kind
from .toom_cook import combine, matrices, points_of, transform_input, transform_output


class SingleChunk(Phases):
    """Tiles of several kinds."""

    def emit(self) -> None:
        p, b = self.p, self.k.b
        for self.stage in p.stages:
            with workers(b, p.threads) as self.worker:
                self._inputs(self._share(p.g.in_blocks))
            with workers(b, p.threads) as self.worker:
                self._products(0, p.total)

    @property
    def _last(self) -> bool:
        return self.stage == self.p.stages[-1]

    @property
    def _first(self) -> bool:
        return self.stage == self.p.stages[0]

    def _mine(self, kind: Kind) -> list[int]:
        """Rows of a kind's transformed tile that this stage has."""
        here = {row for pair in self.stage for row in self.p.pairs[pair]}
        return [i for i, row in enumerate(points_of(self.p.m, kind.rows)) if row in here]

    def _inputs(self, blocks: tuple[Expr, Expr]) -> None:
        p, g, b, s, lanes = self.p, self.p.g, self.k.b, self.k.scratch, self.p.g.lanes
        assert s is not None
        high, wide = p.padded
        place = self._place("s")
        self._claim(p.total, *blocks)
        if self._first:
            with b.loop("zero", 0, high * wide) as i:
                b.store(s, place + i * lanes, const(0.0, lanes=lanes), lanes)
        with b.loop("kb", *blocks) as kb, b.range("image", 0, g.n) as image:
            factor = self._factor(kb)
            plane = b.let("plane", self.inputs.at(image * g.in_blocks + kb, 0))
            with b.loop("row", 0, min(g.h, high - g.top)) as row, b.loop("column", 0, min(g.w, wide - g.left)) as column:
                value = b.load(self.k.args[self.k.anchor.x], (plane + row * g.w + column) * lanes, lanes)
                b.store(s, place + ((row + g.top) * wide + column + g.left) * lanes, value, lanes)
            for number, kind in enumerate(p.kinds):
                if not self._mine(kind):
                    continue
                each = kind.high * kind.wide
                with b.loop("tile", 0, each) as tile:
                    _, oy, ox = self._tile(kind, tile)
                    corner = b.let("corner", place + (oy * wide + ox) * lanes)
                    self._rows(kind, corner, self._places(number, p.total, image * each + tile, kb), factor)

    def _rows(self, kind: Kind, corner: Expr, places: dict[int, Expr], factor: Expr) -> None:
        """Rows of V = B^T d B of the tile that begins at `corner` of the copy."""
        p, g, b, s, lanes = self.p, self.p.g, self.k.b, self.k.scratch, self.p.g.lanes
        assert s is not None
        down, across, mine = g.dh * p.padded[1] * lanes, g.dw * lanes, self._mine(kind)
        columns: list[list[Expr]] = []
        for j in range(kind.columns + 2):
            xs = [b.let("d", b.load(s, corner + i * down + j * across, lanes)) for i in range(kind.rows + 2)]
            column = transform_input(b, p.m, xs)
            columns.append([b.value(column[i]) for i in mine])
        numbers = self._numbers(kind)
        for i, row in zip(mine, zip(*columns)):
            for plane, value in zip(numbers[i], transform_input(b, p.m, row)):
                self._store(places, plane, value, factor)

    def _output(self, number: int, first: Expr, count: int, tile: Expr, ob: Expr, out_block: Expr) -> None:
        """Add A^T M A of the stage's rows to the result, which holds the sum of the stages before; the last one ends with bias and epilogue."""
        p, g, b, lanes, scratch = self.p, self.p.g, self.k.b, self.p.g.lanes, self.k.scratch
        assert scratch is not None
        kind = p.kinds[number]
        mine, numbers = self._mine(kind), self._numbers(kind)
        if not mine:
            return
        image, oy, ox = self._tile(kind, tile)
        source = self._sources(number, count, tile, ob)
        rows = [transform_output(b, p.m, [b.let("m", b.load(scratch, source[plane], lanes)) for plane in numbers[i]]) for i in mine]
        rows = [[b.value(v) for v in row] for row in rows]
        to = b.let("to", (self.results.at(image * g.out_blocks + out_block, oy) + ox) * lanes)
        whole = (g.oh - kind.top * g.dh) % (kind.rows * g.dh) == 0 and (g.ow - kind.left * g.dw) % (kind.columns * g.dw) == 0
        for j in range(kind.columns):
            for i, share in enumerate(self._shares(kind, mine, [row[j] for row in rows])):
                at = to + (i * g.dh * g.ow + j * g.dw) * lanes
                with nullcontext() if whole else b.when(t.all(oy + i * g.dh < g.oh, ox + j * g.dw < g.ow)):
                    before = None if self._first else self.k.get(at, lanes)
                    value = share if before is None else before if share is None else before + share
                    if self._last:
                        self._finish(value, at, image, out_block)
                    elif share is not None:
                        self.k.put(value, at, out_block * lanes, lanes)

    def _shares(self, kind: Kind, mine: list[int], column: list[Expr]) -> list[Expr]:
        """A^T times the stage's rows of one column, for each row of the result; None where it is zero."""
        b, matrix = self.k.b, matrices(self.p.m, kind.rows)[2]
        if len(mine) == kind.rows + 2:
            return transform_output(b, self.p.m, column)
        shares = matrix[:, mine].tolist()
        if mine[0] > 0:
            # a pair: its rows differ in signs only
            column = [b.value(column[0] + column[1]), b.value(column[0] - column[1])]
            shares = [[x, 0.0] if x == y else [0.0, x] for x, y in shares]
        return [combine(row, column) for row in shares]

    def _finish(self, value: Expr, at: Expr, image: Expr, out_block: Expr) -> None:
        b, lanes, op = self.k.b, self.p.g.lanes, self.k.anchor
        if op.b is not None:
            value = value + b.load(self.k.args[op.b], out_block * lanes, lanes)
        self.k.finish(b.value(value), at, out_block * lanes, image, lanes)
