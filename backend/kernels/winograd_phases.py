"""The code of Winograd's three phases: tiles transformed, multiplied with the weights, and transformed back.

Layouts, L lanes: V [plane][register tile][input block][tile][L], M [plane][output block][tile][L], U [pass][plane][group][channel][vectors * L],
a pass being the output blocks between two reads of V. Both, and the small S between the two passes of a transform, are scratch.
Threads share out chunks, each with its own scratch; where chunks are fewer than threads, they share V and divide channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from tvm import tirx as t

from ..region import Kernel
from ..tir import Buffer, Expr, const
from .geometry import share, span, workers
from .micro import Tile, runs
from .toom_cook import points_of, transform_input, transform_output
from .winograd_plan import Kind, Plan, Planes


@dataclass
class Phases:
    """The three phases. `worker` is a thread's number where threads share out work."""

    k: Kernel
    p: Plan
    worker: Expr = 0

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
                self._products(first, p.tiles, following=p.chunks > 1)
            if rest:
                with b.when(t.EQ(self.worker, threads - 1)) if threads > 1 else nullcontext():
                    self._inputs(full * p.tiles, rest, (0, p.g.in_blocks), full == 0)
                    self._products(full * p.tiles, rest)

    def _share(self, count: int) -> tuple[Expr, Expr]:
        """This worker's part of `count` pieces of work."""
        return share(self.worker, count, self.p.threads)

    def _place(self, part: str) -> Expr:
        """Where this worker's V, M or S begins in the scratch."""
        v, m, s = self.p.sizes
        own = (v if not self.p.by_channels else 0) + m + s
        shared = v if self.p.by_channels else 0
        at = {"v": 0, "m": own - m - s + shared, "s": own - s + shared}[part]
        return at if part == "v" and self.p.by_channels else self.worker * own + at

    def _tile(self, kind: Kind, number: Expr) -> tuple[Expr, Expr, Expr]:
        """Image, and upper left output pixel of a tile of a kind."""
        b, m = self.k.b, self.p.m
        number, (high, wide) = b.let("number", number), (kind.high, kind.wide)
        image = b.let("image", t.floordiv(number, high * wide))
        oy = spread(b.let("row", t.floordiv(t.floormod(number, high * wide), wide)), kind.top, m, self.p.g.dh)
        return image, b.let("oy", oy), b.let("ox", spread(b.let("column", t.floormod(number, wide)), kind.left, m, self.p.g.dw))

    def _at(self, planes: Planes, kind: int, count: int, tile: Expr) -> Expr:
        """Which of the tiles of these planes the tile of a kind is."""
        counts = self.p.counts(count)
        return tile + sum(counts[i] for i in planes.kinds if i < kind)

    def _numbers(self, kind: Kind) -> list[list[int]]:
        """The plane of each element of a kind's transformed tile."""
        number = {plane: i for i, plane in enumerate(self.p.order)}
        return [[number[row, column] for column in points_of(self.p.m, kind.columns)] for row in points_of(self.p.m, kind.rows)]

    # -- V = B^T d B -----------------------------------------------------------------------------

    def _inputs(self, first: Expr, count: int, blocks: tuple[Expr, Expr], begins: Expr = True) -> None:
        """Block by block and along rows of tiles, so that memory is read in streams, which the hardware follows.

        begins: whether nothing asked for these pixels before, or wrote to V.
        """
        if self.p.by_channels and 4 * self.p.sizes[0] <= self.k.target.l2:
            self._claim(count, *blocks)
        for number, (kind, tiles) in enumerate(zip(self.p.kinds, self.p.counts(count))):
            with self.k.b.loop("kb", *blocks) as kb, self.k.b.loop("tile", 0, tiles) as tile:
                self._input(number, kind, first, count, kb, tile, begins)

    def _claim(self, count: int, start: Expr, stop: Expr) -> None:
        """Write zeros to these blocks of V, which the threads share, in the order of memory: the hardware foresees that, unlike the order in which
        tiles write, and takes the lines out of the other cores' caches sooner."""
        p, b, lanes = self.p, self.k.b, self.p.g.lanes
        assert self.k.scratch is not None
        for planes in p.alike:
            for height, first, repeat in runs(p.cover(planes, count, self.k.target)):
                with b.loop("xi", planes.first, planes.stop) as xi, b.range("tiles", 0, repeat) as i:
                    place = b.let("place", self._v_tiles(xi, first + i * height))
                    with b.loop("line", start * height, stop * height) as line:
                        b.store(self.k.scratch, place + line * lanes, const(0.0, lanes=lanes), lanes)

    def _input(self, number: int, kind: Kind, first: Expr, count: int, kb: Expr, tile: Expr, begins: Expr) -> None:
        p, g, b, x_in, s = self.p, self.p.g, self.k.b, self.k.args[self.k.anchor.x], self.k.scratch
        assert s is not None
        rows, columns = kind.rows + 2, kind.columns + 2
        image, oy, ox = self._tile(kind, first + tile)
        y, x = b.let("y", oy - g.top), b.let("x", ox - g.left)
        plane = b.let("plane", ((image * g.in_blocks + kb) * g.h + y) * g.w + x)
        places: dict[int, Expr] = {}
        for planes in p.planes:
            if number in planes.kinds:
                place, step = self._v_place(p.cover(planes, count, self.k.target), self._at(planes, number, count, tile))
                places |= dict.fromkeys(range(planes.first, planes.stop), b.let("v", self._place("v") + place + kb * step))
        with nullcontext() if begins is True else b.when(begins):
            for i in range(kind.rows):
                for j in range(kind.columns):
                    b.prefetch(x_in, (plane + (g.h + i * g.dh) * g.w + j * g.dw) * g.lanes)
        inside = b.let("inside", t.all(y >= 0, x >= 0, y + (rows - 1) * g.dh < g.h, x + (columns - 1) * g.dw < g.w))
        with b.when(inside):
            self._columns(x_in, plane * g.lanes, g.dh * g.w * g.lanes, g.dw * g.lanes, rows, columns)
        with b.when(t.Not(inside)):
            corner = self._border(plane, y, x, rows, columns)
            self._columns(s, corner, p.a * g.lanes, g.lanes, rows, columns)
        self._rows(self._numbers(kind), places)

    def _v_tiles(self, xi: Expr, first: Expr) -> Expr:
        """Where the register tile of V that begins with a tile lies in a plane."""
        return self._place("v") + xi * self.p.v_plane + first * self.p.depth

    def _v_place(self, cover: Sequence[int], tile: Expr) -> tuple[Expr, Expr]:
        """Where a tile's first input block lies in a plane of V, and how far it is to the next block: register tiles lie one after the other."""
        depth, lanes = self.p.depth, self.p.g.lanes
        place: Expr = None
        step: Expr = None
        for height, first, repeat in reversed(runs(cover)):
            inner = tile - first
            here = (first + t.floordiv(inner, height) * height) * depth + t.floormod(inner, height) * lanes
            place = here if place is None else t.Select(tile < first + height * repeat, here, place)
            step = height * lanes if step is None else t.Select(tile < first + height * repeat, height * lanes, step)
        return place, step

    def _border(self, plane: Expr, y: Expr, x: Expr, rows: int, columns: int) -> Expr:
        """Copy an input tile that crosses the border to scratch, zeros outside the map; returns where it begins."""
        g, b, a, s, lanes = self.p.g, self.k.b, self.p.a, self.k.scratch, self.p.g.lanes
        assert s is not None
        to = b.let("to", self._place("s") + a * a * lanes)
        with b.loop("zero", 0, a * a) as i:
            b.store(s, to + i * lanes, const(0.0, lanes=lanes), lanes)
        down, across = span(b, y, rows, g.dh, g.h, True, True), span(b, x, columns, g.dw, g.w, True, True)
        with b.loop("dy", *down) as dy, b.loop("dx", *across) as dx:
            value = b.load(self.k.args[self.k.anchor.x], (plane + dy * (g.dh * g.w) + dx * g.dw) * lanes, lanes)
            b.store(s, to + (dy * a + dx) * lanes, value, lanes)
        return to

    def _columns(self, source: Buffer, at: Expr, down: int, across: int, rows: int, columns: int) -> None:
        """S = B^T d, column by column; down, across: floats between rows and between columns of the source."""
        b, a, s, lanes = self.k.b, self.p.a, self.k.scratch, self.p.g.lanes
        assert s is not None
        place = self._place("s")
        with b.loop("column", 0, columns) as column:
            xs = [b.let("d", b.load(source, at + i * down + column * across, lanes)) for i in range(rows)]
            for i, value in enumerate(transform_input(b, self.p.m, xs)):
                b.store(s, place + (i * a + column) * lanes, value, lanes)

    def _rows(self, numbers: list[list[int]], places: dict[int, Expr]) -> None:
        """V = S B, row by row."""
        b, a, s, lanes = self.k.b, self.p.a, self.k.scratch, self.p.g.lanes
        assert s is not None
        for row, planes in enumerate(numbers):
            at = self._place("s") + row * (a * lanes)
            xs = [b.let("s", b.load(s, at + i * lanes, lanes)) for i in range(len(planes))]
            for plane, value in zip(planes, transform_input(b, self.p.m, xs)):
                b.store(s, places[plane] + plane * self.p.v_plane, value, lanes)

    # -- M = V U, Y = A^T M A --------------------------------------------------------------------

    def _products(self, first: Expr, count: int, following: bool = False) -> None:
        """following: whether the tiles behind these come next; their pixels are fetched meanwhile."""
        p, b = self.p, self.k.b
        for vectors, first_block, blocks, passes in p.passes:
            with b.loop("pass", *(self._share(passes) if p.by_channels else (0, passes))) as number:
                block = b.let("block", first_block + number * blocks)
                u = b.let("u", p.a**2 * p.g.c * p.g.lanes * block)
                for planes in p.alike:
                    width = p.width(planes, vectors, blocks, self.k.target)
                    # turns of all passes over which the fetching is spread
                    turns = passes * p.a**2 * (blocks // width) if following and first_block == 0 else 0
                    self._group(planes, width, blocks // width, first, count, u, block, number, turns)
                for i, tiles in enumerate(p.counts(count)):
                    with b.loop("ob", 0, blocks) as ob, b.loop("tile", 0, tiles) as tile:
                        self._output(i, first, count, tile, ob, b.let("out_block", block + ob))

    def _group(self, planes: Planes, width: int, groups: int, first: Expr, count: int, u: Expr, block: Expr, number: Expr, turns: int) -> None:
        """The products of some planes in one pass, and what is fetched for later meanwhile."""
        p, b = self.p, self.k.b
        tiles, panel = p.tiles_in(planes, count), p.g.c * width * p.g.lanes
        with b.loop("xi", planes.first, planes.stop) as xi, b.loop("group", 0, groups) as group:
            turn = b.let("turn", (number * p.a**2 + xi) * groups + group)

            def meanwhile(step: Expr, steps: int) -> None:
                self._ahead_v(tiles, xi + 1, group * steps + step, groups * steps)
                self._ahead_out(first, count, width, xi * steps + step, steps, block + group * width)
                if turns:
                    self._ahead_in(first + count, count, turn * steps + step, turns * steps)

            self._product(p.cover(planes, count, self.k.target), width, xi, group * width, b.let("u", u + (xi * groups + group) * panel), meanwhile)

    def _ahead_in(self, first: Expr, count: int, turn: Expr, turns: int) -> None:
        """A share of asking for the pixels that `count` tiles from `first` on read: those that no tile before did, in each input block."""
        p, g, b = self.p, self.p.g, self.k.b
        high, wide = p.grid
        image = b.let("image", t.floordiv(first, high * wide))
        pixel = b.let("pixel", t.floordiv(t.floormod(first, high * wide) * (p.m * g.w), wide) + (p.a - p.m - g.top) * g.w)
        pixels = -(-count * p.m * g.w // wide)
        share = -(-pixels * g.in_blocks // turns)
        at = b.let("at", turn * share)
        plane = b.let("plane", (image * g.in_blocks + t.floordiv(at, pixels)) * (g.h * g.w))
        start = b.let("start", (plane + pixel + t.floormod(at, pixels)) * g.lanes)
        for i in range(share):
            b.prefetch(self.k.args[self.k.anchor.x], start + i * g.lanes)

    def _ahead_out(self, first: Expr, count: int, vectors: int, turn: Expr, turns: int, out_block: Expr) -> None:
        """A share of asking for the pixels to be written of `vectors` output blocks, lest stores wait for their lines."""
        p, g, b = self.p, self.p.g, self.k.b
        high, wide = p.grid
        image = b.let("image", t.floordiv(first, high * wide))
        pixel = b.let("pixel", t.floordiv(t.floormod(first, high * wide) * (p.m * g.ow), wide))
        share = -(-count * p.m * g.ow // (wide * p.a**2 * turns))
        start = b.let("start", ((image * g.out_blocks + out_block) * (g.oh * g.ow) + pixel + turn * share) * g.lanes)
        for j in range(vectors):
            for i in range(share):
                b.prefetch(self.k.out, start + (j * g.oh * g.ow + i) * g.lanes, write=True)

    def _ahead_v(self, count: int, xi: Expr, turn: Expr, turns: int) -> None:
        """A share of asking for the tiles in a plane of V: what the weights have driven out of the second-level cache."""
        assert self.k.scratch is not None
        share = -(-count * self.p.g.in_blocks // turns)
        start = self.k.b.let("start", self._place("v") + xi * self.p.v_plane + turn * (share * self.p.g.lanes))
        for i in range(share):
            self.k.b.prefetch(self.k.scratch, start + i * self.p.g.lanes)

    def _product(self, tiles: Sequence[int], vectors: int, xi: Expr, ob: Expr, u: Expr, meanwhile: Callable[[Expr, int], None]) -> None:
        """M[xi] of one output group and all tiles of the plane."""
        p, b, lanes, w, scratch = self.p, self.k.b, self.p.g.lanes, self.k.args[self.k.anchor.w], self.k.scratch
        assert scratch is not None
        number, count = 0, sum(tiles)
        for height, first, repeat in runs(tiles):
            with b.range("block", 0, repeat) as i:
                v = b.let("v", self._v_tiles(xi, first + i * height))
                m = self._place("m") + xi * p.m_plane
                places = [b.let("to", m + ((ob + j) * count + first + i * height) * lanes) for j in range(vectors)]
                tile = Tile(b, height, vectors, lanes)
                tile.start(None)
                turn = number + i

                def now(step: Expr, steps: int, turn: Expr = turn) -> None:
                    meanwhile(turn * steps + step, len(tiles) * steps)

                tile.blocks(scratch, v, height * lanes, w, u, p.g.c, turn=(turn, len(tiles)), meanwhile=now)
                for j, to in enumerate(places):
                    for r in range(height):
                        b.store(scratch, to + r * lanes, tile.value(r, j), lanes)
            number += repeat

    def _output(self, number: int, first: Expr, count: int, tile: Expr, ob: Expr, out_block: Expr) -> None:
        """One tile of one output block: both passes, and the tail on every pixel inside the map."""
        p, g, b, a, lanes, scratch = self.p, self.p.g, self.k.b, self.p.a, self.p.g.lanes, self.k.scratch
        assert scratch is not None
        kind = p.kinds[number]
        image, oy, ox = self._tile(kind, first + tile)
        source: dict[int, Expr] = {}
        for planes in p.planes:
            if number in planes.kinds:
                at = (ob * p.tiles_in(planes, count) + self._at(planes, number, count, tile)) * lanes
                source |= dict.fromkeys(range(planes.first, planes.stop), b.let("source", self._place("m") + at))
        place = self._place("s")
        for column, elements in enumerate(zip(*self._numbers(kind))):
            xs = [b.let("m", b.load(scratch, source[plane] + plane * p.m_plane, lanes)) for plane in elements]
            for i, value in enumerate(transform_output(b, p.m, xs)):
                b.store(scratch, place + (i * a + column) * lanes, value, lanes)
        whole = (g.oh - kind.top * g.dh) % (kind.rows * g.dh) == 0 and (g.ow - kind.left * g.dw) % (kind.columns * g.dw) == 0
        inside = b.let("inside", t.all(oy + (kind.rows - 1) * g.dh < g.oh, ox + (kind.columns - 1) * g.dw < g.ow))
        with nullcontext() if whole else b.when(inside):
            self._pixels(kind, kind.rows, image, oy, ox, out_block, guard=False)
        if not whole:
            with b.when(t.Not(inside)):
                self._pixels(kind, t.min(kind.rows, t.floordiv(g.oh - oy + g.dh - 1, g.dh)), image, oy, ox, out_block, guard=True)

    def _pixels(self, kind: Kind, rows: Expr, image: Expr, oy: Expr, ox: Expr, out_block: Expr, guard: bool) -> None:
        p, g, b, lanes, scratch, op = self.p, self.p.g, self.k.b, self.p.g.lanes, self.k.scratch, self.k.anchor
        assert scratch is not None
        with b.loop("row", 0, rows) as row:
            at = b.let("at", self._place("s") + row * (p.a * lanes))
            values = transform_output(b, p.m, [b.let("s", b.load(scratch, at + i * lanes, lanes)) for i in range(kind.columns + 2)])
            if op.b is not None:
                bias = b.let("bias", b.load(self.k.args[op.b], out_block * lanes, lanes))
                values = [v + bias for v in values]
            to = b.let("to", (((image * g.out_blocks + out_block) * g.oh + oy + row * g.dh) * g.ow + ox) * lanes)
            for j, value in enumerate(values):
                with b.when(ox + j * g.dw < g.ow) if guard and (j or g.dw > 1) else nullcontext():
                    self.k.finish(b.value(value), to + j * (g.dw * lanes), out_block * lanes, image, lanes)


def spread(number: Expr, first: int, m: int, dilation: int) -> Expr:
    """First output, along one axis, of a tile: tiles of m outputs from `first` on in each of the `dilation` parts, the parts' side by side."""
    if dilation == 1:
        return first + number * m
    return (first + t.floordiv(number, dilation) * m) * dilation + t.floormod(number, dilation)
