"""Multiply-accumulate of bytes into i32: one class for each instruction, and the list of all arithmetics."""

from __future__ import annotations

import numpy as np
from tvm import tirx as t

from ....codegen.builder import Buffer, Builder, Expr, const, splat
from ....target import Target
from .arm import Sdot, Smlal, Usdot
from .base import STEP, Arithmetic, added, dword, pmaddwd, pmaddwd_on, x86
from .pairs import Pairs, PairsVnni

#: Limit of i16 on the sum of the weights of a pair of channels: 255 times it fits.
PAIR = 128


class Plain(Arithmetic):
    """i32 multiplications: exact for all operands on all targets."""

    name = "plain"
    per_step = 2
    cycles = 4.0

    def pack(self, weights: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(weights.swapaxes(-1, -2))

    def operands(self, b: Builder, x: Buffer, at: Expr, lanes: int) -> list[Expr]:
        return [b.let("x", splat(t.Cast("int32", b.load(x, at + i)), lanes)) for i in range(STEP)]

    def load(self, b: Builder, w: Buffer, at: Expr, lanes: int) -> list[Expr]:
        return [b.let("w", t.Cast(f"int32x{lanes}", b.load(w, at + i * lanes, lanes))) for i in range(STEP)]

    def multiply(self, b: Builder, acc: Expr, x: list[Expr], w: list[Expr], lanes: int) -> Expr:
        for value, weight in zip(x, w):
            acc = acc + value * weight
        return acc


class Madd16(Arithmetic):
    """pmaddwd of x86 on bytes widened to i16: exact for all weights, since two products of u8 and i8 fit i32.

    Channels 0 and 2 of a dword are its bytes under the mask 0x00ff00ff, channels 1 and 3 those of the dword shifted by 8.
    """

    name = "madd16"
    dtype = "int16"
    per_vector = 2
    per_step = 3
    cycles = 1.5

    def runs_on(self, target: Target) -> bool:
        return pmaddwd_on(target)

    def fits(self, x: str, weights: np.ndarray) -> bool:
        return x == "u8"

    def pack(self, weights: np.ndarray) -> np.ndarray:
        even, odd = weights[..., 0::2], weights[..., 1::2]
        return np.ascontiguousarray(np.stack([even, odd], -3).astype(np.int16))

    def operands(self, b: Builder, x: Buffer, at: Expr, lanes: int) -> list[Expr]:
        value = b.let("x", dword(b, x, at, lanes))
        mask = const(0x00FF00FF, "int32", lanes)
        return [b.let("even", t.bitwise_and(value, mask)), b.let("odd", t.bitwise_and(t.shift_right(value, const(8, "int32", lanes)), mask))]

    def load(self, b: Builder, w: Buffer, at: Expr, lanes: int) -> list[Expr]:
        return [b.let("w", b.load(w, at + i * 2 * lanes, 2 * lanes)) for i in (0, 1)]

    def multiply(self, b: Builder, acc: Expr, x: list[Expr], w: list[Expr], lanes: int) -> Expr:
        for value, weight in zip(x, w):
            acc = added(b, acc, pmaddwd(t.reinterpret(f"int16x{2 * lanes}", value), weight, lanes))
        return acc


class Maddubs(Arithmetic):
    """pmaddubsw of x86: two products of u8 and i8 add up in i16, where they saturate, and pmaddwd by ones adds two such sums.

    Exact where for each pair of channels the positive weights add up to 128 at most, and the negative ones too: 255 * 128 < 2^15.
    """

    name = "maddubs"
    per_step = 3
    cycles = 1.0

    def runs_on(self, target: Target) -> bool:
        return x86(target) and target.dot in ("maddubs", "vnni") and (target.lanes < 16 or "avx512bw" in target.features)

    def fits(self, x: str, weights: np.ndarray) -> bool:
        pairs = weights.reshape(-1, 2).astype(np.int32)
        return x == "u8" and bool((np.maximum(pairs, 0).sum(1) <= PAIR).all() and (np.minimum(pairs, 0).sum(1) >= -PAIR).all())

    def operands(self, b: Builder, x: Buffer, at: Expr, lanes: int) -> list[Expr]:
        return [b.let("x", t.reinterpret(f"uint8x{4 * lanes}", dword(b, x, at, lanes)))]

    def multiply(self, b: Builder, acc: Expr, x: list[Expr], w: list[Expr], lanes: int) -> Expr:
        name = {4: "ssse3.pmadd.ub.sw.128", 8: "avx2.pmadd.ub.sw", 16: "avx512.pmaddubs.w.512"}[lanes]
        sums = t.call_llvm_pure_intrin(f"int16x{2 * lanes}", f"llvm.x86.{name}", x[0], w[0])
        return added(b, acc, pmaddwd(sums, const(1, "int16", 2 * lanes), lanes))


class Vnni(Arithmetic):
    """vpdpbusd of x86 (AVX-512 VNNI, AVX-VNNI): four products of u8 and i8 added to an i32 in one instruction, without saturation."""

    name = "vnni"
    cycles = 0.5

    def runs_on(self, target: Target) -> bool:
        return target.dot == "vnni"

    def fits(self, x: str, weights: np.ndarray) -> bool:
        return x == "u8"

    def operands(self, b: Builder, x: Buffer, at: Expr, lanes: int) -> list[Expr]:
        return [b.let("x", t.reinterpret(f"uint8x{4 * lanes}", dword(b, x, at, lanes)))]

    def multiply(self, b: Builder, acc: Expr, x: list[Expr], w: list[Expr], lanes: int) -> Expr:
        return t.call_llvm_pure_intrin(f"int32x{lanes}", f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", acc, x[0], w[0])


#: The fastest first.
ARITHMETICS: tuple[Arithmetic, ...] = (Vnni(), Usdot(), Sdot(), Maddubs(), Madd16(), Smlal(), Plain(), PairsVnni(), Pairs())


def arithmetic_named(name: str) -> Arithmetic:
    """The arithmetic that a template's parameters name."""
    return next(a for a in ARITHMETICS if a.name == name)


def fitting(target: Target, x: str, weights: np.ndarray) -> list[str]:
    """Names of the arithmetics that are exact for a layer on a target, the fastest first."""
    return [a.name for a in ARITHMETICS if a.runs_on(target) and a.fits(x, weights)]


def fitting_pairs(target: Target) -> list[str]:
    """Names of the arithmetics of i16, exact for all bytes, the fastest first."""
    return fitting(target, "i16", np.zeros(0, np.int8))
