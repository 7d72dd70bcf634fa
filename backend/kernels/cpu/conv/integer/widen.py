"""Bytes of a chunk of pixels widened to i16 in per-thread scratch: [input block][pixel][channel], or padded rows (`Copy`).

Where no instruction multiplies bytes, a pair of channels is then one broadcast from memory; bytes would have to be unpacked for each register tile.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as t

from .....codegen.builder import Buffer, Expr
from .....codegen.kernel_builder import KernelBuilder
from .....target import Target
from ...arithmetic.base import STEP
from ...arithmetic.integers import arithmetic_named, fitting_pairs
from ...window import Window

#: Bytes of an i16.
WIDE = 2
#: i16 of padding after the copy, which the last store of a pixel may reach.
SLACK = 32


def widening(target: Target, names: list[str]) -> list[str]:
    """The arithmetics of i16 that are faster than those of bytes. names: the byte arithmetics that fit a layer, the fastest first."""
    bytewise = arithmetic_named(names[0])
    pairs = fitting_pairs(target)[:1]
    return [name for name in pairs if arithmetic_named(name).dword_cycles < bytewise.dword_cycles]


def widened(g: Window, chunk: int) -> int:
    """Elements of a thread's part."""
    return g.in_blocks * chunk * g.block_in


def widen(k: KernelBuilder, g: Window, to: Buffer, at: Expr, image: Expr, first: Expr, count: Expr, chunk: int) -> None:
    """Pixels `first` to before `first + count` of an image, to element `at` on."""
    b, block, (stride, plane) = k.b, g.block_in, k.fusion.map_rows(k.anchor.x).cut(1)
    with b.loop("kb", 0, g.in_blocks) as kb:
        source, place = b.let("source", image * stride + kb * plane + first * block), b.let("place", at + kb * (chunk * block))
        with b.loop("pixel", 0, count) as pixel:
            value = b.load(k.args[k.anchor.x], source + pixel * block, block)
            b.store(to, place + pixel * block, t.Cast(f"int16x{block}", value), block)


@dataclass(frozen=True)
class Copy:
    """The copy of the rows that `chunk` output rows read: [input block][row][column][channel]."""

    g: Window
    chunk: int

    @property
    def taken(self) -> tuple[int, int]:
        """Steps of rows and columns in the map that are copied: a kernel of one row or column skips those between its strides."""
        return self.g.sh if self.g.kh == 1 else 1, self.g.sw if self.g.kw == 1 else 1

    @property
    def steps(self) -> tuple[int, int]:
        """Rows and columns of the copy from one output to the next."""
        return self.g.sh // self.taken[0], self.g.sw // self.taken[1]

    @property
    def rows(self) -> int:
        return (self.chunk - 1) * self.steps[0] + (self.g.kh - 1) * self.g.dh + 1

    @property
    def columns(self) -> int:
        return (self.g.ow - 1) * self.steps[1] + (self.g.kw - 1) * self.g.dw + 1

    @property
    def inside(self) -> tuple[int, int]:
        """First and one past the last of the columns that lie in the map."""
        low = min(self.columns, -(-self.g.left // self.taken[1]))
        return low, max(low, min(self.columns, (self.g.w - 1 + self.g.left) // self.taken[1] + 1))

    @property
    def dense(self) -> bool:
        """Whether a kernel row of a pixel is one run of channels."""
        return self.g.block_in == STEP and self.g.dw == 1

    @property
    def pixel(self) -> int:
        return self.g.c if self.dense else self.g.block_in

    @property
    def row(self) -> int:
        return self.columns * self.pixel

    @property
    def pairs(self) -> int:
        """Pairs of channels of a kernel row that is one run."""
        return -(-self.g.kw * self.g.c // 2)

    @property
    def size(self) -> int:
        return self.g.in_blocks * self.rows * self.row + SLACK
