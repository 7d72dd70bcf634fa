"""Base of the Winograd kernels: memory layouts, and M = V U, the products of tiles and weights.

Layouts, L lanes: V [plane][register tile][input block][tile][L], M [plane][output block][tile][L], both of one stage; U [pair of rows][pass][plane]
[group][channel][vectors * L], a pass being the output blocks between two reads of V; in 24 bits, factors of the input channels come first, and
scales before the channels (fixed24.py). V, M and the small S of the transforms are scratch.
Threads divide chunks, each with its own scratch; where there are fewer chunks than threads, they share V and divide channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx as t

from .....codegen.builder import Expr, const
from .....codegen.kernel_builder import KernelBuilder
from .....tile.fusion import RowLayout
from ...register_tile import Tile, runs
from ...window import share
from .plan import Kind, Plan, Planes, spread
from .toom_cook import points_of


@dataclass
class Phases(ABC):
    """The three phases. `worker` is a thread's number where threads divide work, `stage` the current pairs of rows."""

    k: KernelBuilder
    p: Plan
    worker: Expr = 0
    stage: tuple[int, ...] = (0,)

    @property
    def inputs(self) -> RowLayout:
        """Where rows of the input lie, in pixels."""
        return self.k.fusion.map_rows(self.k.anchor.x).pixels(self.p.g.lanes)

    @property
    def results(self) -> RowLayout:
        return self.k.fusion.map_rows(self.k.fusion.result).pixels(self.p.g.lanes)

    @abstractmethod
    def emit(self) -> None:
        """All stages of all chunks."""

    @abstractmethod
    def _output(self, number: int, first: Expr, count: int, tile: Expr, ob: Expr, out_block: Expr) -> None:
        """Y = A^T M A of a tile of a kind and one output block: the part that the stage contributes."""

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
        """The number, among the tiles of these planes, of a tile of a kind."""
        counts = self.p.counts(count)
        return tile + sum(counts[i] for i in planes.kinds if i < kind)

    def _numbers(self, kind: Kind) -> list[list[int]]:
        """The plane of each element of a kind's transformed tile."""
        number = {plane: i for i, plane in enumerate(self.p.order)}
        return [[number[row, column] for column in points_of(self.p.m, kind.columns)] for row in points_of(self.p.m, kind.rows)]

    def _places(self, number: int, count: int, tile: Expr, block: Expr) -> dict[int, Expr]:
        """Where a tile of a kind lies in V, for each plane of the stage that it has, up to the plane."""
        places: dict[int, Expr] = {}
        for planes in self.p.planes:
            if number in planes.kinds and planes.pair in self.stage:
                place, step = self._v_place(self.p.cover(planes, count, self.k.target), self._at(planes, number, count, tile))
                places |= dict.fromkeys(range(planes.first, planes.stop), self.k.b.let("v", self._place("v") + place + block * step))
        return places

    def _f32(self, at: Expr) -> Expr:
        """A vector of f32 among the words of 24-bit weights."""
        lanes = self.p.g.lanes
        return self.k.b.let("f32", t.reinterpret(f"float32x{lanes}", self.k.b.load(self.k.args[self.k.anchor.w], at, lanes)))

    def _factor(self, block: Expr) -> Expr:
        """The factor on the values of an input block; None without one."""
        return self._f32(block * self.p.g.lanes) if self.p.fixed else None

    def _store(self, places: dict[int, Expr], plane: int, value: Expr, factor: Expr) -> None:
        """An element of B^T d B to V."""
        assert self.k.scratch is not None
        value = value if factor is None else value * factor
        self.k.b.store(self.k.scratch, places[plane] + (plane - self.p.begin(self.stage[0])) * self.p.v_plane, value, self.p.g.lanes)

    def _sources(self, number: int, count: int, tile: Expr, ob: Expr) -> dict[int, Expr]:
        """Where a tile of a kind lies in M, for each plane of the stage that it has."""
        result: dict[int, Expr] = {}
        for planes in self.p.planes:
            if number in planes.kinds and planes.pair in self.stage:
                at = (ob * self.p.tiles_in(planes, count) + self._at(planes, number, count, tile)) * self.p.g.lanes
                source = self.k.b.let("source", self._place("m") + at)
                result |= {plane: source + (plane - self.p.begin(self.stage[0])) * self.p.m_plane for plane in range(planes.first, planes.stop)}
        return result

    def _claim(self, count: int, start: Expr, stop: Expr) -> None:
        """Write zeros to these blocks of V where threads share it, in the order of memory.

        The hardware prefetcher follows this order, unlike that in which tiles write, so lines leave the other cores' caches sooner.
        Not worth it where V fills much of such a cache.
        """
        p, b, lanes = self.p, self.k.b, self.p.g.lanes
        assert self.k.scratch is not None
        if not p.by_channels or 4 * p.sizes[0] > self.k.target.l2:
            return
        for planes in p.alike_in(self.stage):
            for height, first, repeat in runs(p.cover(planes, count, self.k.target)):
                with b.loop("xi", planes.first, planes.stop) as xi, b.range("tiles", 0, repeat) as i:
                    place = b.let("place", self._v_tiles(xi, first + i * height))
                    with b.loop("line", start * height, stop * height) as line:
                        b.store(self.k.scratch, place + line * lanes, const(0.0, lanes=lanes), lanes)

    def _v_tiles(self, xi: Expr, first: Expr) -> Expr:
        """Where the register tile of V that begins with a tile lies in a plane."""
        return self._place("v") + (xi - self.p.begin(self.stage[0])) * self.p.v_plane + first * self.p.depth

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

    def _products(self, first: Expr, count: int, prefetch_next: bool = False) -> None:
        """prefetch_next: whether the next tiles in memory are computed next; their pixels are then prefetched meanwhile."""
        p, b = self.p, self.k.b
        for vectors, first_block, blocks, passes in p.passes:
            with b.loop("pass", *(self._share(passes) if p.by_channels else (0, passes))) as number:
                block = b.let("block", first_block + number * blocks)
                for planes in p.alike_in(self.stage):
                    before = p.begin(planes.pair) * p.g.out_blocks + p.a * len(p.pairs[planes.pair]) * block
                    u = b.let("u", p.factors + p.column * before)
                    width = p.width(planes, vectors, blocks, self.k.target)
                    # turns of all passes over which the prefetches are spread
                    turns = passes * p.a**2 * (blocks // width) if prefetch_next and first_block == 0 else 0
                    self._group(planes, width, blocks // width, first, count, u, block, number, turns)
                for i, tiles in enumerate(p.counts(count)):
                    with b.loop("ob", 0, blocks) as ob, b.loop("tile", 0, tiles) as tile:
                        self._output(i, first, count, tile, ob, b.let("out_block", block + ob))

    def _group(self, planes: Planes, width: int, groups: int, first: Expr, count: int, u: Expr, block: Expr, number: Expr, turns: int) -> None:
        """The products of some planes in one pass, and the prefetches for later work."""
        p, b = self.p, self.k.b
        tiles, panel = p.tiles_in(planes, count), p.column * width
        with b.loop("xi", planes.first, planes.stop) as xi, b.loop("group", 0, groups) as group:
            turn = b.let("turn", (number * p.a**2 + xi) * groups + group)

            def on_block(step: Expr, steps: int) -> None:
                self._prefetch_v(tiles, xi + 1, group * steps + step, groups * steps)
                self._prefetch_out(first, count, width, xi * steps + step, steps, block + group * width)
                if turns:
                    self._prefetch_in(first + count, count, turn * steps + step, turns * steps)

            weights = b.let("u", u + ((xi - p.begin(planes.pair)) * groups + group) * panel)
            self._product(p.cover(planes, count, self.k.target), width, xi, group * width, weights, on_block)

    def _prefetch_in(self, first: Expr, count: int, turn: Expr, turns: int) -> None:
        """Prefetch a share of the pixels that `count` tiles from `first` on read. With a single chunk there are none."""
        raise NotImplementedError

    def _prefetch_out(self, first: Expr, count: int, vectors: int, turn: Expr, turns: int, out_block: Expr) -> None:
        """Prefetch a share of the pixels that `vectors` output blocks will write, so that stores do not wait for their lines."""
        p, g, b = self.p, self.p.g, self.k.b
        high, wide = p.grid
        image = b.let("image", t.floordiv(first, high * wide))
        pixel = b.let("pixel", t.floordiv(t.floormod(first, high * wide) * (p.m * g.ow), wide))
        share = -(-count * p.m * g.ow // (wide * p.a**2 * turns))
        start = b.let("start", ((image * g.out_blocks + out_block) * (g.oh * g.ow) + pixel + turn * share) * g.lanes)
        for j in range(vectors):
            for i in range(share):
                b.prefetch(self.k.out, start + (j * g.oh * g.ow + i) * g.lanes, write=True)

    def _prefetch_v(self, count: int, xi: Expr, turn: Expr, turns: int) -> None:
        """Prefetch a share of the tiles in a plane of V, which the weights have evicted from the second-level cache."""
        assert self.k.scratch is not None
        share = -(-count * self.p.g.in_blocks // turns)
        start = self.k.b.let("start", self._place("v") + (xi - self.p.begin(self.stage[0])) * self.p.v_plane + turn * (share * self.p.g.lanes))
        for i in range(share):
            self.k.b.prefetch(self.k.scratch, start + i * self.p.g.lanes, locality="L2")

    def _product(self, tiles: Sequence[int], vectors: int, xi: Expr, ob: Expr, u: Expr, on_block: Callable[[Expr, int], None]) -> None:
        """M[xi] of one output group and all tiles of the plane."""
        p, b, lanes, w, scratch = self.p, self.k.b, self.p.g.lanes, self.k.args[self.k.anchor.w], self.k.scratch
        assert scratch is not None
        number, count = 0, sum(tiles)
        for height, first, repeat in runs(tiles):
            with b.range("block", 0, repeat) as i:
                v = b.let("v", self._v_tiles(xi, first + i * height))
                m = self._place("m") + (xi - p.begin(self.stage[0])) * p.m_plane
                places = [b.let("to", m + ((ob + j) * count + first + i * height) * lanes) for j in range(vectors)]
                tile = Tile(b, height, vectors, lanes, fixed=p.fixed, next_weights=self.k.next_weights, by_element=self.k.target.by_element)
                tile.start(None)
                turn = number + i

                def now(step: Expr, steps: int, turn: Expr = turn) -> None:
                    on_block(turn * steps + step, len(tiles) * steps)

                scales = vectors * lanes if p.fixed else 0
                tile.blocks(scratch, v, height * lanes, w, u + scales, p.g.c, turn=(turn, len(tiles)), on_block=now)
                for j, to in enumerate(places):
                    scale = self._f32(u + j * lanes) if p.fixed else None
                    for r in range(height):
                        value = tile.value(r, j)
                        b.store(scratch, to + r * lanes, value if scale is None else value * scale, lanes)
            number += repeat
