"""The rounding rules of integer arithmetic, each defined once over the namespace `Math` (Jacob et al., 1712.05877, section 2).

    quantize    q = clamp(rint(x * f32(1/S)) + Z)
    rescale     f32:    y = clamp(rint(f32(a) * M) + Z)                                        M = f32(S_x / S_y)
                fixed:  y = clamp(((i64(a) * M0 + 2^(s-1)) >> s) + Z)                          M0 / 2^s = S_x / S_y, M0 of 31 bits
    add         f32:    y = clamp(rint(f32(a) * M_a + f32(b) * M_b) + Z)                       each operation rounded to f32
                fixed:  y = clamp(((i64(a) * A0 + i64(b) * B0 + 2^(s-1)) >> s) + Z)            A0, B0 of one s, the larger of 30 bits

`onnx` is the arithmetic of ONNX where ONNX defines it, else that of onnxruntime's kernels on x86 processors with AVX2. Every operation is
rounded to f32:

    quantize            q = clamp(rint(x / S) + Z)
    rescale             y = clamp(rint(f32(a) * M) + Z)                                        M = S_x / (S_y * divisor), S_x that of the sum
    product             y = clamp(rint(f32(a * b) * M + f32(Z)))                               M = (S_a * S_b) / S_y
    add                 y = clamp(rint(fma(q_a, M_a, fma(q_b, M_b, C))))                       C = Z - fma(M_a, Z_a, M_b * Z_b)
    softmax             y = clamp(rint(e * floor(1 / S_y) / t) + Z)                            t = sum of e, one after the other
    average of windows  y = clamp(rint((t / n) / S_y + f32(Z)))                                t = sum of f32(a) * S_x, row after row

a and b are i32 with their zero points subtracted, q_a and q_b with them. rint rounds halves to even, `>>` floors (so `fixed` rounds halves up).
The clamp comes before the conversion to i32, so no conversion overflows; NaN becomes the lowest integer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .namespace import Math
from .quant_types import F64, I64

#: Bits of the multipliers of `fixed`: of one product, and of a sum of two, which must not overflow i64.
PRODUCT_BITS, SUM_BITS = 31, 30


def to_int(m: Math, real: Any, zero: int, low: int, high: int) -> Any:
    """clamp(rint(real) + zero, low, high) as i32."""
    stored = nearest_within(m, real, m.const(real, low - zero), m.const(real, high - zero))
    return stored + m.const(stored, zero)


def nearest_within(m: Math, real: Any, least: Any, most: Any) -> Any:
    """clamp(rint(real), least, most) as i32; the bounds are values of real's type."""
    nearest = m.rint(real)
    above = m.where(nearest > least, nearest, least)
    return m.cast(m.where(above < most, above, most), "i32")


def quantized(m: Math, x: Any, inverse: Any, zero: int, low: int, high: int) -> Any:
    """x f32, inverse f32 (1/S rounded)."""
    return to_int(m, m.mul(x, inverse), zero, low, high)


def divided(m: Math, x: Any, scale: Any, zero: int, low: int, high: int) -> Any:
    """x and scale f32."""
    return to_int(m, x / scale, zero, low, high)


def rescaled(m: Math, a: Any, multiplier: Any, zero: int, low: int, high: int) -> Any:
    """a i32, multiplier f32."""
    return to_int(m, m.mul(m.cast(a, "f32"), multiplier), zero, low, high)


def added(m: Math, a: Any, b: Any, multiplier_a: Any, multiplier_b: Any, zero: int, low: int, high: int) -> Any:
    """a, b i32, multipliers f32."""
    return to_int(m, m.add(m.mul(m.cast(a, "f32"), multiplier_a), m.mul(m.cast(b, "f32"), multiplier_b)), zero, low, high)


def product_onnx(m: Math, product: Any, multiplier: Any, offset: Any) -> Any:
    """The real number that is rounded. product i32; multiplier, and offset = Z, f32."""
    return m.add(m.mul(m.cast(product, "f32"), multiplier), offset)


def average_onnx(m: Math, total: Any, count: Any, scale: Any, offset: Any) -> Any:
    """The real number that is rounded. total f32: a sum of `count` elements; count, scale = S_y and offset = Z f32."""
    return m.add(total / count / scale, offset)


def share_onnx(m: Math, e: Any, steps: Any, total: Any) -> Any:
    """The real number that is rounded, all f32."""
    return m.mul(e, steps) / total


def sum_onnx(m: Math, first: Any, second: Any, multiplier_first: Any, multiplier_second: Any, offset: Any, fused: bool) -> Any:
    """The real number that is rounded: fma(second, M_second, fma(first, M_first, offset)); the inner fma is a product and a sum unless `fused`.

    first, second: stored integers; the others f32.
    """
    first, second = m.cast(first, "f32"), m.cast(second, "f32")
    inner = m.fma(first, multiplier_first, offset) if fused else m.add(offset, m.mul(first, multiplier_first))
    return m.fma(second, multiplier_second, inner)


def rescaled_fixed(m: Math, a: Any, factor: Any, half: Any, shift: Any, zero: int, low: int, high: int) -> Any:
    """a i32; factor, half = 2^(shift-1) and shift i64."""
    return _shifted(m, m.cast(a, "i64") * factor, half, shift, zero, low, high)


def added_fixed(m: Math, a: Any, b: Any, factor_a: Any, factor_b: Any, half: Any, shift: Any, zero: int, low: int, high: int) -> Any:
    """a, b i32; the others i64."""
    return _shifted(m, m.cast(a, "i64") * factor_a + m.cast(b, "i64") * factor_b, half, shift, zero, low, high)


def _shifted(m: Math, total: Any, half: Any, shift: Any, zero: int, low: int, high: int) -> Any:
    stored = shifted_within(m, total, half, shift, m.const(total, low - zero), m.const(total, high - zero))
    return stored + m.const(stored, zero)


def shifted_within(m: Math, total: Any, half: Any, shift: Any, least: Any, most: Any) -> Any:
    """clamp((total + half) >> shift, least, most) as i32; all are i64."""
    return m.cast(m.min(m.max((total + half) >> shift, least), most), "i32")


# -- multipliers -------------------------------------------------------------------------------


def fixed_point(*multipliers: F64, bits: int) -> tuple[list[I64], I64]:
    """Integers M0 and one shift s with M0 / 2^s = M, the largest of the M0 in [2^(bits-1), 2^bits); all broadcast together.

    A shift of more than 62 would leave nothing of an i32 accumulator: such multipliers are 0. Raises ValueError from 2^(bits-1) on.
    """
    largest = np.maximum.reduce(np.broadcast_arrays(*multipliers))
    exponent = np.frexp(largest)[1].astype(np.int64)
    # rounding to `bits` bits may carry into the next power of two
    exponent += np.rint(np.ldexp(largest, bits - exponent)) >= 2.0**bits
    shift = bits - exponent
    if (shift < 1).any():
        raise ValueError(f"a multiplier of {float(largest.max()):g} is too large; fixed arithmetic needs it below {2.0 ** (bits - 1):g}")
    kept = np.minimum(shift, 62)
    factors = [np.where(shift > 62, 0, np.rint(np.ldexp(m, kept))).astype(np.int64) for m in multipliers]
    return factors, kept
