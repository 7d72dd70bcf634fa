"""Trigonometric and hyperbolic functions, of angles in radians."""

from __future__ import annotations

from typing import Any

from ..types import Tensor
from .check import broadcast_type, floats
from .elementwise import Binary, Unary
from .namespace import Math


class Sin(Unary, name="nn.sin"):
    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.sin(x)


class Cos(Unary, name="nn.cos"):
    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.cos(x)


class Tan(Unary, name="nn.tan"):
    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.tan(x)


class Asin(Unary, name="nn.asin"):
    """Inverse sine, from -pi/2 to pi/2; NaN outside of -1 to 1"""

    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.asin(x)


class Acos(Unary, name="nn.acos"):
    """Inverse cosine, from 0 to pi; NaN outside of -1 to 1"""

    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.acos(x)


class Atan(Unary, name="nn.atan"):
    """Inverse tangent, from -pi/2 to pi/2"""

    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.atan(x)


class Sinh(Unary, name="nn.sinh"):
    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.sinh(x)


class Cosh(Unary, name="nn.cosh"):
    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.cosh(x)


class Acosh(Unary, name="nn.acosh"):
    """Inverse hyperbolic cosine; NaN below 1"""

    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.acosh(x)


class Atanh(Unary, name="nn.atanh"):
    """Inverse hyperbolic tangent; infinite at -1 and 1, NaN beyond"""

    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.atanh(x)


class Atan2(Binary, name="nn.atan2"):
    """The angle of the point (b, a), from -pi to pi; the signs of zeros count."""

    transcendental = True

    def infer(self) -> Tensor:
        return broadcast_type(self, [self.a.type, self.b.type], floats(self, "a", "b"))

    def f(self, m: Math, a: Any, b: Any) -> Any:
        return m.atan2(a, b)
