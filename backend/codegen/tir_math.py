"""The `Math` namespace over TensorIR, in which elementwise operators become code: the counterpart of torch in `evaluate`.

f32 functions are those of `vector_math`; f16 computes in f32, f64 calls libm. LLVM may contract a * b + c into one fused multiply-add; `mul`
and `add` are fenced against it. NaN goes through max and min as in torch; which zero they return for +0 and -0 is not specified.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx as t

from .builder import TIR_DTYPE, Buffer, Expr, expression, not_equal
from .ieee import is_float
from .vector_math import VectorMath, cast, convert, dtype_of, is_constant


def _libm(name: str) -> Callable[[TirMath, Expr], Expr]:
    """A function of the C library, lane by lane in f64: an angle of any size is reduced exactly."""

    def function(self: TirMath, x: Expr) -> Expr:
        return self._named(convert(self._by_lane(name, self._wide(x)), dtype_of(x)))

    return function


class TirMath(VectorMath):
    """`Math` over TensorIR vectors."""

    sin = _libm("sin")
    cos = _libm("cos")
    tan = _libm("tan")
    asin = _libm("asin")
    acos = _libm("acos")
    atan = _libm("atan")
    sinh = _libm("sinh")
    cosh = _libm("cosh")
    acosh = _libm("acosh")
    atanh = _libm("atanh")

    # -- arithmetic ----------------------------------------------------------------------------

    def mul(self, a: Expr, b: Expr) -> Expr:
        return self._fence(a * b)

    def add(self, a: Expr, b: Expr) -> Expr:
        return self._fence(a) + self._fence(b)

    def fma(self, a: Expr, b: Expr, c: Expr) -> Expr:
        """One instruction where the processor has it, else a call of the C library for each lane."""
        return t.call_llvm_pure_intrin(str(c.ty.dtype), "llvm.fma", a, b, c)

    def mod(self, a: Expr, b: Expr) -> Expr:
        """The exact remainder, even where the quotient has more digits than a float: fmod of the C library, lane by lane."""
        if not is_float(a):
            return t.floormod(a, self._divisor(b))
        dtype = dtype_of(a)
        a, b, rest = self._divided(a, b)
        return convert(t.Select(self._floored(rest, b), rest + b, rest), dtype)

    def floordiv(self, a: Expr, b: Expr) -> Expr:
        """For floats (a - fmod(a, b)) / b, minus 1 where the remainder has the other sign, rounded: as torch and Python do it."""
        if not is_float(a):
            return self._integer_quotient(a, b)
        dtype = dtype_of(a)
        a, b, rest = self._divided(a, b)
        quotient = self._named((a - rest) / b)
        quotient = self._named(t.Select(self._floored(rest, b), quotient - self.const(a, 1), quotient))
        exact = t.EQ(b, self.const(b, 0))
        return convert(t.Select(exact, a / b, self._call("llvm.roundeven", quotient)), dtype)

    def _integer_quotient(self, a: Expr, b: Expr) -> Expr:
        """The floor of a / b; 0 for b = 0."""
        a, b = self._named(a), self._named(b)
        zero = self.const(a, 0)
        quotient = t.Select(t.EQ(b, zero), zero, t.floordiv(a, self._divisor(b)))
        return self._named(quotient if dtype_of(b).startswith("u") else t.Select(t.EQ(b, self.const(b, -1)), zero - a, quotient))

    def _divisor(self, b: Expr) -> Expr:
        """b, but 1 where the processor would trap: for 0, and for -1, since the lowest integer has no quotient by it."""
        b = self._named(b)
        if is_constant(b):
            return b
        special = t.EQ(b, self.const(b, 0))
        special = special if dtype_of(b).startswith("u") else t.any(special, t.EQ(b, self.const(b, -1)))
        return self._named(t.Select(special, self.const(b, 1), b))

    def _divided(self, a: Expr, b: Expr) -> tuple[Expr, Expr, Expr]:
        """a, b and fmod(a, b), f16 as f32."""
        wide = "float64" if dtype_of(a) == "float64" else "float32"
        a, b = self._named(convert(a, wide)), self._named(convert(b, wide))
        return a, b, self._named(self._by_lane("fmod" if wide == "float64" else "fmodf", a, b))

    def _floored(self, rest: Expr, b: Expr) -> Expr:
        """Whether the floor of a quotient is one below its truncation: the remainder's sign is not the divisor's."""
        zero = self.const(b, 0)
        return t.any(t.all(rest < zero, b > zero), t.all(rest > zero, b < zero))

    # -- bits ----------------------------------------------------------------------------------

    def bitwise_and(self, a: Expr, b: Expr) -> Expr:
        return t.bitwise_and(a, b)

    def bitwise_or(self, a: Expr, b: Expr) -> Expr:
        return t.bitwise_or(a, b)

    def bitwise_xor(self, a: Expr, b: Expr) -> Expr:
        return t.bitwise_xor(a, b)

    def shift_left(self, a: Expr, b: Expr) -> Expr:
        return t.shift_left(a, b)

    def shift_right(self, a: Expr, b: Expr) -> Expr:
        return t.shift_right(a, b)

    # -- selection and conversion --------------------------------------------------------------

    def where(self, c: Expr, a: Expr, b: Expr) -> Expr:
        return t.Select(expression(c), expression(a), expression(b))

    def cast(self, x: Expr, elem: str) -> Expr:
        """Convert; to small integers through i32, so that values out of range wrap as in torch."""
        x = expression(x)
        dtype = TIR_DTYPE[elem]
        if dtype == dtype_of(x):
            return x
        if dtype == "bool":
            return not_equal(x, self.const(x, 0))
        if is_float(x) and dtype in ("int8", "int16", "uint8"):
            x = cast(x, "int32")
        return convert(x, dtype)

    def take(self, table: Buffer, index: Expr) -> Expr:
        return t.BufferLoad(table.raw, [index])

    # -- roundings and roots -------------------------------------------------------------------

    def sqrt(self, x: Expr) -> Expr:
        return self._rounding(x, "llvm.sqrt")

    def rint(self, x: Expr) -> Expr:
        return self._rounding(x, "llvm.roundeven")

    def floor(self, x: Expr) -> Expr:
        return self._rounding(x, "llvm.floor")

    def ceil(self, x: Expr) -> Expr:
        return self._rounding(x, "llvm.ceil")

    # -- transcendental functions --------------------------------------------------------------

    def exp(self, x: Expr) -> Expr:
        return self._function(x, self._exp32, t.exp)

    def exp_negative(self, x: Expr) -> Expr:
        """exp of x <= 0, a quarter faster: denormal results are 0."""
        return self._function(x, self._exp_negative32, t.exp)

    def log(self, x: Expr) -> Expr:
        return self._function(x, self._log32, t.log)

    def expm1(self, x: Expr) -> Expr:
        return self._function(x, self._expm1_32, lambda x: self._by_lane("expm1", x))

    def log1p(self, x: Expr) -> Expr:
        return self._function(x, self._log1p32, lambda x: self._by_lane("log1p", x))

    def log2(self, x: Expr) -> Expr:
        return self._function(x, lambda x: self._logarithm(x, 1.0), lambda x: self._by_lane("log2", x))

    def log10(self, x: Expr) -> Expr:
        return self._function(x, lambda x: self._logarithm(x, math.log10(2)), lambda x: self._by_lane("log10", x))

    def _logarithm(self, x: Expr, factor: float) -> Expr:
        """log2(x) * factor in f64, rounded once."""
        log2 = self._log2_64(self._wide(self.abs(x)))
        y = convert(log2 * self.const(log2, factor), "float32")
        return self._log_domain(x, 0, t.Select(t.isnan(x), x, y))

    def tanh(self, x: Expr) -> Expr:
        return self._function(x, self._tanh32, t.tanh)

    def erf(self, x: Expr) -> Expr:
        return self._function(x, self._erf32, lambda x: self._by_lane("erf", x))

    def sigmoid(self, x: Expr) -> Expr:
        return self._function(x, self._sigmoid, self._sigmoid)

    def signbit(self, x: Expr) -> Expr:
        bits = self._bits(self._named(convert(x, "float32") if dtype_of(x) == "float16" else x))
        return bits < self.const(bits, 0)

    def atan2(self, a: Expr, b: Expr) -> Expr:
        dtype = dtype_of(a)
        return self._named(convert(self._by_lane("atan2", self._wide(a), self._wide(b)), dtype))

    def _function(self, x: Expr, single: Callable[[Expr], Expr], double: Callable[[Expr], Expr]) -> Expr:
        dtype = dtype_of(x)
        if dtype == "float64":
            return self._named(double(x))
        return self._named(cast(single(self._named(cast(x, "float32"))), dtype))

    def pow(self, a: Expr, b: Expr) -> Expr:
        dtype = dtype_of(a)
        if not is_float(a):
            return self._integer_power(a, b)
        if dtype == "float64":
            return self._named(t.pow(a, b))
        return self._named(convert(self._power(self._wide(a), self._wide(b)), dtype))

    def _wide(self, x: Expr) -> Expr:
        return self._named(convert(x, "float64"))

    def _sigmoid(self, x: Expr) -> Expr:
        """1 / (1 + exp(-x)), for x < 0 as exp(x) / (1 + exp(x)): small results keep their relative accuracy (denormal ones are 0)."""
        x = self._named(x)
        z = self.exp_negative(self.const(x, 0) - self.abs(x))
        return t.Select(x >= self.const(x, 0), self.const(x, 1), z) / (self.const(x, 1) + z)
