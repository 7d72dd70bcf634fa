"""Winograd on feature maps of several chunks of tiles: each chunk goes through all phases. Transforms go by columns, then by rows, with S between."""

from __future__ import annotations

from contextlib import nullcontext

from tvm import tirx as t

from .....codegen.builder import Buffer, Expr, const
from ...window import span, workers
from .phases import Phases
from .toom_cook import transform_input, transform_output


class Chunks(Phases):
    """All tiles are m x m; those at the edges cross them."""

    def emit(self) -> None:
        p, b, threads = self.p, self.k.b, self.p.threads
        if p.by_channels:
            for chunk in range(p.chunks):
                first, count = chunk * p.tiles, min(p.tiles, p.total - chunk * p.tiles)
                with workers(b, threads) as self.worker:
                    self._inputs(first, count, self._share(p.g.in_blocks))
                with workers(b, threads) as self.worker:
                    self._products(first, count)
            return
        full, rest = divmod(p.total, p.tiles)
        with workers(b, threads) as self.worker:
            start, stop = self._share(p.chunks)
            with b.loop("chunk", start, t.min(stop, full) if rest else stop) as chunk:
                first = b.let("first", chunk * p.tiles)
                self._inputs(first, p.tiles, (0, p.g.in_blocks), t.EQ(chunk, start))
                self._products(first, p.tiles, prefetch_next=p.chunks > 1)
            if rest:
                with b.when(t.EQ(self.worker, threads - 1)) if threads > 1 else nullcontext():
                    self._inputs(full * p.tiles, rest, (0, p.g.in_blocks), full == 0)
                    self._products(full * p.tiles, rest)

    def _inputs(self, first: Expr, count: int, blocks: tuple[Expr, Expr], begins: Expr = True) -> None:
        """V = B^T d B, block by block and along rows of tiles, so that the hardware prefetcher can follow the reads.

        begins: whether these pixels were not prefetched before, and V not written.
        """
        self._claim(count, *blocks)
        with self.k.b.loop("kb", *blocks) as kb, self.k.b.loop("tile", 0, count) as tile:
            self._input(first, count, kb, tile, begins)

    def _input(self, first: Expr, count: int, kb: Expr, tile: Expr, begins: Expr) -> None:
        p, g, b, x_in, s = self.p, self.p.g, self.k.b, self.k.args[self.k.anchor.x], self.k.scratch
        assert s is not None
        image, oy, ox = self._tile(p.kinds[0], first + tile)
        y, x = b.let("y", oy - g.top), b.let("x", ox - g.left)
        plane = b.let("plane", self.inputs.at(image * g.in_blocks + kb, y) + x)
        places = self._places(0, count, tile, kb)
        with nullcontext() if begins is True else b.when(begins):
            for i in range(p.m):
                for j in range(p.m):
                    b.prefetch(x_in, (plane + (g.h + i * g.dh) * g.w + j * g.dw) * g.lanes)
        inside = b.let("inside", t.all(y >= 0, x >= 0, y + (p.a - 1) * g.dh < g.h, x + (p.a - 1) * g.dw < g.w))
        with b.when(inside):
            self._columns(x_in, plane * g.lanes, g.dh * g.w * g.lanes, g.dw * g.lanes)
        with b.when(t.Not(inside)):
            self._columns(s, self._border(plane, y, x), p.a * g.lanes, g.lanes)
        self._rows(places, self._factor(kb))

    def _border(self, plane: Expr, y: Expr, x: Expr) -> Expr:
        """Copy an input tile that crosses the border to scratch, zeros outside the map; returns where it begins."""
        g, b, a, s, lanes = self.p.g, self.k.b, self.p.a, self.k.scratch, self.p.g.lanes
        assert s is not None
        to = b.let("to", self._place("s") + a * a * lanes)
        with b.loop("zero", 0, a * a) as i:
            b.store(s, to + i * lanes, const(0.0, lanes=lanes), lanes)
        down, across = span(b, y, a, g.dh, g.h, True, True), span(b, x, a, g.dw, g.w, True, True)
        with b.loop("dy", *down) as dy, b.loop("dx", *across) as dx:
            value = b.load(self.k.args[self.k.anchor.x], (plane + dy * (g.dh * g.w) + dx * g.dw) * lanes, lanes)
            b.store(s, to + (dy * a + dx) * lanes, value, lanes)
        return to

    def _columns(self, source: Buffer, at: Expr, down: int, across: int) -> None:
        """S = B^T d, column by column; down, across: elements between rows and between columns of the source."""
        b, a, s, lanes = self.k.b, self.p.a, self.k.scratch, self.p.g.lanes
        assert s is not None
        place = self._place("s")
        with b.loop("column", 0, a) as column:
            xs = [b.let("d", b.load(source, at + i * down + column * across, lanes)) for i in range(a)]
            for i, value in enumerate(transform_input(b, self.p.m, xs)):
                b.store(s, place + (i * a + column) * lanes, value, lanes)

    def _rows(self, places: dict[int, Expr], factor: Expr) -> None:
        """V = S B, row by row."""
        b, a, s, lanes = self.k.b, self.p.a, self.k.scratch, self.p.g.lanes
        assert s is not None
        for row, planes in enumerate(self._numbers(self.p.kinds[0])):
            at = self._place("s") + row * (a * lanes)
            xs = [b.let("s", b.load(s, at + i * lanes, lanes)) for i in range(a)]
            for plane, value in zip(planes, transform_input(b, self.p.m, xs)):
                self._store(places, plane, value, factor)

    def _prefetch_in(self, first: Expr, count: int, turn: Expr, turns: int) -> None:
        """Prefetch a share of the pixels that `count` tiles from `first` on are the first to read, in each input block."""
        p, g, b = self.p, self.p.g, self.k.b
        high, wide = p.grid
        image = b.let("image", t.floordiv(first, high * wide))
        pixel = b.let("pixel", t.floordiv(t.floormod(first, high * wide) * (p.m * g.w), wide) + (p.a - p.m - g.top) * g.w)
        pixels = -(-count * p.m * g.w // wide)
        share = -(-pixels * g.in_blocks // turns)
        at = b.let("at", turn * share)
        plane = b.let("plane", self.inputs.at(image * g.in_blocks + t.floordiv(at, pixels), 0))
        start = b.let("start", (plane + pixel + t.floormod(at, pixels)) * g.lanes)
        for i in range(share):
            b.prefetch(self.k.args[self.k.anchor.x], start + i * g.lanes)

    def _output(self, number: int, first: Expr, count: int, tile: Expr, ob: Expr, out_block: Expr) -> None:
        """Both passes, and the epilogue on every pixel inside the map."""
        p, g, b, a, m, lanes, scratch = self.p, self.p.g, self.k.b, self.p.a, self.p.m, self.p.g.lanes, self.k.scratch
        assert scratch is not None
        image, oy, ox = self._tile(p.kinds[number], first + tile)
        source, place = self._sources(number, count, tile, ob), self._place("s")
        for column, elements in enumerate(zip(*self._numbers(p.kinds[number]))):
            xs = [b.let("m", b.load(scratch, source[plane], lanes)) for plane in elements]
            for i, value in enumerate(transform_output(b, m, xs)):
                b.store(scratch, place + (i * a + column) * lanes, value, lanes)
        whole = g.oh % (m * g.dh) == 0 and g.ow % (m * g.dw) == 0
        inside = b.let("inside", t.all(oy + (m - 1) * g.dh < g.oh, ox + (m - 1) * g.dw < g.ow))
        with nullcontext() if whole else b.when(inside):
            self._pixels(m, image, oy, ox, out_block, guard=False)
        if not whole:
            with b.when(t.Not(inside)):
                self._pixels(t.min(m, t.floordiv(g.oh - oy + g.dh - 1, g.dh)), image, oy, ox, out_block, guard=True)

    def _pixels(self, rows: Expr, image: Expr, oy: Expr, ox: Expr, out_block: Expr, guard: bool) -> None:
        p, g, b, lanes, scratch, op = self.p, self.p.g, self.k.b, self.p.g.lanes, self.k.scratch, self.k.anchor
        assert scratch is not None
        with b.loop("row", 0, rows) as row:
            at = b.let("at", self._place("s") + row * (p.a * lanes))
            values = transform_output(b, p.m, [b.let("s", b.load(scratch, at + i * lanes, lanes)) for i in range(p.a)])
            if op.b is not None:
                bias = b.let("bias", b.load(self.k.args[op.b], out_block * lanes, lanes))
                values = [v + bias for v in values]
            to = b.let("to", (self.results.at(image * g.out_blocks + out_block, oy + row * g.dh) + ox) * lanes)
            for j, value in enumerate(values):
                with b.when(ox + j * g.dw < g.ow) if guard and (j or g.dw > 1) else nullcontext():
                    self.k.finish(b.value(value), to + j * (g.dw * lanes), out_block * lanes, image, lanes)
