"""Elementwise operators: each defines its maths once, as `f(m, *xs)` over a small namespace (`namespace.Math`).

`evaluate` runs f over torch, the backend over TensorIR vectors. Operands broadcast as in numpy and have one element type.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from ..op import Op, Value
from ..ties import Tie
from ..types import NUMPY, Tensor
from .check import broadcast_type, exactly, floats, plain
from .namespace import Math, TorchMath
from .tied import broadcast_ties

if TYPE_CHECKING:
    import torch

torch_math = cache(TorchMath)


class Elementwise(Op):
    """Base of operators that act on each element alone; the operand fields are f's arguments after m.

    transcendental: `f` takes many instructions (exponentials, logarithms, remainders), so kernels do not unroll it for every register.
    """

    transcendental: ClassVar[bool] = False

    #: Operands that f reads by `m.take`, not element by element.
    tables: ClassVar[tuple[str, ...]] = ()

    @property
    def by_element(self) -> list[Value]:
        """The operands except tables."""
        whole = [getattr(self, name) for name in self.tables]
        return [v for v in self.operands if v not in whole]

    def f(self, m: Math, *xs: Any) -> Any:
        """The maths, over the namespace m."""
        raise NotImplementedError(f"{type(self).__name__}.f")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = self.f(torch_math(), *xs)
        return y

    def ties(self) -> Iterable[Tie]:
        return broadcast_ties(self.operands, self.out)


class Unary(Elementwise):
    """One operand; the result has its type. Here the operand must be a float."""

    channelwise = True

    x: Value

    def infer(self) -> Tensor:
        floats(self, "x")
        return self.x.type


class NumericUnary(Unary):
    """One operand of any plain type but bool."""

    def infer(self) -> Tensor:
        plain(self, "x")
        return self.x.type


class Tanh(Unary, name="nn.tanh"):
    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.tanh(x)


class Exp(Unary, name="nn.exp"):
    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.exp(x)


class Expm1(Unary, name="nn.expm1"):
    """exp(x) - 1, which keeps the digits of small x"""

    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.expm1(x)


class Log(Unary, name="nn.log"):
    """Natural logarithm"""

    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.log(x)


class Log1p(Unary, name="nn.log1p"):
    """log(1 + x), which keeps the digits of small x"""

    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.log1p(x)


class Log2(Unary, name="nn.log2"):
    """Logarithm to base 2; exact at powers of 2"""

    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.log2(x)


class Log10(Unary, name="nn.log10"):
    """Logarithm to base 10"""

    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.log10(x)


class Asinh(Unary, name="nn.asinh"):
    """Inverse hyperbolic sine, log(x + sqrt(x^2 + 1))

    With a = |x| it is log1p(a) + log1p(q), q = (sqrt(1 + a^2) - 1 + ...) / (1 + a) = 1 / ((1 + i) (i + sqrt(1 + i^2))), i = 1/a: nothing
    cancels and nothing overflows. For a < 1, q is a^2 / ((1 + a) (1 + sqrt(1 + a^2))), which is the same.
    """

    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        zero, one = m.const(x, 0), m.const(x, 1)
        a = m.where(x < zero, zero - x, x)
        small = a < one
        b = m.where(small, a, one / m.where(small, one, a))
        q = m.where(small, b * b, one) / ((one + b) * (m.where(small, one, b) + m.sqrt(one + b * b)))
        y = m.log1p(a) + m.log1p(q)
        return m.where(x < zero, zero - y, y)


class Sqrt(Unary, name="nn.sqrt"):
    def f(self, m: Math, x: Any) -> Any:
        return m.sqrt(x)


class Rsqrt(Unary, name="nn.rsqrt"):
    """1 / sqrt(x)"""

    def f(self, m: Math, x: Any) -> Any:
        return m.const(x, 1) / m.sqrt(x)


class Erf(Unary, name="nn.erf"):
    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.erf(x)


class Neg(NumericUnary, name="nn.neg"):
    def f(self, m: Math, x: Any) -> Any:
        # 0 - x would lose the sign of zero; u8 has no -1
        return x * m.const(x, -1) if self.x.type.is_float else m.const(x, 0) - x


class Abs(NumericUnary, name="nn.abs"):
    def f(self, m: Math, x: Any) -> Any:
        return m.abs(x)


class Floor(NumericUnary, name="nn.floor"):
    def f(self, m: Math, x: Any) -> Any:
        return m.floor(x) if self.x.type.is_float else x


class Ceil(NumericUnary, name="nn.ceil"):
    def f(self, m: Math, x: Any) -> Any:
        return m.ceil(x) if self.x.type.is_float else x


class Round(NumericUnary, name="nn.round"):
    """Nearest integer, halves to even"""

    def f(self, m: Math, x: Any) -> Any:
        return m.rint(x) if self.x.type.is_float else x


class Signbit(Elementwise, name="nn.signbit"):
    """Whether the sign bit of a float is set, that of zeros and NaN included."""

    x: Value

    def infer(self) -> Tensor:
        floats(self, "x")
        return Tensor(self.x.shape, "bool", self.x.type.layout)

    def f(self, m: Math, x: Any) -> Any:
        return m.signbit(x)


class Cast(Elementwise, name="nn.cast"):
    """x as another plain element type; float to integer truncates, anything to bool is x != 0."""

    x: Value
    elem: str

    def infer(self) -> Tensor:
        plain(self, "x", boolean=True)
        if self.elem not in NUMPY:
            raise self.fail(f"elem must be one of {', '.join(NUMPY)}, got {self.elem}")
        return Tensor(self.x.shape, self.elem, self.x.type.layout)

    def f(self, m: Math, x: Any) -> Any:
        return m.cast(x, self.elem)


class Binary(Elementwise):
    """Two operands of one plain element type but bool, which is also the result's; shapes broadcast."""

    a: Value
    b: Value

    def infer(self) -> Tensor:
        return broadcast_type(self, [self.a.type, self.b.type], plain(self, "a", "b"))


class Add(Binary, name="nn.add"):
    affine = True

    def f(self, m: Math, a: Any, b: Any) -> Any:
        return a + b


class Sub(Binary, name="nn.sub"):
    affine = True

    def f(self, m: Math, a: Any, b: Any) -> Any:
        return a - b


class Mul(Binary, name="nn.mul"):
    affine = True

    def f(self, m: Math, a: Any, b: Any) -> Any:
        return a * b


class Div(Binary, name="nn.div"):
    """a / b of floats"""

    affine = True

    def infer(self) -> Tensor:
        return broadcast_type(self, [self.a.type, self.b.type], floats(self, "a", "b"))

    def f(self, m: Math, a: Any, b: Any) -> Any:
        return a / b


class FloorDivide(Binary, name="nn.floor_divide"):
    """a // b as in Python: the floor of the exact quotient, so 1 // 0.1 is 9 in f32, whose 0.1 is a little more"""

    transcendental = True

    def f(self, m: Math, a: Any, b: Any) -> Any:
        return m.floordiv(a, b)


class TruncDivide(Binary, name="nn.trunc_divide"):
    """The quotient without its fraction: of floats a / b rounded, then truncated; exact for integers"""

    transcendental = True

    def f(self, m: Math, a: Any, b: Any) -> Any:
        zero = m.const(a, 0)
        if self.a.type.is_float:
            q = a / b
            return m.where(q >= zero, m.floor(q), m.ceil(q))
        q = m.floordiv(a, b)
        # of a negative quotient the floor is one less than the truncation, unless the division is exact
        return m.where(q < zero, m.where(q * b == a, q, q + m.const(a, 1)), q)


class Pow(Binary, name="nn.pow"):
    """a ** b"""

    transcendental = True

    def f(self, m: Math, a: Any, b: Any) -> Any:
        return m.pow(a, b)


class Maximum(Binary, name="nn.maximum"):
    def f(self, m: Math, a: Any, b: Any) -> Any:
        return m.max(a, b)


class Minimum(Binary, name="nn.minimum"):
    def f(self, m: Math, a: Any, b: Any) -> Any:
        return m.min(a, b)


class Remainder(Binary, name="nn.remainder"):
    """a - floor(a / b) * b, exactly: the sign of the divisor (Python's `%`)"""

    transcendental = True

    def f(self, m: Math, a: Any, b: Any) -> Any:
        return m.mod(a, b)


class Where(Elementwise, name="nn.where"):
    """a where the boolean c holds, else b; shapes broadcast."""

    c: Value
    a: Value
    b: Value

    def infer(self) -> Tensor:
        exactly(self, "bool", "c")
        elem = plain(self, "a", "b", boolean=True)
        return broadcast_type(self, [self.c.type, self.a.type, self.b.type], elem)

    def f(self, m: Math, c: Any, a: Any, b: Any) -> Any:
        return m.where(c, a, b)
