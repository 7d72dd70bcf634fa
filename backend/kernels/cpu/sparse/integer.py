"""Pointwise convolution of stored integers that multiplies only by weights that are not zero: sums are floats, and exact.

Bytes are converted to f32 as they are transposed into scratch. Products and sums of integers below 2^24 are exact in f32, in any order, and the
largest that a layer can reach is known from its weights. Multiplying single bytes has no faster instruction: vpdpbusd and its kind need four
neighbouring channels, of which most are zeros here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx as t

from .....ir.op import Value
from .....ir.types import NUMPY
from ....codegen.builder import Expr
from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.fusion import Fusion
from ....tile.integer import TileIntConv2d
from ...template import Params, kernel
from ..conv.integer.geometry import whole_bias
from ..conv.template import conv_window
from ..integer_tail import finish, packs
from ..window import Window
from .pointwise import Chunk, SparseConv

#: Integers up to it are exact in f32.
EXACT = 1 << 24
#: Modelled cycles beside those of a dense kernel by vpdpbusd, which the model of floats puts too low: bench/sparse_kernels.py.
BESIDE_VNNI = 1.3


@kernel(TileIntConv2d)
class SparseIntPointwise(SparseConv):
    name = "sparse_integer_pointwise"
    strided_batch = True
    per_transposed = 6.0

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        known = all(v is None or fusion.array(v) is not None for v in (op.w, op.b, op.zero))
        return known and target.lanes in (4, 8, 16) and super().accepts(fusion, target) and largest(fusion) <= EXACT

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        return [{**params, "packs": packs(fusion, target)} for params in super().candidates(fusion, target, threads)]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        return super().cost(fusion, target, params) * (BESIDE_VNNI if target.dot == "vnni" else 1.0)

    def variant(self, fusion: Fusion, target: Target) -> str:
        return " ".join([super().variant(fusion, target), *["packs"] * packs(fusion, target)]) if self.accepts(fusion, target) else ""

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        op: Any = fusion.anchor
        g = conv_window(fusion)
        return {op.w: self.weights(fusion, target, params), op.zero: biases(fusion, g.out_blocks * g.lanes)}

    def code(self, k: KernelBuilder, g: Window, image: Expr, at: Expr, chunk: int) -> Chunk:
        return IntegerChunk(k, g, image, at, chunk)

    def emit(self, k: KernelBuilder) -> None:
        self.emit_chunks(k)


def biases(fusion: Fusion, size: int) -> np.ndarray:
    """b - zero * sum of w for each output, i32."""
    op: Any = fusion.anchor
    w, b, zero = (None if v is None else fusion.array(v) for v in (op.w, op.b, op.zero))
    assert w is not None and zero is not None
    return whole_bias(w, b, int(zero), size)


def largest(fusion: Fusion) -> int:
    """A bound on the magnitude of every partial sum of a layer."""
    op: Any = fusion.anchor
    w = fusion.array(op.w)
    assert w is not None
    limits = np.iinfo(NUMPY[str(op.x.type.elem)])
    sums = np.abs(w.reshape(len(w), -1).astype(np.int64)).sum(1) * max(limits.max, -limits.min)
    return int((sums + np.abs(biases(fusion, len(w)).astype(np.int64))).max())


class IntegerChunk(Chunk):
    """A chunk of bytes."""

    def read(self, at: Expr) -> Expr:
        return t.Cast(f"float32x{self.lanes}", t.Cast(f"int32x{self.lanes}", super().read(at)))

    def bias(self, output: Expr) -> Expr:
        return t.Cast("float32", self.k.b.load(self.k.args[self.k.anchor.zero], output))

    def write(self, pixels: list[list[Expr]], at: Expr, block: Expr) -> None:
        sums = [t.Cast(f"int32x{self.lanes}", vector) for pixel in pixels for vector in pixel]
        finish(self.k, sums, at, block * self.g.lanes, self.image, self.k.params["packs"])
