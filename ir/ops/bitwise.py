"""Operators on the bits of integers; signed types are in two's complement."""

from __future__ import annotations

from typing import Any

from ..types import FLOATS, NUMPY, Elem, Tensor
from .check import broadcast_type, plain
from .elementwise import Binary
from .namespace import Math


class Bitwise(Binary):
    """Two operands of one integer type, which is also the result's; shapes broadcast."""

    def infer(self) -> Tensor:
        return broadcast_type(self, [self.a.type, self.b.type], self.integers())

    def integers(self) -> Elem:
        """The element type, checked."""
        if self.a.type.elem in FLOATS:
            raise self.fail(f"a must hold integers, got {self.a.type}")
        return plain(self, "a", "b")

    @property
    def width(self) -> int:
        """Bits of an element."""
        return 8 * NUMPY[str(self.a.type.elem)].itemsize


class BitwiseAnd(Bitwise, name="nn.bitwise_and"):
    def f(self, m: Math, a: Any, b: Any) -> Any:
        return m.bitwise_and(a, b)


class BitwiseOr(Bitwise, name="nn.bitwise_or"):
    def f(self, m: Math, a: Any, b: Any) -> Any:
        return m.bitwise_or(a, b)


class BitwiseXor(Bitwise, name="nn.bitwise_xor"):
    def f(self, m: Math, a: Any, b: Any) -> Any:
        return m.bitwise_xor(a, b)


class Shift(Bitwise):
    """Shift by b bits; a negative b, or one of at least the width of the type, counts as the width."""

    def amount(self, m: Math, b: Any) -> tuple[Any, Any]:
        """The number of bits to shift by, and the same limited to width - 1, which a processor needs."""
        signed = str(self.b.type.elem).startswith("i")
        places = m.where(b >= m.const(b, 0), b, m.const(b, self.width)) if signed else b
        return places, m.min(places, m.const(b, self.width - 1))


class ShiftLeft(Shift, name="nn.shift_left"):
    """a * 2^b, wrapped; 0 where b counts as the width"""

    def f(self, m: Math, a: Any, b: Any) -> Any:
        places, valid = self.amount(m, b)
        return m.where(places == valid, m.shift_left(a, valid), m.const(a, 0))


class ShiftRight(Shift, name="nn.shift_right"):
    """The floor of a / 2^b"""

    def f(self, m: Math, a: Any, b: Any) -> Any:
        places, valid = self.amount(m, b)
        y = m.shift_right(a, valid)
        return y if str(self.a.type.elem).startswith("i") else m.where(places == valid, y, m.const(a, 0))
