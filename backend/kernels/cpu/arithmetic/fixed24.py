"""Weights as 24-bit integers: three quarters of the bytes of f32, for kernels that are bound by reading weights.

They are read as 32-bit words whose lowest byte is a copy of the second lowest: one byte shuffle does that, and nothing clears the byte. In a matrix
(channels, outputs) every output has a scale, its largest weight over 2^31 - 1, so that an error is at most 2^-24 of that weight. To keep the digits
of channels with small weights and large values, their weights are first divided by a power of two, by which the kernel multiplies the values.
Products with words would overflow 2^31 times too early, so the kernel's values are divided by 2^31 and the scales of its sums multiplied by it. This
loses only bits of values below 2^-95, about 2e-29.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....codegen.builder import Buffer, Builder, Expr

#: The largest word.
MOST = 2**31 - 1
#: Exponent of the power of two that divides the values that are multiplied by words.
SHIFT = 31
#: Limit on the exponents of channel factors, so that a value times a factor does not overflow.
EXPONENT = 48
#: Weights that are packed at a time.
PART = 2**17


def words(lanes: int) -> int:
    """32-bit words of a vector of weights."""
    return lanes * 3 // 4


def spare(lanes: int) -> int:
    """Words of padding after the last vector, because a load reads four bytes for each weight."""
    return lanes - words(lanes)


def channel_factors(w: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Weights (points, channels, outputs) -> the power of two, f32, that each channel's root mean square is nearest to (1 for no weights)."""
    # point by point, which stays in the cache
    size = np.sqrt(sum(np.square(point, dtype=np.float64).mean(1) for point in w) / len(w))
    exponent = np.rint(np.log2(np.where(size > 0, size, 1.0)))
    result: np.ndarray = np.exp2(exponent.clip(-EXPONENT, EXPONENT)).astype(np.float32)
    return result


def value_factors(factors: np.ndarray) -> np.ndarray:
    """What the kernel multiplies the values of channels by, for weights divided by these factors."""
    result: np.ndarray = np.ldexp(factors, -SHIFT)
    return result


def pack24(w: np.ndarray) -> np.ndarray:
    """Weights (..., channels, outputs), f32, divided by their channel factors -> words (..., outputs + words(outputs) * channels), i32: first the
    bits of the f32 scales of the outputs' sums, then each channel."""
    flat = w.reshape(-1, *w.shape[-2:])
    channels, outputs = flat.shape[1:]
    packed = np.empty((len(flat), outputs + channels * outputs * 3 // 4), np.int32)
    # in parts that stay in the cache
    some = max(1, PART // (channels * outputs))
    for start in range(0, len(flat), some):
        part, out = flat[start : start + some], packed[start : start + some]
        scale = (np.abs(part).max(1, keepdims=True).astype(np.float64) / MOST).astype(np.float32)
        scale = np.maximum(scale, np.finfo(np.float32).tiny)
        upper = _nearest(part / scale.astype(np.float64)).astype("<i4", copy=False)
        out[:, :outputs] = np.ldexp(scale, SHIFT).view(np.int32)[:, 0]
        # the low three bytes of four words become three words
        a, b, c, d = np.moveaxis(upper.view(np.uint32).reshape(len(part), -1, 4), -1, 0)
        joined = out[:, outputs:].view(np.uint32).reshape(len(part), -1, 3)
        joined[..., 0] = a & 0xFFFFFF | b << 24
        joined[..., 1] = b >> 8 & 0xFFFF | c << 16
        joined[..., 2] = c >> 16 & 0xFF | d << 8
    return packed.reshape(*w.shape[:-2], -1)


def _nearest(numbers: np.ndarray) -> np.ndarray:
    """The upper three bytes, a signed integer, of the words nearest to these numbers. A word with the upper bytes 256 h + l is 65,536 h + 257 l."""
    word: np.ndarray = np.rint(numbers.clip(-MOST, MOST)).astype(np.int32)
    low = word & 0xFFFF
    low += 128
    low //= 257
    word >>= 16
    word <<= 8
    word += low
    return word


def load24(b: Builder, buffer: Buffer, index: Expr, lanes: int) -> Expr:
    """The vector of weights at a word, as f32, each over its output's scale."""
    return b.call_llvm(f"float32x{lanes}", f"tersor_fixed24x{lanes}", _code(lanes), buffer, index)


def _code(lanes: int) -> str:
    """A function in LLVM IR, as TensorIR cannot express byte shuffles: three bytes to each word, then to float."""
    source = [byte for i in range(lanes) for byte in (3 * i, 3 * i, 3 * i + 1, 3 * i + 2)]
    order = ", ".join(f"i32 {i}" for i in source)
    return f"""
define linkonce_odr <{lanes} x float> @tersor_fixed24x{lanes}(ptr %place) alwaysinline {{
  %bytes = load <{4 * lanes} x i8>, ptr %place, align 1
  %spread = shufflevector <{4 * lanes} x i8> %bytes, <{4 * lanes} x i8> poison, <{4 * lanes} x i32> <{order}>
  %words = bitcast <{4 * lanes} x i8> %spread to <{lanes} x i32>
  %value = sitofp <{lanes} x i32> %words to <{lanes} x float>
  ret <{lanes} x float> %value
}}
"""
