"""Population counts in the lanes of a vector, added to i32: one class for each instruction sequence, all with the same results."""

from __future__ import annotations

from typing import ClassVar

from tvm import tirx as t

from ....codegen.builder import Buffer, Builder, Expr, const
from ....target import Target


class Counting:
    """Counts of words in vectors of `lanes` i32. A narrow accumulator takes `limit` words, then it is added to a wide one."""

    name: ClassVar[str]
    #: Words after which the narrow accumulator may be full; 0 where there is none, and words are counted into the wide one.
    limit: ClassVar[int] = 0
    #: Vector registers beside accumulators and weights.
    spare: ClassVar[int] = 2

    def runs_on(self, target: Target) -> bool:
        """Whether the target has the instructions."""
        return True

    def cycles(self, target: Target) -> float:
        """Cycles of a word in all lanes."""
        return 1.5

    def narrow(self, b: Builder, lanes: int) -> Buffer:
        """A narrow accumulator."""
        raise NotImplementedError

    def clear(self, b: Builder, acc: Buffer, lanes: int) -> None:
        """Set a narrow accumulator to zero."""
        raise NotImplementedError

    def add(self, b: Builder, acc: Buffer, value: Expr, lanes: int) -> None:
        """Count the bits of i32 lanes into an accumulator."""
        raise NotImplementedError

    def widened(self, b: Builder, acc: Buffer, lanes: int) -> Expr:
        """A narrow accumulator as i32."""
        raise NotImplementedError


class Dwords(Counting):
    """vpopcntd: an instruction counts 16 words."""

    name = "dwords"

    def runs_on(self, target: Target) -> bool:
        return target.popcounts

    def add(self, b: Builder, acc: Buffer, value: Expr, lanes: int) -> None:
        counts = t.Cast(f"int32x{lanes}", t.popcount(t.reinterpret(f"uint32x{lanes}", value)))
        b.store(acc, 0, b.load(acc, 0, lanes) + counts, lanes)


class Bytes(Counting):
    """Counts of bytes: a table lookup of nibbles (pshufb) on x86, cnt on ARM. A byte holds the counts of 31 words."""

    name = "bytes"
    limit = 31
    spare = 5

    def cycles(self, target: Target) -> float:
        # on ARM an instruction counts, on x86 it takes six
        return 1.5 if "aarch64" in target.triple else 4.0

    def narrow(self, b: Builder, lanes: int) -> Buffer:
        return b.local(4 * lanes, "uint8")

    def clear(self, b: Builder, acc: Buffer, lanes: int) -> None:
        b.store(acc, 0, const(0, "uint8", 4 * lanes), 4 * lanes)

    def add(self, b: Builder, acc: Buffer, value: Expr, lanes: int) -> None:
        counts = t.popcount(t.reinterpret(f"uint8x{4 * lanes}", value))
        b.store(acc, 0, b.load(acc, 0, 4 * lanes) + counts, 4 * lanes)

    def widened(self, b: Builder, acc: Buffer, lanes: int) -> Expr:
        """Pairs of bytes, then pairs of i16, by masks and shifts."""
        value = b.let("bytes", t.reinterpret(f"uint32x{lanes}", b.load(acc, 0, 4 * lanes)))
        low, eight, half = (const(c, "uint32", lanes) for c in (0x00FF00FF, 8, 16))
        pairs = b.let("pairs", t.bitwise_and(value, low) + t.bitwise_and(t.shift_right(value, eight), low))
        total = t.bitwise_and(pairs, const(0xFFFF, "uint32", lanes)) + t.shift_right(pairs, half)
        return t.reinterpret(f"int32x{lanes}", total)


#: The fastest first.
COUNTINGS: tuple[Counting, ...] = (Dwords(), Bytes())


def counting_named(name: str) -> Counting:
    """The class of counting that a template's parameters name."""
    return next(c for c in COUNTINGS if c.name == name)
