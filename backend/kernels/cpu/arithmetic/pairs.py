"""Multiply-accumulate of i16 into i32, two channels a step, for widened bytes and the results of Winograd transforms."""

from __future__ import annotations

import numpy as np
from tvm import tirx as t

from ....codegen.builder import Buffer, Builder, Expr, splat
from ....codegen.instructions import vpdpwssd
from ....target import Target
from .base import Arithmetic, added, pmaddwd, pmaddwd_on


class Pairs(Arithmetic):
    """pmaddwd of x86: exact modulo 2^32, and for bytes without wrapping."""

    name = "pairs"
    dtype = "int16"
    x_dtype = "int16"
    channels = 2
    each = 2
    per_step = 3
    cycles = 0.65

    def runs_on(self, target: Target) -> bool:
        return pmaddwd_on(target)

    def fits(self, x: str, weights: np.ndarray) -> bool:
        return x == "i16"

    def pack(self, weights: np.ndarray) -> np.ndarray:
        pairs = weights.reshape(*weights.shape[:-1], self.steps, self.channels)
        return np.ascontiguousarray(np.moveaxis(pairs, -2, -4).astype(np.int16))

    def operands(self, b: Builder, x: Buffer, at: Expr, lanes: int) -> list[Expr]:
        pair = splat(t.reinterpret("int32", b.load(x, at, self.channels)), lanes)
        return [b.let("x", t.reinterpret(f"int16x{2 * lanes}", pair))]

    def multiply(self, b: Builder, acc: Expr, x: list[Expr], w: list[Expr], lanes: int) -> Expr:
        return added(b, acc, pmaddwd(x[0], w[0], lanes))


class PairsVnni(Pairs):
    """vpdpwssd of x86: pmaddwd and the addition in one instruction."""

    name = "pairs_vnni"
    per_step = 1
    cycles = 0.6

    def runs_on(self, target: Target) -> bool:
        # AVX-VNNI's form has another encoding
        return target.dot == "vnni" and target.lanes == 16

    def multiply(self, b: Builder, acc: Expr, x: list[Expr], w: list[Expr], lanes: int) -> Expr:
        return vpdpwssd(b, acc, x[0], w[0])
