"""`Arithmetic`: how integer kernels multiply and accumulate, and the x86 instructions that several arithmetics share.

A step takes neighbouring channels of a pixel in all lanes of a vector, four bytes or two i16, and as many weights for each lane (an output):

    acc[lane] += x[0] w[lane, 0] + x[1] w[lane, 1] + ...         modulo 2^32

Every arithmetic that fits a layer gives the same bits; they differ in speed only.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from tvm import tirx as t

from ....codegen.builder import Buffer, Builder, Expr, splat
from ....codegen.instructions import opaque
from ....target import Target

#: Channels of a dword of bytes.
STEP = 4
#: Element types of bytes.
BYTES = ("u8", "i8")


class Arithmetic:
    """One way to multiply and accumulate. weights (..., steps, vectors, lanes, 4) i8 are packed by `pack`, vector by vector."""

    name: ClassVar[str]
    #: dtype of packed weights, and how many of them a step of a vector takes for each lane.
    dtype: ClassVar[str] = "int8"
    each: ClassVar[int] = STEP
    #: dtype of activations, and how many channels a step takes.
    x_dtype: ClassVar[str] = "uint8"
    channels: ClassVar[int] = STEP
    #: Vector registers beside accumulators: for each vector of weights, and for all of a step.
    per_vector: ClassVar[int] = 1
    per_step: ClassVar[int] = 1
    #: Cycles of a step of one vector, in which an f32 arithmetic would do half a multiply-add.
    cycles: ClassVar[float] = 1.0

    @property
    def wide(self) -> bool:
        """Whether its activations are i16."""
        return self.x_dtype == "int16"

    @property
    def steps(self) -> int:
        """Steps of a dword of channels."""
        return STEP // self.channels

    @property
    def dword_cycles(self) -> float:
        """Cycles of one vector for a dword of channels."""
        return self.cycles * self.steps

    def runs_on(self, target: Target) -> bool:
        """Whether the target has the instructions."""
        return True

    def fits(self, x: str, weights: np.ndarray) -> bool:
        """Whether sums are exact for activations of an element type and these weights (..., 4)."""
        return x in BYTES

    def offset(self, x: str) -> int:
        """Subtracted from each activation of an element type before the multiplication; kernels lower the zero point by it."""
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
        """acc plus the products of each lane."""
        raise NotImplementedError(f"{type(self).__name__}.multiply")


def dword(b: Builder, x: Buffer, at: Expr, lanes: int) -> Expr:
    """Four bytes in all lanes: one broadcast from memory."""
    return splat(t.reinterpret("int32", b.load(x, at, STEP)), lanes)


def added(b: Builder, acc: Expr, product: Expr) -> Expr:
    """acc + product on x86, in that order (`opaque`)."""
    return opaque(b, acc + product, "v")


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
