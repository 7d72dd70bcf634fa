"""`Math` over ONNX nodes: expands the `f` of elementwise operators, those of users included, into nodes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .builder import Builder


class Term:
    """A tensor's name and element type, with the operators that `f` may use."""

    def __init__(self, b: Builder, name: str, elem: str):
        self.b, self.name, self.elem = b, name, elem

    def _with(self, op_type: str, other: Any, elem: str | None = None) -> Term:
        return Term(self.b, self.b.node(op_type, self.name, other.name), elem or self.elem)

    def __add__(self, other: Any) -> Term:
        return self._with("Add", other)

    def __sub__(self, other: Any) -> Term:
        return self._with("Sub", other)

    def __mul__(self, other: Any) -> Term:
        return self._with("Mul", other)

    def __truediv__(self, other: Any) -> Term:
        return self._with("Div", other)

    def __lt__(self, other: Any) -> Term:
        return self._with("Less", other, "bool")

    def __le__(self, other: Any) -> Term:
        return self._with("LessOrEqual", other, "bool")

    def __gt__(self, other: Any) -> Term:
        return self._with("Greater", other, "bool")

    def __ge__(self, other: Any) -> Term:
        return self._with("GreaterOrEqual", other, "bool")

    def __eq__(self, other: object) -> Any:
        return self._with("Equal", other, "bool")

    def __ne__(self, other: object) -> Any:
        return Term(self.b, self.b.node("Not", self._with("Equal", other).name), "bool")

    __hash__ = None  # type: ignore[assignment]


class OnnxMath:
    """The namespace m of `f(m, *xs)`."""

    def __init__(self, b: Builder):
        self.b = b

    def _call(self, op_type: str, x: Term, *rest: Term, elem: str | None = None, **attributes: Any) -> Term:
        return Term(self.b, self.b.node(op_type, x.name, *(r.name for r in rest), **attributes), elem or x.elem)

    def __getattr__(self, name: str) -> Any:
        plain = {"exp", "log", "sqrt", "floor", "ceil", "abs", "tanh", "erf", "sigmoid", "pow", "mul", "add", "max", "min"}
        plain |= {"sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "acosh", "atanh"}
        bits = {"bitwise_and": "BitwiseAnd", "bitwise_or": "BitwiseOr", "bitwise_xor": "BitwiseXor"}
        op_type = {"rint": "Round", **bits}.get(name, name.capitalize() if name in plain else "")
        if not op_type:
            raise AttributeError(name)
        return lambda x, *rest: self._call(op_type, x, *rest)

    def where(self, c: Term, a: Term, b: Term) -> Term:
        return self._call("Where", c, a, b, elem=a.elem)

    def mod(self, a: Term, b: Term) -> Term:
        """Remainder with the sign of the divisor. ONNX has it for integers only; its remainder of floats has the sign of the dividend."""
        if a.elem[0] in "iu":
            return self._call("Mod", a, b)
        r = self._call("Mod", a, b, fmod=1)
        zero = self.const(a, 0)
        differs = self._call("Xor", r < zero, b < zero)
        return self.where(self._call("And", differs, r != zero), r + b, r)

    def floordiv(self, a: Term, b: Term) -> Term:
        """The floor of the exact quotient. ONNX truncates quotients of integers; for floats it is (a - mod(a, b)) / b, rounded."""
        if a.elem[0] not in "iu":
            return self._call("Round", (a - self.mod(a, b)) / b)
        q = a / b
        rest, zero = a - q * b, self.const(a, 0)
        below = self._call("And", rest != zero, self._call("Xor", rest < zero, b < zero))
        return self.where(below, q - self.const(a, 1), q)

    def atan2(self, a: Term, b: Term) -> Term:
        """The angle between the nearer axis and (|b|, |a|), then moved to its quadrant."""
        zero, one, size, other = self.const(a, 0), self.const(a, 1), self.abs(a), self.abs(b)
        larger, smaller = self.max(size, other), self.min(size, other)
        ratio = self.where(smaller == larger, self.where(larger == zero, zero, one), smaller / larger)
        angle = self._call("Atan", ratio)
        angle = self.where(size > other, self.const(a, math.pi / 2) - angle, angle)
        angle = self.where(self.signbit(b), self.const(a, math.pi) - angle, angle)
        return self.where(self.signbit(a), self._call("Neg", angle), angle)

    def signbit(self, x: Term) -> Term:
        """Whether x is negative, -0 included; the sign of NaN is not visible in ONNX."""
        zero = self.const(x, 0)
        return self._call("Or", x < zero, self._call("And", x == zero, self.const(x, 1) / x < zero))

    def shift_left(self, a: Term, b: Term) -> Term:
        """ONNX shifts unsigned integers only; signed ones are multiplied by a power of 2."""
        if a.elem[0] == "u":
            return self._call("BitShift", a, b, direction="LEFT")
        return a * self._power_of_two(b, a.elem)

    def shift_right(self, a: Term, b: Term) -> Term:
        """The floor of the quotient by a power of 2; a shift by all bits but the sign leaves 0 or -1, as its power does not fit the type."""
        if a.elem[0] == "u":
            return self._call("BitShift", a, b, direction="RIGHT")
        bits = int(a.elem[1:])
        power = self._power_of_two(self.where(b < self.const(b, bits - 1), b, self.const(b, 0)), a.elem)
        sign = self.where(a < self.const(a, 0), self.const(a, -1), self.const(a, 0))
        return self.where(b < self.const(b, bits - 1), self.floordiv(a, power), sign)

    def _power_of_two(self, b: Term, elem: str) -> Term:
        """2^b, read from a table."""
        bits = int(elem[1:])
        table = self.b.const(np.array([1 << i for i in range(bits - 1)] + [-(1 << (bits - 1))], np.int64), elem)
        return Term(self.b, self.b.node("Gather", table, self.b.cast(b.name, "i64")), elem)

    def expm1(self, x: Term) -> Term:
        """2 t / (1 - t), t = tanh(x / 2), for |x| < 1, where exp(x) - 1 would cancel."""
        t, one = self.tanh(x * self.const(x, 0.5)), self.const(x, 1)
        return self.where(self.abs(x) < one, (t + t) / (one - t), self.exp(x) - one)

    def log1p(self, x: Term) -> Term:
        """log(u) x / (u - 1), u = 1 + x, where the sum loses digits of x (Kahan)."""
        one = self.const(x, 1)
        u = one + x
        near = self.where(u == one, x, self.log(u) * (x / (u - one)))
        return self.where(x < one, near, self.log(u))

    def log2(self, x: Term) -> Term:
        return self._call("Log", x) * self.const(x, 1 / math.log(2))

    def log10(self, x: Term) -> Term:
        return self._call("Log", x) * self.const(x, 1 / math.log(10))

    def cast(self, x: Term, elem: str) -> Term:
        return Term(self.b, self.b.cast(x.name, elem), elem)

    def const(self, x: Term, value: float) -> Term:
        return Term(self.b, self.b.const(value, x.elem), x.elem)
