"""V = B^T d B of the input tiles of a chunk, in i16."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx as t

from ......codegen.builder import Expr, const, splat
from ....window import span
from .scratch import Scratch
from .transforms import CENTER, by_rows


class Inputs(Scratch):
    """The phase of input transforms. A tile is a x a pixels of a block of channels; a vector of i16 holds the block of one pixel."""

    def emit(self, first: Expr, blocks: tuple[Expr, Expr]) -> None:
        """The tiles of the chunk that begins with tile `first`, of some channel blocks."""
        b, p, g = self.k.b, self.p, self.p.g
        x, rows = self.k.args[self.k.anchor.x], self.k.fusion.map_rows(self.k.anchor.x)
        with b.loop("kb", *blocks) as kb, b.loop("tile", 0, p.tiles, "rolled") as tile:
            image, oy, ox = self.tile(first + tile)
            y, left = b.let("y", oy - g.top), b.let("left", ox - g.left)
            plane = b.let("plane", rows.at(image * g.in_blocks + kb, y) + left * g.block_in)
            to = b.let("to", self.place("v") + tile * p.channels + kb * g.block_in)
            inside = b.let("inside", t.all(y >= 0, left >= 0, y + p.a <= g.h, left + p.a <= g.w))
            with b.when(inside):
                self._transform(lambda i, j: self._wide(b.load(x, plane + (i * g.w + j) * g.block_in, g.block_in)), to)
            with b.when(t.Not(inside)):
                patch = self._patch(plane, y, left)
                self._transform(lambda i, j: b.load(self.buffer, patch + (i * p.a + j) * g.block_in, g.block_in), to)

    def _wide(self, x: Expr) -> Expr:
        return t.Cast(f"int16x{self.p.g.block_in}", x)

    def _patch(self, plane: Expr, y: Expr, x: Expr) -> Expr:
        """Copy a tile that crosses the border, with the zero point outside the map; returns its offset in scratch."""
        b, p, g = self.k.b, self.p, self.p.g
        to = b.let("patch", self.place("s"))
        zero = splat(t.Cast("int16", b.load(self.k.args[self.k.anchor.zero], g.out_blocks * g.lanes)), g.block_in)
        with b.loop("i", 0, p.planes) as i:
            b.store(self.buffer, to + i * g.block_in, zero, g.block_in)
        down, across = span(b, y, p.a, 1, g.h, True, True), span(b, x, p.a, 1, g.w, True, True)
        with b.loop("dy", *down) as dy, b.loop("dx", *across) as dx:
            value = b.load(self.k.args[self.k.anchor.x], plane + (dy * g.w + dx) * g.block_in, g.block_in)
            b.store(self.buffer, to + (dy * p.a + dx) * g.block_in, self._wide(value), g.block_in)
        return to

    def _transform(self, load: Callable[[int, int], Expr], to: Expr) -> None:
        """The tile whose pixels are `load(i, j)`, to all planes of V. The center of u8 activations is subtracted."""
        b, p, matrix = self.k.b, self.p, self.p.transform.input
        columns = []
        for j in range(p.a):
            xs = [b.value(load(i, j)) for i in range(p.a)]
            columns.append([b.value(value) for value in by_rows(b, matrix, xs)])
        center = CENTER if self.k.anchor.x.type.elem == "u8" else 0
        for i, row in enumerate(zip(*columns)):
            for j, value in enumerate(by_rows(b, matrix, row)):
                if (i, j) == (1, 1) and center:
                    value = value - const(center * p.transform.constant, "int16", p.g.block_in)
                b.store(self.buffer, to + (i * p.a + j) * p.v_plane, value, p.g.block_in)
