"""The integer arithmetic of quantized networks as plain numpy over int64, written from the definitions and from nothing of Tersor's.

Loops go over what a definition sums (taps, elements of a window), numpy over images, channels and pixels; whole networks run in seconds.

r = S (q - Z). Scales are float32 numbers; multipliers are formed in float64 and rounded once (Jacob et al., 1712.05877, section 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
F32 = NDArray[np.float32]


# -- rounding ----------------------------------------------------------------------------------


def quantize(x: F32, scale: float, zero: int, low: int, high: int) -> I64:
    """clamp(round_half_even(x * f32(1/S)) + Z)"""
    with np.errstate(over="ignore"):
        product = x.astype(np.float32) * np.float32(1.0 / np.float64(scale))
    return clamp(np.rint(product), zero, low, high)


def clamp(real: F32, zero: int, low: int, high: int) -> I64:
    wide = np.clip(real.astype(np.float64), -(2.0**40), 2.0**40).astype(np.int64)
    return np.clip(wide + zero, low, high)


def rescale_f32(acc: I64, multiplier: float | F64, zero: int, low: int, high: int) -> I64:
    """Z + rint(f32(acc) * f32(M)); M broadcasts"""
    return clamp(np.rint(acc.astype(np.float32) * np.float32(multiplier)), zero, low, high)


def rescale_fixed(acc: I64, multiplier: float, zero: int, low: int, high: int) -> I64:
    """Z + ((acc * M0 + 2^(30+n)) >> (31+n)) with M = 2^-n M0 / 2^31, M0 / 2^31 in [0.5, 1)"""
    m0, n = split(multiplier, 31)
    return each(acc, lambda a: min(max(zero + ((a * m0 + (1 << (30 + n))) >> (31 + n)), low), high))


def split(multiplier: float, bits: int) -> tuple[int, int]:
    """(M0, n): M = 2^-n M0 / 2^bits."""
    m, n = Fraction(multiplier), 0
    while m >= 1:
        m, n = m / 2, n - 1
    while m < Fraction(1, 2):
        m, n = m * 2, n + 1
    m0 = round(m * 2**bits)
    return (m0 // 2, n - 1) if m0 == 2**bits else (m0, n)


def add_f32(a: I64, b: I64, m_a: float | F64, m_b: float | F64, zero: int, low: int, high: int) -> I64:
    """Z + rint(f32(a) * f32(M_a) + f32(b) * f32(M_b)), each operation rounded to float32; M_a and M_b broadcast"""
    return clamp(np.rint(a.astype(np.float32) * np.float32(m_a) + b.astype(np.float32) * np.float32(m_b)), zero, low, high)


def add_fixed(a: I64, b: I64, m_a: float, m_b: float, zero: int, low: int, high: int) -> I64:
    """Z + ((a * A0 + b * B0 + 2^(29+n)) >> (30+n)): both multipliers over one power of two, the larger of 30 bits"""
    _, n = split(max(m_a, m_b), 30)
    a0, b0 = (round(Fraction(m) * Fraction(2) ** (30 + n)) for m in (m_a, m_b))
    pairs = zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
    values = [min(max(zero + ((x * a0 + y * b0 + (1 << (29 + n))) >> (30 + n)), low), high) for x, y in pairs]
    return np.array(values, np.int64).reshape(a.shape)


def each(values: I64, function: object) -> I64:
    assert callable(function)
    return np.array([function(v) for v in values.ravel().tolist()], np.int64).reshape(values.shape)


# -- as ONNX and onnxruntime round ------------------------------------------------------------


def quantize_onnx(x: F32, scale: float, zero: int, low: int, high: int) -> I64:
    """clamp(round_half_even(x / f32(S)) + Z)"""
    with np.errstate(over="ignore"):
        return clamp(np.rint(x.astype(np.float32) / np.float32(scale)), zero, low, high)


def fma(a: F64, b: float, c: F64 | float) -> F32:
    """a * b + c rounded once; the extended format holds the sums of these tests exactly."""
    return (a.astype(np.longdouble) * np.longdouble(b) + np.asarray(c, np.longdouble)).astype(np.float32)


def add_onnx(a: I64, b: I64, scales: Sequence[float], zeros: Sequence[int], to: tuple[float, int], low: int, high: int, repeated: str = "") -> I64:
    """QLinearAdd of stored integers a and b: rint(fma(a, M_a, fma(b, M_b, C))); the repeated operand comes first, as a product and a sum."""
    (m_a, m_b), (z_a, z_b) = ([np.float32(s) / np.float32(to[0]) for s in scales], zeros)
    c = np.float32(to[1]) - fma(np.array(m_a), z_a, np.float32(m_b * np.float32(z_b)))
    if repeated == "a":
        (a, m_a), (b, m_b) = (b, m_b), (a, m_a)
    inner = np.float32(c) + b.astype(np.float32) * m_b if repeated else fma(b, m_b, c)
    return np.clip(np.rint(fma(a, m_a, inner)), low, high).astype(np.int64)


def mul_onnx(a: I64, b: I64, scales: Sequence[float], to: tuple[float, int], low: int, high: int) -> I64:
    """QLinearMul of centered a and b: rint(f32(a b) * M + Z)"""
    m = np.float32(scales[0]) * np.float32(scales[1]) / np.float32(to[0])
    return np.clip(np.rint((a * b).astype(np.float32) * m + np.float32(to[1])), low, high).astype(np.int64)


# -- sums --------------------------------------------------------------------------------------


def conv(x: I64, zero: int, w: I64, b: I64, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int) -> I64:
    """acc = b + sum (q_x - Z_x) q_w; the border is filled with Z_x. padding: top, bottom, left, right."""
    top, bottom, left, right = padding
    bordered = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=zero)
    n, _, height, width = bordered.shape
    o, c, kh, kw = w.shape
    oh = (height - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (width - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    acc = np.zeros((n, groups, o // groups, oh * ow), np.int64)
    for p in range(kh):
        for q in range(kw):
            rows = slice(p * dilation[0], p * dilation[0] + (oh - 1) * stride[0] + 1, stride[0])
            columns = slice(q * dilation[1], q * dilation[1] + (ow - 1) * stride[1] + 1, stride[1])
            pixels = (bordered[:, :, rows, columns] - zero).reshape(n, groups, c, oh * ow)
            acc += w[:, :, p, q].reshape(groups, o // groups, c) @ pixels
    return acc.reshape(n, o, oh, ow) + b.reshape(1, -1, 1, 1)


def conv_transpose(
    x: I64, zero: int, w: I64, b: I64, stride: Sequence[int], padding: Sequence[int], extra: Sequence[int], dilation: Sequence[int], groups: int
) -> I64:
    """Every input element adds (q_x - Z_x) q_w to the outputs it reaches; `padding` rows and columns are then cut off."""
    n, c, height, width = x.shape
    _, o, kh, kw = w.shape
    full = [(size - 1) * s + d * (k - 1) + 1 + e for size, s, d, k, e in zip((height, width), stride, dilation, (kh, kw), extra)]
    acc = np.zeros((n, o * groups, *full), np.int64)
    for i in range(c):
        for k in range(o):
            out = i // (c // groups) * o + k
            for p in range(kh):
                for q in range(kw):
                    rows = slice(p * dilation[0], p * dilation[0] + (height - 1) * stride[0] + 1, stride[0])
                    columns = slice(q * dilation[1], q * dilation[1] + (width - 1) * stride[1] + 1, stride[1])
                    acc[:, out, rows, columns] += (x[:, i] - zero) * w[i, k, p, q]
    cut = acc[:, :, padding[0] : full[0] - padding[0], padding[1] : full[1] - padding[1]]
    return cut + b.reshape(1, -1, 1, 1)


def linear(x: I64, zero: int, w: I64, b: I64) -> I64:
    return (x - zero) @ w.T + b


def matmul(a: I64, zero_a: int, b: I64, zero_b: int) -> I64:
    """(M, K) times (K, N)"""
    return np.array([[sum((int(x) - zero_a) * (int(y) - zero_b) for x, y in zip(row, column)) for column in b.T] for row in a], np.int64)


def sum_pool(x: I64, zero: int, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> I64:
    """Sum of q - Z of each window; what lies outside adds nothing."""
    top, bottom, left, right = padding
    bordered = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=zero) - zero
    oh = (bordered.shape[2] - kernel[0]) // stride[0] + 1
    ow = (bordered.shape[3] - kernel[1]) // stride[1] + 1
    acc = np.zeros((*x.shape[:2], oh, ow), np.int64)
    for i in range(oh):
        for j in range(ow):
            acc[:, :, i, j] = bordered[:, :, i * stride[0] : i * stride[0] + kernel[0], j * stride[1] : j * stride[1] + kernel[1]].sum((2, 3))
    return acc


def avg_pool_onnx(
    x: I64, x_elem: tuple[float, int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], divisor: int, to: tuple[float, int]
) -> I64:
    """QLinearAveragePool of onnxruntime, without the clamp: floats S_x (q - Z_x) added row after row, then rint(t / divisor / S_y + Z_y)."""
    f = np.float32
    top, bottom, left, right = padding
    bordered = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=x_elem[1])
    oh, ow = ((size - k) // s + 1 for size, k, s in zip(bordered.shape[2:], kernel, stride))
    result = np.zeros((*x.shape[:2], oh, ow), np.int64)
    for n, c, i, j in np.ndindex(*result.shape):
        total = f(0)
        for p in range(kernel[0]):
            for q in range(kernel[1]):
                total = f(total + f(f(x_elem[0]) * f(bordered[n, c, i * stride[0] + p, j * stride[1] + q] - x_elem[1])))
        result[n, c, i, j] = int(np.rint(f(f(f(total / f(divisor)) / f(to[0])) + f(to[1]))))
    return result


def softmax_onnx(x: I64, scale: float, to: tuple[float, int]) -> I64:
    """QLinearSoftmax of onnxruntime over the last axis, without the clamp: a table of exponentials, and sums one term after the other, in f32."""
    f = np.float32
    shift = max(0.0, math.log(f(np.finfo(f).max / f(x.shape[-1]))) - 5) / float(f(scale))
    table = [f(math.exp((i - 255 + shift) * float(f(scale)))) for i in range(256)]
    steps = np.floor(f(1) / f(to[0]))
    result = np.zeros_like(x)
    for at in np.ndindex(*x.shape[:-1]):
        e = [table[255 - (x[at].max() - q)] for q in x[at]]
        total = f(0)
        for term in e:
            total = f(total + term)
        result[at] = [int(np.rint(f(f(term * steps) / total))) + to[1] for term in e]
    return result
