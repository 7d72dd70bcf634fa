"""The integer micro-kernel: a register tile of rows (pixels) times vectors of outputs, multiplied by an `Arithmetic`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx as t

from ...codegen.builder import Buffer, Builder, Expr
from ...target import Target
from .arithmetic.base import Arithmetic

#: Bytes of a cache line.
LINE_BYTES = 64
#: Tiles prefetch the next panel of weights only if at most this many share a panel.
TILES = 64


@dataclass
class IntegerTile:
    """Accumulators of `rows` x `vectors` vectors of `lanes` i32."""

    b: Builder
    arithmetic: Arithmetic
    rows: int
    vectors: int
    lanes: int

    def __post_init__(self) -> None:
        self.acc = [[self.b.local(self.lanes, "int32") for _ in range(self.vectors)] for _ in range(self.rows)]

    @property
    def panel(self) -> int:
        """Elements of packed weights of a step."""
        return self.vectors * self.lanes * self.arithmetic.each

    def start(self, bias: Callable[[int, int], Expr], kinds: Sequence[int] | None = None) -> None:
        """Begin from `bias(j, kind)` of each vector j. kinds: one for each row; all 0 unless given."""
        kinds = kinds or [0] * self.rows
        for j in range(self.vectors):
            biases = {kind: self.b.let("bias", bias(j, kind)) for kind in dict.fromkeys(kinds)}
            for i, kind in enumerate(kinds):
                self.b.store(self.acc[i][j], 0, biases[kind], self.lanes)

    def step(self, x: Buffer, rows: Sequence[tuple[int, Expr]], w: Buffer, at: Expr) -> None:
        """The channels of a step of each (row, element of x at which they begin), times the weights from element `at` on."""
        b, lanes, how = self.b, self.lanes, self.arithmetic
        weights = [how.load(b, w, at + j * lanes * how.each, lanes) for j in range(self.vectors)]
        for i, address in rows:
            operands = how.operands(b, x, address, lanes)
            for acc, own in zip(self.acc[i], weights):
                b.store(acc, 0, how.multiply(b, b.load(acc, 0, lanes), operands, own, lanes), lanes)

    def steps(self, x: Buffer, rows: Sequence[tuple[int, Expr]], w: Buffer, at: Expr, count: int, unroll: int = 4) -> None:
        """`count` neighbouring steps of each row."""
        whole = count // unroll
        with self.b.range("d", 0, whole) as d:
            for i in range(unroll if whole else 0):
                self._nth(x, rows, w, at, d * unroll + i)
        for i in range(whole * unroll, count):
            self._nth(x, rows, w, at, i)

    def _nth(self, x: Buffer, rows: Sequence[tuple[int, Expr]], w: Buffer, at: Expr, number: Expr) -> None:
        self.step(x, [(i, row + number * self.arithmetic.channels) for i, row in rows], w, at + number * self.panel)

    def fetch(self, w: Buffer, at: Expr, dwords: int, number: Expr, tiles: int) -> None:
        """Prefetch one tile's share of the next panel: weights of `dwords` from element `at` on, the share of tile `number` of the `tiles` that
        read the current panel. Does nothing where many tiles share a panel."""
        if tiles > TILES:
            return
        line = LINE_BYTES // np.dtype(self.arithmetic.dtype).itemsize
        lines = -(-dwords * self.panel // line)
        share = -(-lines // tiles)
        start = self.b.let("ahead", at + t.min(number * share, lines - share) * line)
        for i in range(share):
            self.b.prefetch(w, start + i * line, locality="L2")

    def value(self, i: int, j: int) -> Expr:
        return self.b.load(self.acc[i][j], 0, self.lanes)


def max_rows(target: Target, vectors: int, arithmetic: Arithmetic) -> int:
    """Rows whose accumulators fit the registers that a step leaves free."""
    free = target.registers - vectors * arithmetic.per_vector - arithmetic.per_step
    return max(1, min(free // vectors, 24 if target.registers == 32 else 12))


def tile_cycles(target: Target, rows: int, vectors: int, steps: float, arithmetic: Arithmetic) -> float:
    """Modelled cycles of `rows` times `vectors` accumulators over `steps` dwords."""
    biggest = max_rows(target, vectors, arithmetic)
    tiles = [biggest] * (rows // biggest) + ([rows % biggest] if rows % biggest else [])
    return sum(max(m * vectors, 4) * arithmetic.cycles * steps + 6 * m * vectors for m in tiles)
