"""Comparisons and logic: elementwise operators that give bool."""

from __future__ import annotations

from typing import Any

from ..op import Value
from ..types import Tensor
from .check import broadcast_type, exactly, plain
from .elementwise import Elementwise
from .namespace import Math


class Ordering(Elementwise):
    """Two operands of one plain type but bool; gives bool."""

    a: Value
    b: Value

    def infer(self) -> Tensor:
        plain(self, "a", "b")
        return broadcast_type(self, [self.a.type, self.b.type], "bool")


class Less(Ordering, name="nn.less"):
    def f(self, m: Math, a: Any, b: Any) -> Any:
        return a < b


class LessEqual(Ordering, name="nn.less_equal"):
    def f(self, m: Math, a: Any, b: Any) -> Any:
        return a <= b


class Greater(Ordering, name="nn.greater"):
    def f(self, m: Math, a: Any, b: Any) -> Any:
        return a > b


class GreaterEqual(Ordering, name="nn.greater_equal"):
    def f(self, m: Math, a: Any, b: Any) -> Any:
        return a >= b


class Equality(Ordering):
    """Two operands of one plain type, bool included; gives bool."""

    def infer(self) -> Tensor:
        plain(self, "a", "b", boolean=True)
        return broadcast_type(self, [self.a.type, self.b.type], "bool")


class Equal(Equality, name="nn.equal"):
    def f(self, m: Math, a: Any, b: Any) -> Any:
        return a == b


class NotEqual(Equality, name="nn.not_equal"):
    def f(self, m: Math, a: Any, b: Any) -> Any:
        return a != b


class Logical(Elementwise):
    """Two bool operands; gives bool."""

    a: Value
    b: Value

    def infer(self) -> Tensor:
        exactly(self, "bool", "a", "b")
        return broadcast_type(self, [self.a.type, self.b.type], "bool")


class LogicalAnd(Logical, name="nn.logical_and"):
    def f(self, m: Math, a: Any, b: Any) -> Any:
        return m.where(a, b, a)


class LogicalOr(Logical, name="nn.logical_or"):
    def f(self, m: Math, a: Any, b: Any) -> Any:
        return m.where(a, a, b)


class LogicalNot(Elementwise, name="nn.logical_not"):
    x: Value

    def infer(self) -> Tensor:
        exactly(self, "bool", "x")
        return self.x.type

    def f(self, m: Math, x: Any) -> Any:
        return m.where(x, m.const(x, False), m.const(x, True))
