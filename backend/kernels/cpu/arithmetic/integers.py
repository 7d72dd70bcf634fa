"""How a register tile multiplies bytes and adds into i32: one class for each instruction that does it.

A step takes four neighbouring channels of a pixel, one dword, in all lanes of a vector, and four weights for each lane (an output):

    acc[lane] += x[0] w[lane, 0] + x[1] w[lane, 1] + x[2] w[lane, 2] + x[3] w[lane, 3]         modulo 2^32

Every arithmetic that fits a layer gives the same bits, so which one runs is a matter of speed.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from tvm import tirx as t

from ....codegen.builder import Buffer, Builder, Expr, const, splat
from ....target import Target

#: Channels of a step.
STEP = 4
#: What the products of a pair of channels may add up to in i16, over 255.
PAIR = 128


class Arithmetic:
    """One way to multiply and accumulate. weights (..., steps, vectors, lanes, 4) i8 are packed by `pack`, vector by vector."""

    name: ClassVar[str]
    #: dtype of packed weights, and how many of them a step of a vector takes for each lane.
    dtype: ClassVar[str] = "int8"
    each: ClassVar[int] = STEP
    #: Vector registers beside accumulators: for each vector of weights, and for all of a step.
    per_vector: ClassVar[int] = 1
    per_step: ClassVar[int] = 1
    #: Cycles of a step of one vector, in which an f32 arithmetic would do half a multiply-add.
    cycles: ClassVar[float] = 1.0

    def runs_on(self, target: Target) -> bool:
        """Whether the target has the instructions."""
        return True

    def fits(self, x: str, weights: np.ndarray) -> bool:
        """Whether sums are exact for activations of an element type and these weights (..., 4)."""
        return True

    def offset(self, x: str) -> int:
        """What is subtracted from each activation of an element type before it is multiplied: zero points are less by it."""
        return 0

    def pack(self, weights: np.ndarray) -> np.ndarray:
        """Weights (..., vectors, lanes, 4) in the order in which `multiply` reads them."""
        return weights

    def operands(self, b: Builder, x: Buffer, at: Expr, lanes: int) -> list[Expr]:
        """The four channels of a pixel that begin at an element of x, in all lanes."""
        raise NotImplementedError(f"{type(self).__name__}.operands")

    def load(self, b: Builder, w: Buffer, at: Expr, lanes: int) -> list[Expr]:
        """Packed weights of a step and vector."""
        return [b.let("w", b.load(w, at, lanes * self.each))]

    def multiply(self, b: Builder, acc: Expr, x: list[Expr], w: list[Expr], lanes: int) -> Expr:
        """acc and the four products of each lane."""
        raise NotImplementedError(f"{type(self).__name__}.multiply")


class Plain(Arithmetic):
    """i32 multiplications: right for all operands on all targets."""

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


def dword(b: Builder, x: Buffer, at: Expr, lanes: int) -> Expr:
    """Four bytes in all lanes: one broadcast from memory."""
    return splat(t.reinterpret("int32", b.load(x, at, STEP)), lanes)


class Madd16(Arithmetic):
    """pmaddwd of x86 on bytes widened to i16: exact for all weights, since two products of u8 and i8 fit i32.

    Channels 0 and 2 of a dword are its bytes under the mask 0x00ff00ff, channels 1 and 3 those of the dword shifted by 8.
    """

    name = "madd16"
    dtype = "int16"
    per_vector = 2
    per_step = 3
    cycles = 1.4

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
            acc = acc + pmaddwd(t.reinterpret(f"int16x{2 * lanes}", value), weight, lanes)
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
        return acc + pmaddwd(sums, const(1, "int16", 2 * lanes), lanes)


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


class Usdot(Arithmetic):
    """usdot of ARM's int8 matrix extension: four products of u8 and i8 added to an i32."""

    name = "usdot"
    cycles = 0.5

    def runs_on(self, target: Target) -> bool:
        return arm(target) and "i8mm" in target.features

    def fits(self, x: str, weights: np.ndarray) -> bool:
        return x == "u8"

    def operands(self, b: Builder, x: Buffer, at: Expr, lanes: int) -> list[Expr]:
        return [b.let("x", t.reinterpret(f"uint8x{4 * lanes}", dword(b, x, at, lanes)))]

    def multiply(self, b: Builder, acc: Expr, x: list[Expr], w: list[Expr], lanes: int) -> Expr:
        return t.call_llvm_pure_intrin(f"int32x{lanes}", f"llvm.aarch64.neon.usdot.v{lanes}i32.v{4 * lanes}i8", acc, x[0], w[0])


class Sdot(Arithmetic):
    """sdot of ARM's dot product extension: four products of i8 added to an i32. u8 activations become i8 by subtracting 128: a bit is turned."""

    name = "sdot"
    cycles = 0.5

    def runs_on(self, target: Target) -> bool:
        return arm(target) and "asimddp" in target.features

    def offset(self, x: str) -> int:
        return 128 if x == "u8" else 0

    def operands(self, b: Builder, x: Buffer, at: Expr, lanes: int) -> list[Expr]:
        value = dword(b, x, at, lanes)
        if x.dtype == "uint8":
            value = t.bitwise_xor(value, const(-0x7F7F7F80, "int32", lanes))
        return [b.let("x", t.reinterpret(f"int8x{4 * lanes}", value))]

    def multiply(self, b: Builder, acc: Expr, x: list[Expr], w: list[Expr], lanes: int) -> Expr:
        return t.call_llvm_pure_intrin(f"int32x{lanes}", f"llvm.aarch64.neon.sdot.v{lanes}i32.v{4 * lanes}i8", acc, x[0], w[0])


class Smlal(Plain):
    """smlal of NEON: products of i16, to which bytes are widened, added to i32. LLVM selects it for products of sign-extended i16."""

    name = "smlal"
    dtype = "int16"
    cycles = 3.0

    def runs_on(self, target: Target) -> bool:
        return arm(target)

    def pack(self, weights: np.ndarray) -> np.ndarray:
        return super().pack(weights).astype(np.int16)

    def operands(self, b: Builder, x: Buffer, at: Expr, lanes: int) -> list[Expr]:
        return [b.let("x", splat(t.Cast("int16", b.load(x, at + i)), lanes)) for i in range(STEP)]

    def load(self, b: Builder, w: Buffer, at: Expr, lanes: int) -> list[Expr]:
        return [b.let("w", b.load(w, at + i * lanes, lanes)) for i in range(STEP)]

    def multiply(self, b: Builder, acc: Expr, x: list[Expr], w: list[Expr], lanes: int) -> Expr:
        for value, weight in zip(x, w):
            acc = acc + t.Cast(f"int32x{lanes}", value) * t.Cast(f"int32x{lanes}", weight)
        return acc


def pmaddwd(a: Expr, w: Expr, lanes: int) -> Any:
    """Products of neighbouring i16, added in pairs into i32."""
    name = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}[lanes]
    return t.call_llvm_pure_intrin(f"int32x{lanes}", f"llvm.x86.{name}", a, w)


def pmaddwd_on(target: Target) -> bool:
    """Whether a target multiplies pairs of i16 in vectors of its width."""
    return x86(target) and (target.lanes < 16 or "avx512bw" in target.features)


def x86(target: Target) -> bool:
    """Whether a target has the vector instructions of x86."""
    return target.triple.startswith("x86_64")


def arm(target: Target) -> bool:
    """Whether a target has the vector instructions of 64-bit ARM."""
    return target.triple.startswith("aarch64")


#: The fastest first.
ARITHMETICS: tuple[Arithmetic, ...] = (Vnni(), Usdot(), Sdot(), Maddubs(), Madd16(), Smlal(), Plain())


def arithmetic_named(name: str) -> Arithmetic:
    """The arithmetic that a template's parameters name."""
    return next(a for a in ARITHMETICS if a.name == name)


def fitting(target: Target, x: str, weights: np.ndarray) -> list[str]:
    """Names of the arithmetics that are exact for a layer on a target, the fastest first."""
    return [a.name for a in ARITHMETICS if a.runs_on(target) and a.fits(x, weights)]
