"""3x3 convolution by Winograd's F(m x m, 3x3): a = m + 2, so 9 m^2 multiplications become a^2 (2.25, 4 and 5.06 times fewer for m = 2, 4, 6).

    V = B^T d B of every a x a input tile;  M[xi] = V[xi] U[xi], a^2 matrix products over channels;  y = A^T M A, then the tail

Weights U = G g G^T are transformed when the kernel is made. A chunk of tiles (of all images) goes through all three phases; V, M and the
small S between the two passes of a transform are scratch. Layouts, L lanes: V [xi][register tile][input block][tile][L], M [xi][output block]
[tile][L], U [pass][xi][group][channel][vectors * L], a pass being the output groups between two reads of V.
Threads share out chunks, each with its own scratch; where chunks are fewer than threads, they share V and divide channels.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tvm import tirx as t

from ...ir.errors import TersorError
from ...ir.op import Value
from ..region import Kernel, Region
from ..target import Target
from ..tile import TileConv2d
from ..tir import Buffer, Expr, const
from .conv import Channels, conv_window, padded_bias
from .geometry import Window, share, workers
from .micro import Tile, cover, max_rows, runs
from .template import Params, kernel
from .toom_cook import POINTS, transform_input, transform_output, transform_weights

#: Floats between the planes of V and of M, beyond what they need: equal distances of powers of two would put all a^2 streams in one set of L1.
PAD = 16


@dataclass(frozen=True)
class Plan:
    """The numbers of one Winograd kernel."""

    g: Window
    m: int
    tiles: int
    groups: int
    vectors: int
    threads: int

    @property
    def a(self) -> int:
        return self.m + 2

    @property
    def grid(self) -> tuple[int, int]:
        return -(-self.g.oh // self.m), -(-self.g.ow // self.m)

    @property
    def total(self) -> int:
        """Tiles of all images."""
        return self.g.n * self.grid[0] * self.grid[1]

    @property
    def chunks(self) -> int:
        return -(-self.total // self.tiles)

    @property
    def by_channels(self) -> bool:
        """Whether threads divide channels rather than chunks."""
        return self.chunks < self.threads

    @cached_property
    def passes(self) -> list[tuple[int, int, int, int]]:
        """(vectors, first block, groups in a pass, passes)."""
        result = []
        for vectors, first, count in Channels(self.g).vectors if self.vectors == 2 else [(1, 0, self.g.out_blocks)]:
            groups = max(n for n in range(1, self.groups + 1) if count % n == 0)
            result.append((vectors, first, groups, count // groups))
        return result

    @property
    def depth(self) -> int:
        """Floats of a tile in one plane of V."""
        return self.g.in_blocks * self.g.lanes

    @property
    def v_plane(self) -> int:
        return self.tiles * self.depth + PAD

    @property
    def m_plane(self) -> int:
        return self.tiles * max(vectors * groups for vectors, _, groups, _ in self.passes) * self.g.lanes + PAD

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Floats of V, M and S of one worker."""
        return self.a**2 * self.v_plane, self.a**2 * self.m_plane, 2 * self.a**2 * self.g.lanes

    @property
    def scratch(self) -> int:
        """Floats of scratch."""
        v, *own = self.sizes
        return v * (1 if self.by_channels else self.threads) + self.threads * sum(own)


def make_plan(region: Region, params: Params, threads: int) -> Plan:
    if params["m"] not in POINTS:
        raise TersorError(f"there is no F({params['m']}x{params['m']}, 3x3); valid output tiles: {', '.join(map(str, POINTS))}")
    return Plan(conv_window(region), params["m"], params["tiles"], params["groups"], params["vectors"], threads)


@kernel(TileConv2d)
class Winograd:
    name = "winograd"

    def accepts(self, region: Region, target: Target) -> bool:
        op: Any = region.anchor
        g = conv_window(region)
        geometry = (g.kh, g.kw, g.sh, g.sw, g.dh, g.dw, g.groups) == (3, 3, 1, 1, 1, 1, 1)
        return geometry and g.lanes > 0 and g.block_in == g.lanes and region.array(op.w) is not None

    def candidates(self, region: Region, target: Target, threads: int) -> list[Params]:
        g = conv_window(region)
        result = []
        for m in POINTS:
            total = g.n * -(-g.oh // m) * -(-g.ow // m)
            for wanted in (28, 56, 112):
                chunks = max(1, round(total / wanted))
                # few weights: threads divide tiles, as other kernels divide rows; many: they divide channels, each to read its own once
                if chunks > 1 or (total >= threads and (m + 2) ** 2 * g.o <= 8 * g.n * g.h * g.w):
                    chunks = -(-chunks // threads) * threads
                tiles = -(-total // chunks)
                widths = (2, 1) if tiles <= max_rows(target, 1) else (2,)
                result += [{"m": m, "tiles": tiles, "groups": 4 // vectors, "vectors": vectors} for vectors in widths]
        return result

    def cost(self, region: Region, target: Target, params: Params) -> float:
        p = make_plan(region, params, 1)
        g, a2, product = p.g, p.a**2, 0.0
        tiles = cover(p.tiles, max_rows(target, p.vectors), p.vectors)
        for vectors, _, groups, passes in p.passes:
            step = sum(max(height * vectors, 9, height + vectors if vectors == 1 else 0) / 2 * g.c + 14 for height in tiles)
            product += passes * groups * a2 * step
        product *= p.total / p.tiles
        transforms = p.total * a2 * 5.0 * (g.in_blocks + g.out_blocks)
        # weights come from memory at 6 bytes a cycle, and hold up their use the less, the more tiles there are to multiply meanwhile;
        # a panel that one tile uses up is a steady stream
        weights = a2 * g.c * g.out_blocks * g.lanes * 4 / 6
        return max(product + weights * (0.2 if len(tiles) == 1 else 0.9 / len(tiles)), weights) + transforms

    def pack(self, region: Region, target: Target, params: Params) -> dict[Value, np.ndarray]:
        op: Any = region.anchor
        w = region.array(op.w)
        assert w is not None
        p = make_plan(region, params, 1)
        lanes, u = p.g.lanes, transform_weights(w, p.m)
        full = np.zeros((*u.shape[:2], p.g.out_blocks * lanes), np.float32)
        full[..., : p.g.o] = u
        parts = []
        for vectors, first, groups, passes in p.passes:
            part = full[..., first * lanes : (first + vectors * groups * passes) * lanes]
            part = part.reshape(*u.shape[:2], passes, groups, vectors * lanes)
            parts.append(part.transpose(2, 0, 3, 1, 4).ravel())
        packed = {op.w: np.concatenate(parts)}
        if op.b is not None:
            packed[op.b] = padded_bias(region.array(op.b), p.g.o, lanes)
        return packed

    def scratch(self, region: Region, target: Target, params: Params, threads: int) -> int:
        return 4 * make_plan(region, params, threads).scratch

    def emit(self, k: Kernel) -> None:
        _Code(k, make_plan(k.region, k.params, k.threads)).emit()


@dataclass
class _Code:
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
                self._inputs(first, p.tiles, (0, p.g.in_blocks))
                self._products(first, p.tiles)
            if rest:
                with b.when(t.EQ(self.worker, threads - 1)) if threads > 1 else nullcontext():
                    self._inputs(full * p.tiles, rest, (0, p.g.in_blocks))
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

    def _tile(self, first: Expr, tile: Expr) -> tuple[Expr, Expr, Expr]:
        """Image, and upper left output pixel of a chunk's tile."""
        b, (high, wide), m = self.k.b, self.p.grid, self.p.m
        number = b.let("number", first + tile)
        image = b.let("image", t.floordiv(number, high * wide))
        return image, b.let("oy", t.floordiv(t.floormod(number, high * wide), wide) * m), b.let("ox", t.floormod(number, wide) * m)

    # -- V = B^T d B -----------------------------------------------------------------------------

    def _inputs(self, first: Expr, count: int, blocks: tuple[Expr, Expr]) -> None:
        g, b, a = self.p.g, self.k.b, self.p.a
        with b.loop("tile", 0, count) as tile:
            image, oy, ox = self._tile(first, tile)
            y, x = b.let("y", oy - g.top), b.let("x", ox - g.left)
            place, step = self._v_place(count, tile)
            v, step = b.let("v", self._place("v") + place), b.let("step", step)
            inside = b.let("inside", t.all(y >= 0, x >= 0, y + a <= g.h, x + a <= g.w))
            with b.loop("kb", *blocks) as kb:
                plane = b.let("plane", ((image * g.in_blocks + kb) * g.h + y) * g.w + x)
                with b.when(inside):
                    self._columns(self.k.args[self.k.anchor.x], plane * g.lanes, g.w * g.lanes)
                with b.when(t.Not(inside)):
                    corner = self._border(plane, y, x)
                    assert self.k.scratch is not None
                    self._columns(self.k.scratch, corner, a * g.lanes)
                self._rows(v + kb * step)

    def _v_place(self, count: int, tile: Expr) -> tuple[Expr, Expr]:
        """Where a tile's first input block lies in a plane of V, and how far it is to the next block: register tiles lie one after the other."""
        depth, lanes = self.p.depth, self.p.g.lanes
        place: Expr = None
        step: Expr = None
        for height, first, repeat in reversed(runs(self._cover(count))):
            inner = tile - first
            here = (first + t.floordiv(inner, height) * height) * depth + t.floormod(inner, height) * lanes
            place = here if place is None else t.Select(tile < first + height * repeat, here, place)
            step = height * lanes if step is None else t.Select(tile < first + height * repeat, height * lanes, step)
        return place, step

    def _cover(self, count: int) -> tuple[int, ...]:
        return cover(count, max_rows(self.k.target, self.p.vectors), self.p.vectors)

    def _border(self, plane: Expr, y: Expr, x: Expr) -> Expr:
        """Copy an input tile that crosses the border to scratch, zeros outside the map; returns where it begins."""
        g, b, a, s, lanes = self.p.g, self.k.b, self.p.a, self.k.scratch, self.p.g.lanes
        assert s is not None
        to = b.let("to", self._place("s") + a * a * lanes)
        with b.loop("zero", 0, a * a) as i:
            b.store(s, to + i * lanes, const(0.0, lanes=lanes), lanes)
        with b.loop("dy", t.max(0, -y), t.min(a, g.h - y)) as dy, b.loop("dx", t.max(0, -x), t.min(a, g.w - x)) as dx:
            b.store(s, to + (dy * a + dx) * lanes, b.load(self.k.args[self.k.anchor.x], (plane + dy * g.w + dx) * lanes, lanes), lanes)
        return to

    def _columns(self, source: Buffer, at: Expr, row: Expr) -> None:
        """S = B^T d, column by column."""
        b, a, s, lanes = self.k.b, self.p.a, self.k.scratch, self.p.g.lanes
        assert s is not None
        place = self._place("s")
        with b.loop("column", 0, a) as column:
            xs = [b.let("d", b.load(source, at + i * row + column * lanes, lanes)) for i in range(a)]
            for i, value in enumerate(transform_input(b, self.p.m, xs)):
                b.store(s, place + (i * a + column) * lanes, value, lanes)

    def _rows(self, v: Expr) -> None:
        """V = S B, row by row."""
        b, a, s, lanes = self.k.b, self.p.a, self.k.scratch, self.p.g.lanes
        assert s is not None
        with b.loop("row", 0, a) as row:
            at = b.let("at", self._place("s") + row * (a * lanes))
            xs = [b.let("s", b.load(s, at + i * lanes, lanes)) for i in range(a)]
            for i, value in enumerate(transform_input(b, self.p.m, xs)):
                b.store(s, v + (row * a + i) * self.p.v_plane, value, lanes)

    # -- M = V U, Y = A^T M A --------------------------------------------------------------------

    def _products(self, first: Expr, count: int) -> None:
        p, b, lanes, a2 = self.p, self.k.b, self.p.g.lanes, self.p.a**2
        for vectors, first_block, groups, passes in p.passes:
            panel = p.g.c * vectors * lanes
            u0 = a2 * p.g.c * first_block * lanes
            with b.loop("pass", *(self._share(passes) if p.by_channels else (0, passes))) as number:
                with b.loop("xi", 0, a2) as xi, b.loop("group", 0, groups) as group:
                    u = b.let("u", u0 + ((number * a2 + xi) * groups + group) * panel)
                    self._product(count, vectors, xi, group * vectors, u)
                block = b.let("block", first_block + number * (groups * vectors))
                with b.loop("ob", 0, groups * vectors) as ob, b.loop("tile", 0, count) as tile:
                    self._output(first, count, tile, ob, b.let("out_block", block + ob))

    def _product(self, count: int, vectors: int, xi: Expr, ob: Expr, u: Expr) -> None:
        """M[xi] of one output group and all tiles of the chunk."""
        p, b, lanes, w, scratch = self.p, self.k.b, self.p.g.lanes, self.k.args[self.k.anchor.w], self.k.scratch
        assert scratch is not None
        tiles = self._cover(count)
        number = 0
        for height, first, repeat in runs(tiles):
            with b.range("block", 0, repeat) as i:
                v = b.let("v", self._place("v") + xi * p.v_plane + (first + i * height) * p.depth)
                tile = Tile(b, height, vectors, lanes)
                tile.start(None)
                tile.blocks(scratch, v, height * lanes, w, u, p.g.c, turn=(number + i, len(tiles)))
                for j in range(vectors):
                    to = b.let("to", self._place("m") + xi * p.m_plane + ((ob + j) * count + first + i * height) * lanes)
                    for r in range(height):
                        b.store(scratch, to + r * lanes, tile.value(r, j), lanes)
            number += repeat

    def _output(self, first: Expr, count: int, tile: Expr, ob: Expr, out_block: Expr) -> None:
        """One tile of one output block: both passes, and the tail on every pixel inside the map."""
        p, g, b, a, m, lanes, scratch = self.p, self.p.g, self.k.b, self.p.a, self.p.m, self.p.g.lanes, self.k.scratch
        assert scratch is not None
        image, oy, ox = self._tile(first, tile)
        source = b.let("source", self._place("m") + (ob * count + tile) * lanes)
        place = self._place("s")
        with b.loop("column", 0, a) as column:
            xs = [b.let("m", b.load(scratch, source + (i * a + column) * p.m_plane, lanes)) for i in range(a)]
            for i, value in enumerate(transform_output(b, m, xs)):
                b.store(scratch, place + (i * a + column) * lanes, value, lanes)
        whole = g.oh % m == 0 and g.ow % m == 0
        inside = b.let("inside", t.all(oy + m <= g.oh, ox + m <= g.ow))
        with nullcontext() if whole else b.when(inside):
            self._pixels(m, image, oy, ox, out_block, guard=False)
        if not whole:
            with b.when(t.Not(inside)):
                self._pixels(t.min(m, g.oh - oy), image, oy, ox, out_block, guard=True)

    def _pixels(self, rows: Expr, image: Expr, oy: Expr, ox: Expr, out_block: Expr, guard: bool) -> None:
        p, g, b, lanes, scratch, op = self.p, self.p.g, self.k.b, self.p.g.lanes, self.k.scratch, self.k.anchor
        assert scratch is not None
        with b.loop("row", 0, rows) as row:
            at = b.let("at", self._place("s") + row * (p.a * lanes))
            values = transform_output(b, p.m, [b.let("s", b.load(scratch, at + i * lanes, lanes)) for i in range(p.a)])
            if op.b is not None:
                bias = b.let("bias", b.load(self.k.args[op.b], out_block * lanes, lanes))
                values = [v + bias for v in values]
            to = b.let("to", (((image * g.out_blocks + out_block) * g.oh + oy + row) * g.ow + ox) * lanes)
            for j, value in enumerate(values):
                with b.when(ox + j < g.ow) if guard and j else nullcontext():
                    self.k.finish(b.value(value), to + j * lanes, out_block * lanes, image, lanes)
