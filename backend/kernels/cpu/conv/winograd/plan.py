"""The plan of a Winograd kernel: its tiles, planes, stages, passes over channels, and scratch.

Where all tiles are one chunk (`single_chunk`), the rest of a feature map beside its m x m tiles is covered by smaller ones. They need only some
of the points (14 = 4 + 4 + 4 + 2 takes 22^2 = 484 products of tiles and planes, where four times 4 takes 24^2). The planes of weights stay the
same.

Where the tiles are so few that one register tile holds them, all weights are read for little work, and evict V from the caches. Then one pair of
rows of B^T d B after the other goes through all phases: V and M hold one pair only, and the result accumulates the sum.

A convolution dilated by d is d x d undilated ones, each on every d-th row and column. Tiles of the d x d parts are interleaved: tiles that start at
neighbouring pixels have neighbouring numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, product

from ......ir.errors import TersorError
from .....codegen.builder import Expr
from .....target import Target
from .....tile.fusion import Fusion
from ....template import Params
from ...arithmetic.fixed24 import words
from ...register_tile import cover, max_rows
from ...window import Window
from ..template import Channels, conv_window
from .toom_cook import POINTS, points_of

#: Extra floats between the planes of V and of M: equal distances of powers of two would put all a^2 streams in one set of L1.
PAD = 16
#: Tiles that one register tile of 32 registers takes at once.
FEW = 24
#: Most tiles of a feature map for which reading weights takes about as long as multiplying by them (with vectors of 16 floats).
FIXED = 64


@dataclass(frozen=True)
class Kind:
    """Tiles of `rows` x `columns` outputs: a grid of high x wide tiles in each image, which starts at (top, left).

    high and wide count the tiles of all parts of a dilated convolution, top and left the outputs of one part.
    """

    rows: int
    columns: int
    high: int
    wide: int
    top: int
    left: int


@dataclass(frozen=True)
class Planes:
    """Planes of a pair of rows, numbers first to stop, that have the same tiles: those of these kinds."""

    first: int
    stop: int
    kinds: tuple[int, ...]
    pair: int


@dataclass(frozen=True)
class Plan:
    """The plan of one Winograd kernel."""

    g: Window
    m: int
    tiles: int
    groups: int
    vectors: int
    threads: int
    #: Whether the result's memory can hold partial sums in f32.
    sums: bool

    @property
    def a(self) -> int:
        return self.m + 2

    @property
    def grid(self) -> tuple[int, int]:
        return grid(self.g, self.m)

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

    # -- pairs of rows, and stages ---------------------------------------------------------------

    @property
    def single_chunk(self) -> bool:
        return self.chunks == 1 and self.sums

    @cached_property
    def pairs(self) -> list[tuple[int, ...]]:
        """The pairs of rows of B^T d B; all rows as one where there are several chunks. The first pairs contribute to every row of a tile's result,
        the last one only to its first and last row. Weights are stored pair by pair, whatever the stages are."""
        return [*((row, row + 1) for row in range(1, self.a - 1, 2)), (0, self.a - 1)] if self.single_chunk else [tuple(range(self.a))]

    @cached_property
    def stages(self) -> list[tuple[int, ...]]:
        """Pairs that go through all phases before the next ones do. Several threads have one stage: they share V, and would rewrite it in each."""
        pairs = range(len(self.pairs))
        return [(pair,) for pair in pairs] if self.threads == 1 and self.tiles <= FEW else [tuple(pairs)]

    def pair_of(self, row: int) -> int:
        return next(i for i, rows in enumerate(self.pairs) if row in rows)

    def begin(self, pair: int) -> int:
        """The first plane of a pair."""
        return self.a * sum(len(rows) for rows in self.pairs[:pair])

    @property
    def most(self) -> int:
        """Planes of the largest stage."""
        return self.a * max(sum(len(self.pairs[pair]) for pair in stage) for stage in self.stages)

    # -- tiles -----------------------------------------------------------------------------------

    @cached_property
    def kinds(self) -> list[Kind]:
        """The m x m tiles, then those that are lower, narrower, and both."""
        high, wide = self._strips(self.g.oh, self.g.dh), self._strips(self.g.ow, self.g.dw)
        return [Kind(rows, columns, h, w, top, left) for (columns, w, left), (rows, h, top) in product(wide, high)]

    def _strips(self, size: int, dilation: int) -> list[tuple[int, int, int]]:
        """(outputs of a tile, tiles, first output of a part) along one axis."""
        full, rest = divmod(-(-size // dilation), self.m)
        part = rest + rest % 2
        if self.single_chunk and full and 0 < part < self.m:
            return [(self.m, full * dilation, 0), (part, dilation, full * self.m)]
        return [(self.m, (full + (rest > 0)) * dilation, 0)]

    @cached_property
    def order(self) -> list[tuple[int, int]]:
        """(row, column) of each plane in B^T d B, by number: pair by pair, those with the same tiles together, most tiles first."""
        planes = [(row, column) for row in range(self.a) for column in range(self.a)]
        return sorted(planes, key=lambda plane: (self.pair_of(plane[0]), -len(self._kinds_in(*plane)), self._kinds_in(*plane)))

    def _kinds_in(self, row: int, column: int) -> tuple[int, ...]:
        """The kinds of tiles that have a plane."""
        return tuple(i for i, k in enumerate(self.kinds) if row in points_of(self.m, k.rows) and column in points_of(self.m, k.columns))

    @cached_property
    def planes(self) -> list[Planes]:
        result, first = [], 0
        for (pair, kinds), same in groupby(self.order, key=lambda plane: (self.pair_of(plane[0]), self._kinds_in(*plane))):
            stop = first + len(list(same))
            result.append(Planes(first, stop, kinds, pair))
            first = stop
        return result

    def counts(self, count: int) -> list[int]:
        """Tiles of each kind in a chunk of `count`."""
        return [count] if len(self.kinds) == 1 else [self.g.n * k.high * k.wide for k in self.kinds]

    def tiles_in(self, planes: Planes, count: int) -> int:
        """Tiles that these planes have in a chunk of `count`."""
        counts = self.counts(count)
        return sum(counts[kind] for kind in planes.kinds)

    @cached_property
    def same_layout(self) -> list[Planes]:
        """Runs of planes of a pair with equally many tiles."""
        runs = [list(same) for _, same in groupby(self.planes, key=lambda planes: (planes.pair, self.tiles_in(planes, self.tiles)))]
        return [Planes(run[0].first, run[-1].stop, run[0].kinds, run[0].pair) for run in runs]

    def alike_in(self, pairs: tuple[int, ...]) -> list[Planes]:
        return [planes for planes in self.same_layout if planes.pair in pairs]

    # -- channels --------------------------------------------------------------------------------

    @cached_property
    def passes(self) -> list[tuple[int, int, int, int]]:
        """(vectors, first block, blocks in a pass, passes)."""
        result = []
        for vectors, first, count in Channels(self.g).vectors if self.vectors == 2 else [(1, 0, self.g.out_blocks)]:
            groups = max(n for n in range(1, self.groups + 1) if count % n == 0)
            result.append((vectors, first, vectors * groups, count // groups))
        return result

    def width(self, planes: Planes, vectors: int, blocks: int, target: Target) -> int:
        """Output vectors of the register tiles: a single one only where two would not take all tiles of a plane at once."""
        return 2 if vectors == 1 and blocks % 2 == 0 and self.tiles_in(planes, self.tiles) <= max_rows(target, 2) else vectors

    def cover(self, planes: Planes, count: int, target: Target) -> tuple[int, ...]:
        """Heights of register tiles for these planes in a chunk of `count`: the same in all passes, as they read the same V."""
        width = max(self.width(planes, vectors, blocks, target) for vectors, _, blocks, _ in self.passes)
        return cover(self.tiles_in(planes, count), max_rows(target, width), width)

    # -- weights ---------------------------------------------------------------------------------

    @property
    def fixed(self) -> bool:
        """Whether weights are of 24 bits."""
        return self.g.lanes == 16 and self.tiles <= FEW and self.total <= FIXED

    @property
    def factors(self) -> int:
        """Words before the weights: the factors of fixed24.py for input channels."""
        return self.depth if self.fixed else 0

    @property
    def column(self) -> int:
        """Words of the weights of one plane and one output block."""
        lanes = self.g.lanes
        return self.g.c * words(lanes) + lanes if self.fixed else self.g.c * lanes

    # -- memory ----------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """Floats of a tile in one plane of V."""
        return self.g.in_blocks * self.g.lanes

    @property
    def v_plane(self) -> int:
        return self.tiles * self.depth + PAD

    @property
    def m_plane(self) -> int:
        return self.tiles * max(blocks for _, _, blocks, _ in self.passes) * self.g.lanes + PAD

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Floats of V, M and S of one worker: S is a map of one block with zeros around it, or two tiles."""
        pixels = math.prod(self.padded) if self.single_chunk else 2 * self.a**2
        return self.most * self.v_plane, self.most * self.m_plane, pixels * self.g.lanes

    @cached_property
    def padded(self) -> tuple[int, int]:
        """Rows and columns of an image that tiles read, zeros around it included."""

        def extent(kinds: list[tuple[int, int, int]], dilation: int) -> int:
            ends: list[int] = [spread(count - 1, first, self.m, dilation) + (size + 1) * dilation for size, count, first in kinds]
            return max(ends) + 1

        g = self.g
        return extent([(k.rows, k.high, k.top) for k in self.kinds], g.dh), extent([(k.columns, k.wide, k.left) for k in self.kinds], g.dw)

    @property
    def scratch(self) -> int:
        """Floats of scratch."""
        v, *own = self.sizes
        return v * (1 if self.by_channels else self.threads) + self.threads * sum(own)


def spread(number: Expr, first: int, m: int, dilation: int) -> Expr:
    """First output, along one axis, of a tile: tiles of m outputs from `first` on in each of the `dilation` parts, the parts' side by side."""
    return first + number * m if dilation == 1 else (first + number // dilation * m) * dilation + number % dilation


def grid(g: Window, m: int) -> tuple[int, int]:
    """Rows and columns of m x m tiles in an image."""
    return -(-g.oh // (m * g.dh)) * g.dh, -(-g.ow // (m * g.dw)) * g.dw


def make_plan(fusion: Fusion, params: Params, threads: int) -> Plan:
    if params["m"] not in POINTS:
        raise TersorError(f"there is no F({params['m']}x{params['m']}, 3x3); valid output tiles: {', '.join(map(str, POINTS))}")
    sums = str(fusion.out.elem) == "f32"
    return Plan(conv_window(fusion), params["m"], params["tiles"], params["groups"], params["vectors"], threads, sums)
