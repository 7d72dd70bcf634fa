"""The namespace that elementwise operators compute in when they become TensorIR: the counterpart of torch in `evaluate`.

f32 functions are those of `vectormath`; f16 computes in f32, f64 calls libm. LLVM may contract a * b + c into one fused multiply-add; `mul`
and `add` are fenced against it. NaN goes through max and min as in torch; which zero they return for +0 and -0 is not specified.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx as t

from .builder import TIR_DTYPE, Buffer, Expr, expression, not_equal
from .vector_math import VectorMath, cast, convert, dtype_of, is_float


class TirMath(VectorMath):
    """`Math` over TensorIR vectors."""

    # -- arithmetic ----------------------------------------------------------------------------

    def mul(self, a: Expr, b: Expr) -> Expr:
        return self._fence(a * b)

    def add(self, a: Expr, b: Expr) -> Expr:
        return self._fence(a) + self._fence(b)

    def mod(self, a: Expr, b: Expr) -> Expr:
        """Exact for floats while |a / b| < 2^29 (f32, f16); integers as Python's `%`."""
        if not is_float(a):
            return t.floormod(a, b)
        dtype = dtype_of(a)
        a, b = self._wide(a), self._wide(b)
        rest = self._named(a - self._call("llvm.floor", a / b) * b)
        rest = self._named(t.Select(t.EQ(self.abs(b), self.const(b, math.inf)), a, rest))
        zero = self.const(a, 0)
        # the rounded quotient may have reached the next integer
        return convert(t.Select(t.any(t.all(rest < zero, b > zero), t.all(rest > zero, b < zero)), rest + b, rest), dtype)

    # -- selection and conversion --------------------------------------------------------------

    def where(self, c: Expr, a: Expr, b: Expr) -> Expr:
        return t.Select(expression(c), expression(a), expression(b))

    def cast(self, x: Expr, elem: str) -> Expr:
        """To small integers by way of i32, so that what does not fit wraps as it does in torch."""
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
        """exp of x <= 0, a quarter faster: what would be denormal is 0."""
        return self._function(x, self._exp_negative32, t.exp)

    def log(self, x: Expr) -> Expr:
        return self._function(x, self._log32, t.log)

    def tanh(self, x: Expr) -> Expr:
        return self._function(x, self._tanh32, t.tanh)

    def erf(self, x: Expr) -> Expr:
        return self._function(x, self._erf32, lambda x: self._by_lane("erf", x))

    def sigmoid(self, x: Expr) -> Expr:
        return self._function(x, self._sigmoid, self._sigmoid)

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
