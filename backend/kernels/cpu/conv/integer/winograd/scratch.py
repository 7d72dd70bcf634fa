"""Base of the phases of an integer Winograd kernel: per-thread scratch, and the positions of tiles in the map."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as t

from ......codegen.builder import Buffer, Expr
from ......codegen.kernel_builder import KernelBuilder
from .plan import WIDE, Plan


@dataclass
class Scratch:
    """A phase and its scratch. worker: the index of a thread."""

    k: KernelBuilder
    p: Plan
    worker: Expr = 0

    @property
    def buffer(self) -> Buffer:
        assert self.k.scratch is not None
        return self.k.scratch

    def place(self, name: str) -> Expr:
        """The offset of this worker's V, U, M or S. V comes first, and threads that divide channels share it."""
        sizes = dict(zip("vums", self.p.sizes))
        shared = sizes["v"] if self.p.by_channels else 0
        own = sum(sizes.values()) - shared
        before = sum(size for other, size in sizes.items() if "vums".index(other) < "vums".index(name))
        return before if name == "v" and shared else self.worker * own + before

    def load(self, at: Expr) -> Expr:
        """A vector of i32."""
        lanes = self.p.lanes
        return t.reinterpret(f"int32x{lanes}", self.k.b.load(self.buffer, at, WIDE * lanes))

    def store(self, at: Expr, value: Expr) -> None:
        """A vector of i32."""
        lanes = self.p.lanes
        self.k.b.store(self.buffer, at, t.reinterpret(f"int16x{WIDE * lanes}", value), WIDE * lanes)

    def tile(self, number: Expr) -> tuple[Expr, Expr, Expr]:
        """Image, and upper left output pixel of a tile."""
        b, (high, wide) = self.k.b, self.p.grid
        number = b.let("number", number)
        image = b.let("image", t.floordiv(number, high * wide))
        row = b.let("oy", t.floordiv(t.floormod(number, high * wide), wide) * self.p.m)
        return image, row, b.let("ox", t.floormod(number, wide) * self.p.m)
