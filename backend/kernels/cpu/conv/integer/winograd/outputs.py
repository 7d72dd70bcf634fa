"""y = A^T M A of the tiles of an output group, divided by its scale, then the bias and the epilogue."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from tvm import tirx as t

from ......codegen.builder import Expr, const
from ..finish import finish_tile
from .plan import WIDE
from .scratch import Scratch
from .transforms import by_columns


@dataclass
class Pixels:
    """Neighbouring pixels of a result in the form of `Sums`: values[pixel][vector]."""

    values: Sequence[Sequence[Expr]]

    @property
    def rows(self) -> int:
        return len(self.values)

    @property
    def vectors(self) -> int:
        return len(self.values[0])

    def value(self, i: int, j: int) -> Expr:
        return self.values[i][j]


@dataclass
class Outputs(Scratch):
    """The phase of output transforms. vectors: output vectors of a group."""

    vectors: int = 2

    def emit(self, first: Expr, vector: Expr) -> None:
        """The tiles of the chunk that begins with tile `first`, of the group that begins with output vector `vector`."""
        b, p, g = self.k.b, self.p, self.p.g
        with b.loop("tile", 0, p.tiles, "rolled") as tile:
            image, oy, ox = self.tile(first + tile)
            self._columns(tile)
            rest = g.ow % p.m
            with b.loop("row", 0, p.m if g.oh % p.m == 0 else t.min(p.m, g.oh - oy), "rolled") as row:
                pixel = b.let("pixel", (oy + row) * g.ow + ox)
                if g.ow >= p.m:
                    with b.when(ox + p.m <= g.ow) if rest else nullcontext():
                        self._row(row, p.m, vector, pixel, image)
                if rest:
                    with b.when(ox + p.m > g.ow):
                        self._row(row, rest, vector, pixel, image)

    def _columns(self, tile: Expr) -> None:
        """S = A^T M, [row][column][vector]."""
        b, p, step = self.k.b, self.p, WIDE * self.p.lanes
        source = b.let("source", self.place("m") + tile * (self.vectors * step))
        with b.range("vector", 0, self.vectors) as j:
            for column in range(p.a):
                xs = [b.value(self.load(source + (i * p.a + column) * p.m_plane + j * step)) for i in range(p.a)]
                for row, value in enumerate(by_columns(b, p.transform.output, xs)):
                    self.store(self.place("s") + ((row * p.a + column) * self.vectors + j) * step, value)

    def _row(self, row: Expr, width: int, vector: Expr, pixel: Expr, image: Expr) -> None:
        """The first `width` pixels of a row of a tile."""
        b, p, lanes, step = self.k.b, self.p, self.p.lanes, WIDE * self.p.lanes
        at = b.let("s", self.place("s") + row * (p.a * self.vectors * step))
        values: list[list[Expr]] = [[] for _ in range(width)]
        for j in range(self.vectors):
            bias = b.let("bias", b.load(self.k.args[self.k.anchor.zero], (vector + j) * lanes, lanes))
            xs = [b.value(self.load(at + (column * self.vectors + j) * step)) for column in range(p.a)]
            for pixel_values, value in zip(values, by_columns(b, p.transform.output, xs)):
                pixel_values.append(b.value(self._sum(value) + bias))
        finish_tile(self.k, p.groups, Pixels(values), vector, pixel, image)

    def _sum(self, value: Expr) -> Expr:
        """The sum, given s^2 times it modulo 2^32."""
        lanes, transform = self.p.lanes, self.p.transform
        if transform.inverse != 1:
            value = value * const(transform.inverse, "int32", lanes)
        return t.shift_right(value, const(transform.shift, "int32", lanes))
