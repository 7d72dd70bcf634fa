"""Weights as integers of 24 bits: three quarters of the bytes of f32, for kernels that wait for weights longer than they multiply.

Read, they are words whose fourth, lowest byte is a copy of the third: one instruction moves bytes so, and none has to clear it. Of a matrix
(channels, outputs), every output has a scale, its largest weight over 2^31 - 1, so that an error is at most 2^-24 of that weight. Lest a channel of
small weights and large values lose by it, its weights are divided by a power of two first, by which the kernel multiplies its values.
Products of words would overflow 2^31 times too early: the kernel's values are divided by that, and the scales of its sums multiplied. What is lost
by it are bits of values below 2^-95, about 2e-29.
"""

from __future__ import annotations

import numpy as np

from ....codegen.builder import Buffer, Builder, Expr

#: The largest word.
MOST = 2**31 - 1
#: Exponent of what the values that meet words are divided by.
SHIFT = 31
#: Exponents of the powers of two for channels stay this small, so that a value times one does not overflow.
EXPONENT = 48


def words(lanes: int) -> int:
    """32-bit words of a vector of weights."""
    return lanes * 3 // 4


def spare(lanes: int) -> int:
    """Words behind the last vector, because a vector is read as if its weights had four bytes."""
    return lanes - words(lanes)


def channel_factors(w: np.ndarray) -> np.ndarray:
    """Weights (points, channels, outputs) -> the power of two, f32, that each channel's root mean square is nearest to (1 for no weights)."""
    size = np.sqrt(np.square(w, dtype=np.float64).mean((0, 2)))
    exponent = np.rint(np.log2(np.where(size > 0, size, 1.0)))
    result: np.ndarray = np.exp2(exponent.clip(-EXPONENT, EXPONENT)).astype(np.float32)
    return result


def value_factors(factors: np.ndarray) -> np.ndarray:
    """What the kernel multiplies the values of channels by whose weights were divided by these factors."""
    result: np.ndarray = np.ldexp(factors, -SHIFT)
    return result


def pack24(w: np.ndarray) -> np.ndarray:
    """Weights (..., channels, outputs), f32, of channels divided by their factors -> words (..., outputs + words(outputs) * channels), i32: first the
    bits of the f32 scales of sums of `value_factors`, then each channel."""
    scale = (np.abs(w).max(-2, keepdims=True).astype(np.float64) / MOST).astype(np.float32)
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    upper = _nearest(w / scale.astype(np.float64)).astype("<i4", copy=False)
    packed = np.ascontiguousarray(upper[..., None].view(np.uint8)[..., :3]).reshape(*w.shape[:-2], -1).view(np.int32)
    return np.concatenate([np.ldexp(scale, SHIFT).view(np.int32).reshape(*w.shape[:-2], -1), packed], -1)


def _nearest(numbers: np.ndarray) -> np.ndarray:
    """The upper three bytes, a signed integer, of the words nearest to these numbers. A word of upper bytes 256 h + l is 65,536 h + 257 l."""
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
    """A function in LLVM IR, as TensorIR has no words for moving bytes: three of them to each word, then to float."""
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
