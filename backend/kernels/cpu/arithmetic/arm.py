"""Multiply-accumulate of bytes on 64-bit ARM: dot products of four bytes where the processor has them, else products of i16."""

from __future__ import annotations

import numpy as np
from tvm import tirx as t

from ....codegen.builder import Buffer, Builder, Expr, const, splat
from ....target import Target
from .base import STEP, Arithmetic, dword


def arm(target: Target) -> bool:
    """Whether a target has the vector instructions of 64-bit ARM."""
    return target.triple.startswith("aarch64")


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
    """sdot of ARM's dot product extension: four products of i8 added to an i32. u8 activations become i8 by subtracting 128, an xor."""

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


class Smlal(Arithmetic):
    """smlal of NEON: products of i16, to which bytes are widened, added to i32. LLVM selects it for products of sign-extended i16."""

    name = "smlal"
    dtype = "int16"
    per_step = 2
    cycles = 3.0

    def runs_on(self, target: Target) -> bool:
        return arm(target)

    def pack(self, weights: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(weights.swapaxes(-1, -2).astype(np.int16))

    def operands(self, b: Builder, x: Buffer, at: Expr, lanes: int) -> list[Expr]:
        return [b.let("x", splat(t.Cast("int16", b.load(x, at + i)), lanes)) for i in range(STEP)]

    def load(self, b: Builder, w: Buffer, at: Expr, lanes: int) -> list[Expr]:
        return [b.let("w", b.load(w, at + i * lanes, lanes)) for i in range(STEP)]

    def multiply(self, b: Builder, acc: Expr, x: list[Expr], w: list[Expr], lanes: int) -> Expr:
        for value, weight in zip(x, w):
            acc = acc + t.Cast(f"int32x{lanes}", value) * t.Cast(f"int32x{lanes}", weight)
        return acc
