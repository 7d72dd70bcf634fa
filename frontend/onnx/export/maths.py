"""`Math` over ONNX nodes: what an elementwise operator's `f` is written out with, a user's own included."""

from __future__ import annotations

import math
from typing import Any

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
        op_type = {"rint": "Round"}.get(name, name.capitalize() if name in plain else "")
        if not op_type:
            raise AttributeError(name)
        return lambda x, *rest: self._call(op_type, x, *rest)

    def where(self, c: Term, a: Term, b: Term) -> Term:
        return self._call("Where", c, a, b, elem=a.elem)

    def mod(self, a: Term, b: Term) -> Term:
        """The sign of the divisor. ONNX says that for integers only; a float's remainder has the sign of the dividend."""
        if a.elem[0] in "iu":
            return self._call("Mod", a, b)
        r = self._call("Mod", a, b, fmod=1)
        zero = self.const(a, 0)
        differs = self._call("Xor", r < zero, b < zero)
        return self.where(self._call("And", differs, r != zero), r + b, r)

    def floordiv(self, a: Term, b: Term) -> Term:
        """The floor of the exact quotient. ONNX truncates that of integers; of floats it is (a - mod(a, b)) / b, rounded."""
        if a.elem[0] not in "iu":
            return self._call("Round", (a - self.mod(a, b)) / b)
        q = a / b
        rest, zero = a - q * b, self.const(a, 0)
        below = self._call("And", rest != zero, self._call("Xor", rest < zero, b < zero))
        return self.where(below, q - self.const(a, 1), q)

    def expm1(self, x: Term) -> Term:
        """2 t / (1 - t), t = tanh(x / 2), where exp(x) - 1 would cancel."""
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
