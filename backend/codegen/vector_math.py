"""exp, log, expm1, log1p, tanh, erf and pow of f32 vectors: range reduction and a polynomial, without tables or C library calls per lane.

bench/fit_math.py finds the coefficients. The relative error is below 1e-7 (exp, log), 2e-7 (expm1, log1p, tanh) and 4.6e-7 (erf) over the whole
range, denormal results, infinities and NaN included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tvm import tirx as t

from .builder import Builder, Expr, const, expression, lanes_of, splat
from .ieee import fence, is_float, is_zero, zero

#: exp(r) = 1 + r + r^2 p(r), |r| <= ln2 / 2
EXP = (0.4999999701976776, 0.1666654348373413, 0.04166720062494278, 0.008366559632122517, 0.0013882514322176576)
#: log(1 + f) = f - f^2 / 2 + f^3 p(f), |f| <= 1/3
LOG = (
    0.3333321511745453, -0.24999797344207764, 0.20010408759117126, -0.16680489480495453,
    0.14005817472934723, -0.12184228003025055, 0.13984712958335876, -0.12891842424869537,
)  # fmt: skip
#: log(m) = 2 (s + s^3 p(s^2)), s = (m - 1) / (m + 1), 2/3 <= m < 4/3, to 2e-13: for pow
LOG64 = (0.3333333335505311, 0.1999999234057959, 0.1428658962745969, 0.11067639661481307, 0.10060361189867922)
#: erf(x) = x p(x^2) / q(x^2), |x| <= 3.92
ERF_P = (1.1283791065216064, 0.19078269600868225, 0.05279011279344559, 0.003779553109779954, 0.0002848060103133321, 2.0419622615008848e-06)
ERF_Q = (1.0, 0.5024094581604004, 0.11425703018903732, 0.014997327700257301, 0.001165196648798883, 3.8003850932000205e-05)

#: ln2 in two parts; n * LN2_HI is exact for |n| < 2^14.
LN2_HI, LN2_LO = 355 / 512, math.log(2) - 355 / 512
#: Added to a float, it leaves the nearest integer in the low bits of the sum.
MAGIC, MAGIC_BITS = 1.5 * 2**23, 0x4B400000
MAGIC64, MAGIC64_BITS = 1.5 * 2**52, 0x4338000000000000
#: Bits of 2/3 in f32 and f64, used to reduce mantissas to 2/3 .. 4/3.
TWO_THIRDS, TWO_THIRDS64 = 0x3F2AAAAB, 0x3FE5555555555555


def dtype_of(x: Expr) -> str:
    """Element dtype of an expression, without its lanes: `float32x8` -> `float32`."""
    return str(x.ty.dtype).split("x")[0]


def is_constant(x: Expr) -> bool:
    x = x.value if isinstance(x, t.Broadcast) else x
    return isinstance(x, (t.IntImm, t.FloatImm)) or is_zero(x)


def cast(x: Expr, dtype: str) -> Expr:
    """The lanes of x as another dtype."""
    return x if dtype_of(x) == dtype else t.Cast(_vector(dtype, lanes_of(x)), x)


def convert(x: Expr, dtype: str) -> Expr:
    """As `cast`, but f16 converts only from and to f32: x86 has no other conversions, and the C library may lack them too."""
    if "float16" in (dtype, dtype_of(x)):
        x = cast(x, "float32")
    return cast(x, dtype)


def _vector(dtype: str, lanes: int) -> str:
    return f"{dtype}x{lanes}" if lanes > 1 else dtype


class VectorMath:
    """Functions over TensorIR vectors; intermediate values become stack slots of the builder."""

    def __init__(self, b: Builder):
        self.b = b

    def const(self, x: Expr, value: float) -> Expr:
        """A scalar of x's dtype, in every lane."""
        if value == 0 and is_float(x):
            return splat(zero(dtype_of(x), math.copysign(1, value) < 0), lanes_of(x))
        return const(value, dtype_of(x), lanes_of(x))

    def max(self, a: Expr, b: Expr) -> Expr:
        return self._extreme(a, b, lambda x, y: x > y)

    def min(self, a: Expr, b: Expr) -> Expr:
        return self._extreme(a, b, lambda x, y: x < y)

    def _extreme(self, a: Expr, b: Expr, beats: Callable[[Expr, Expr], Expr]) -> Expr:
        a, b = self._named(a), self._named(b)
        if is_constant(a):
            a, b = b, a
        if is_constant(b) or not is_float(a):
            # no comparison with a NaN holds, so a NaN in a is the result; one instruction
            return t.Select(beats(b, a), b, a)
        return t.Select(t.isnan(a), a, t.Select(beats(a, b), a, b))

    def abs(self, x: Expr) -> Expr:
        if is_float(x):
            return self._rounding(x, "llvm.fabs")
        x = self._named(x)
        return x if dtype_of(x).startswith("u") else t.Select(x < self.const(x, 0), -x, x)

    # -- f32 -----------------------------------------------------------------------------------

    def _reduced(self, x: Expr) -> tuple[Expr, Expr]:
        """x = n ln2 + r, |r| <= ln2 / 2; n as i32. |x| < 2^22 ln2."""
        # fenced, or TVM simplifies (x + MAGIC) - MAGIC to x
        shifted = self._named(self._fence(x * self.const(x, 1 / math.log(2)) + self.const(x, MAGIC)))
        n = self._named(shifted - self.const(x, MAGIC))
        r = self._named(x - n * self.const(x, LN2_HI) - n * self.const(x, LN2_LO))
        i = self._bits(shifted)
        return r, self._named(i - self.const(i, MAGIC_BITS))

    def _expm1_reduced(self, r: Expr) -> Expr:
        return self._named(r + r * r * self._horner(EXP, r))

    def _power_of_two(self, n: Expr) -> Expr:
        """2^n of i32, -126 <= n <= 127; 0 for n = -127."""
        return t.reinterpret(_vector("float32", lanes_of(n)), t.shift_left(n + self.const(n, 127), self.const(n, 23)))

    def _exp32(self, x: Expr) -> Expr:
        x = self._named(self.max(self.min(x, self.const(x, 89.0)), self.const(x, -104.0)))
        r, n = self._reduced(x)
        # 2^n in two factors: results are denormal from n = -127 on, and infinite from n = 128 on
        half = self._named(t.shift_right(n, self.const(n, 1)))
        return (self.const(x, 1) + self._expm1_reduced(r)) * self._power_of_two(half) * self._power_of_two(n - half)

    def _exp_negative32(self, x: Expr) -> Expr:
        # at -87.9, n = -127 and the factor's bits are 0
        x = self._named(self.max(x, self.const(x, -87.9)))
        r, n = self._reduced(x)
        return (self.const(x, 1) + self._expm1_reduced(r)) * self._power_of_two(n)

    def _log32(self, x: Expr) -> Expr:
        tiny = self._named(x < self.const(x, 2.0**-126))
        bits = self._bits(t.Select(tiny, x * self.const(x, 2.0**23), x))
        bits = self._named(t.bitwise_and(bits, self.const(bits, 0x7FFFFFFF)))
        k = self._named(t.shift_right(bits - self.const(bits, TWO_THIRDS), self.const(bits, 23)))
        m = t.reinterpret(_vector("float32", lanes_of(x)), bits - t.shift_left(k, self.const(k, 23)))
        f = self._named(m - self.const(x, 1))
        e = self._named(cast(k, "float32") - t.Select(tiny, self.const(x, 23), self.const(x, 0)))
        return self._log_domain(x, 0, t.Select(x < self.const(x, math.inf), self._log_reduced(e, f), x))

    def _log_reduced(self, e: Expr, f: Expr) -> Expr:
        """log(2^e (1 + f)), |f| <= 1/3."""
        square = self._named(f * f)
        low = f * square * self._horner(LOG, f) + e * self.const(e, LN2_LO) - square * self.const(e, 0.5)
        return self._named(e * self.const(e, LN2_HI) + (f + low))

    def _log_domain(self, x: Expr, pole: float, y: Expr) -> Expr:
        """y, but -inf at the pole of a logarithm and NaN below it."""
        edge = self.const(x, pole)
        return t.Select(x <= edge, t.Select(x < edge, self.const(x, math.nan), self.const(x, -math.inf)), y)

    def _log1p32(self, x: Expr) -> Expr:
        """1 + x = 2^k (1 + f) with f = 2^-k x + (2^-k - 1), without loss of digits: only k comes from the rounded sum."""
        w = self._named(x + self.const(x, 1))
        bits = self._bits(w)
        k = self._named(t.shift_right(bits - self.const(bits, TWO_THIRDS), self.const(bits, 23)))
        scale = self._named(self._power_of_two(-t.min(k, self.const(k, 64))))
        # from 2^25 on 1 + x is x, and 2^-k need not be normal
        m = t.reinterpret(_vector("float32", lanes_of(x)), bits - t.shift_left(k, self.const(k, 23)))
        f = self._named(t.Select(k > self.const(k, 24), m - self.const(x, 1), x * scale + (scale - self.const(x, 1))))
        y = t.Select(x < self.const(x, math.inf), self._log_reduced(cast(k, "float32"), f), x)
        return self._near_zero(x, self._log_domain(x, -1, y))

    def _near_zero(self, x: Expr, y: Expr) -> Expr:
        """y, but x near zero, where the function rounds to x: keeps denormal numbers and the sign of zero."""
        return t.Select(self.abs(x) < self.const(x, 2.0**-30), x, y)

    def _expm1_32(self, x: Expr) -> Expr:
        """2 (2^(n-1) (exp(r) - 1) + (2^(n-1) - 1/2)), so that 2^n is finite wherever the result is."""
        clipped = self._named(self.max(self.min(x, self.const(x, 89.0)), self.const(x, -17.4)))
        r, n = self._reduced(clipped)
        half = self._named(self._power_of_two(n - self.const(n, 1)))
        y = self._named(half * self._expm1_reduced(r) + (half - self.const(x, 0.5)))
        return self._near_zero(x, y + y)

    def _tanh32(self, x: Expr) -> Expr:
        """(exp(2|x|) - 1) / (exp(2|x|) + 1), with exp(y) - 1 = 2^n (exp(r) - 1) + (2^n - 1), which is accurate near 0."""
        y = self._named(self.min(self.abs(x) * self.const(x, 2), self.const(x, 18.1)))
        r, n = self._reduced(y)
        scale = self._named(self._power_of_two(n))
        e = self._named(scale * self._expm1_reduced(r) + (scale - self.const(x, 1)))
        return self._with_sign(e / (e + self.const(x, 2)), x)

    def _erf32(self, x: Expr) -> Expr:
        square = self._named(x * x)
        y = x * self._horner(ERF_P, square) / self._horner(ERF_Q, square)
        return t.Select(self.abs(x) > self.const(x, 3.92), self._with_sign(self.const(x, 1), x), y)

    # -- powers --------------------------------------------------------------------------------

    def _power(self, a: Expr, b: Expr) -> Expr:
        """|a|^b = 2^(b log2 |a|) in f64, to 1e-10 (an f32 result is correctly rounded nearly always); signs and special cases as in C."""
        zero, one = self.const(a, 0), self.const(a, 1)
        size = self._named(self.abs(a))
        log2 = self._log2_64(size)
        y = self._named(self.max(self.min(b * log2, self.const(a, 1000.0)), self.const(a, -1000.0)))
        shifted = self._named(self._fence(y + self.const(a, MAGIC64)))
        r = self._named((y - (shifted - self.const(a, MAGIC64))) * self.const(a, math.log(2)))
        i = self._bits(shifted)
        scale = t.shift_left(i - self.const(i, MAGIC64_BITS - 1023), self.const(i, 52))
        power = self._horner([1 / math.factorial(i) for i in range(10)], r) * t.reinterpret(_vector("float64", lanes_of(a)), scale)
        power = t.Select(t.EQ(size, one), one, power)
        nan = self.const(a, math.nan)
        power = t.Select(t.any(t.isnan(a), t.isnan(b)), nan, power)
        power = self._named(t.Select(t.any(t.EQ(a, one), t.EQ(b, zero)), one, power))
        floor, half = self._named(self._call("llvm.floor", b)), self._named(b * self.const(b, 0.5))
        odd = t.all(t.EQ(floor, b), t.NE(self._call("llvm.floor", half), half))
        undefined = t.all(a < zero, size < self.const(a, math.inf), t.NE(floor, b))
        return t.Select(undefined, nan, t.Select(odd, self._with_sign(power, a), power))

    def _log2_64(self, size: Expr) -> Expr:
        """log2 of f64 that are f32 numbers, not negative, to 1e-12; exact at powers of 2."""
        one = self.const(size, 1)
        bits = self._bits(size)
        k = self._named(t.shift_right(bits - self.const(bits, TWO_THIRDS64), self.const(bits, 52)))
        m = self._named(t.reinterpret(_vector("float64", lanes_of(size)), bits - t.shift_left(k, self.const(k, 52))))
        s = self._named((m - one) / (m + one))
        log2 = cast(k, "float64") + self.const(size, 2 / math.log(2)) * (s + s * s * s * self._horner(LOG64, self._named(s * s)))
        infinite = t.EQ(size, self.const(size, math.inf))
        return t.Select(t.EQ(size, self.const(size, 0)), self.const(size, -math.inf), t.Select(infinite, size, log2))

    def _integer_power(self, a: Expr, b: Expr) -> Expr:
        """By squaring, for exponents up to 63; a negative one gives 1 / a^-b rounded towards 0."""
        a, b = self._named(a), self._named(b)
        zero, one = self.const(a, 0), self.const(a, 1)
        size = self._named(self.abs(b))
        result, square = one, a
        for bit in range(6):
            taken = t.NE(t.bitwise_and(t.shift_right(size, self.const(b, bit)), one), zero)
            result = self._named(result * t.Select(taken, square, one))
            square = self._named(square * square)
        if dtype_of(a).startswith("u"):
            return result
        unit = t.any(t.EQ(a, one), t.EQ(a, self.const(a, -1)))
        return t.Select(t.any(b >= zero, unit), result, zero)

    # -- pieces --------------------------------------------------------------------------------

    def _named(self, x: Expr) -> Expr:
        """An expression that is read more than once."""
        x = expression(x)
        return x if is_constant(x) else self.b.value(x)

    def _fence(self, x: Expr) -> Expr:
        return fence(x) if is_float(x) else x

    def _call(self, name: str, x: Expr) -> Expr:
        return t.call_llvm_pure_intrin(str(x.ty.dtype), name, x)

    def _by_lane(self, function: str, *xs: Expr) -> Expr:
        """A function of the C library without an LLVM intrinsic, lane by lane."""
        dtype, lanes = dtype_of(xs[0]), lanes_of(xs[0])
        if lanes == 1:
            return t.call_pure_extern(dtype, function, *xs)
        xs, index = tuple(self._named(x) for x in xs), [t.IntImm("int32", i) for i in range(lanes)]
        return t.Shuffle([t.call_pure_extern(dtype, function, *(t.Shuffle([x], [i]) for x in xs)) for i in index], index)

    def _bits(self, x: Expr) -> Expr:
        dtype = {"float32": "int32", "float64": "int64"}[dtype_of(x)]
        return self._named(t.reinterpret(_vector(dtype, lanes_of(x)), x))

    def _horner(self, coefficients: Sequence[float], x: Expr) -> Expr:
        first, *rest = reversed(coefficients)
        y = self.const(x, first)
        for c in rest:
            y = y * x + self.const(x, c)
        return y

    def _with_sign(self, size: Expr, x: Expr) -> Expr:
        """size (not negative) with the sign of x."""
        bits, own = self._bits(x), t.reinterpret(str(self._bits(x).ty.dtype), size)
        sign = t.bitwise_and(bits, self.const(bits, -(2**31) if dtype_of(x) == "float32" else -(2**63)))
        return t.reinterpret(str(x.ty.dtype), t.bitwise_or(own, sign))

    def _rounding(self, x: Expr, name: str) -> Expr:
        dtype = dtype_of(x)
        return cast(self._call(name, cast(x, "float32") if dtype == "float16" else x), dtype)
