"""The plan of an integer Winograd kernel: its tiles, the parts of its channels, and its layout in scratch.

Layouts in scratch, L lanes of i32: V [plane][tile][channel] and U [plane][pair of channels][vector][L][2] of i16, M [plane][tile][vector][L] of i32.
V holds a chunk of tiles, U and M one group of output vectors, U a part of its channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from ......tile.fusion import Fusion
from .....template import Params
from ....arithmetic.base import Arithmetic
from ....arithmetic.integers import arithmetic_named
from ....window import Window
from ...template import conv_window
from ..geometry import Groups
from .transforms import TRANSFORMS, Transform

#: i16 of padding between planes: at distances of powers of two all planes would map to one set of L1.
PAD = 32
#: i16 of an i32.
WIDE = 2


@dataclass(frozen=True)
class Plan:
    """The sizes of one kernel. most: limit on tiles of a chunk. depth: pairs of channels of a part of the weights. lanes: i32 of a vector."""

    g: Window
    m: int
    most: int
    depth: int
    lanes: int
    threads: int
    arithmetic: Arithmetic

    @property
    def transform(self) -> Transform:
        return TRANSFORMS[self.m]

    @property
    def a(self) -> int:
        return self.m + 2

    @property
    def planes(self) -> int:
        return self.a**2

    @cached_property
    def groups(self) -> Groups:
        return Groups(self.g, self.lanes)

    @property
    def vectors(self) -> int:
        """Output vectors of a group, at most."""
        return max(vectors for vectors, _, _ in self.groups.groups)

    # -- tiles and channels ----------------------------------------------------------------------

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles in an image."""
        return -(-self.g.oh // self.m), -(-self.g.ow // self.m)

    @property
    def total(self) -> int:
        """Tiles of all images."""
        return self.g.n * math.prod(self.grid)

    @property
    def tiles(self) -> int:
        """Tiles of a chunk, at most all tiles."""
        return min(self.most, self.total)

    @property
    def chunks(self) -> int:
        return -(-self.total // self.tiles)

    @property
    def by_channels(self) -> bool:
        """Whether threads divide channels rather than chunks."""
        return self.chunks < self.threads

    @property
    def parts(self) -> int:
        """The number of parts of the channels; the last one may be filled up with weights of 0."""
        return -(-pairs(self.g) // self.depth)

    @property
    def channels(self) -> int:
        """Channels of a tile in a plane of V: whole blocks."""
        return self.g.in_blocks * self.g.block_in

    def part(self, vectors: int) -> int:
        """Packed weights, bytes, of a part of a group."""
        return self.depth * vectors * self.lanes * 2 * 9

    # -- scratch, in i16 ---------------------------------------------------------------------------

    @property
    def v_plane(self) -> int:
        return self.tiles * self.channels + PAD

    @property
    def u_plane(self) -> int:
        return self.depth * self.vectors * self.lanes * 2 + PAD

    @property
    def m_plane(self) -> int:
        return self.tiles * self.vectors * self.lanes * WIDE + PAD

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Elements of V, U, M and S. S holds a tile's padded input, or half of its output transform."""
        s = max(self.planes * self.g.block_in, self.m * self.a * self.vectors * self.lanes * WIDE)
        return self.planes * self.v_plane, self.planes * self.u_plane, self.planes * self.m_plane, s

    @property
    def scratch(self) -> int:
        """Elements of scratch of all threads."""
        v, *own = self.sizes
        return v * (1 if self.by_channels else self.threads) + self.threads * sum(own)


def pairs(g: Window) -> int:
    """Pairs of input channels."""
    return -(-g.c // 2)


def make_plan(fusion: Fusion, lanes: int, params: Params, threads: int) -> Plan:
    return Plan(conv_window(fusion), params["m"], params["tiles"], params["depth"], lanes, threads, arithmetic_named(params["arithmetic"]))
