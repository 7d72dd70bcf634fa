"""Depthwise convolution of bytes by vpermb and vpdpbusd: 64 bytes are 4 pixels of 16 channels, and one permutation makes them 16 dwords of
4 pixels, which a vpdpbusd multiplies by up to 4 taps of a kernel row.

    x  p0c0 p0c1 .. p1c0 ..  ->  p0c0 p1c0 p2c0 p3c0  p0c1 ..        3 taps of pixel 0:  w0 w1 w2 0,  of pixel 1:  0 w0 w1 w2

Bytes that an output does not use, also those beyond the side of a map, are multiplied by weights of 0.
Loops: (image, channel block, row chunk) > output row > column tile > kernel row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tvm import tirx as t

from ......ir.op import Value
from .....codegen.builder import Expr, ramp
from .....codegen.kernel_builder import KernelBuilder
from .....target import Target
from .....tile.fusion import Fusion
from .....tile.integer import TileIntConv2d
from ....template import Params, kernel
from ...chunks import chunks_of_rows
from ...integer_tail import finish, packs
from ...window import Row, Window, balance, column_tiles, tiles_of
from ..template import conv_window
from .borders import Borders
from .gemm import IntegerConv

#: Output columns of a tile at most: their accumulators leave registers for the weights of a kernel row.
WIDTH = 16
#: Pixels of a load.
PIXELS = 4
LANES = 16
BYTES = PIXELS * LANES
#: The tap that each byte of a dword is multiplied by; -1 for none.
Taps = tuple[int, ...]


@dataclass(frozen=True)
class Load:
    """Four pixels from an input column on, counted from that of the tile's first output, and the outputs that read them."""

    column: int
    outputs: list[tuple[int, Taps]]


def loads(g: Window, width: int, static_x: int | None) -> list[Load]:
    """The fewest loads for a tile, left to right. Each output reads its taps inside the map from one of them."""
    result: list[Load] = []
    for i in range(width):
        inside = [s for s in range(g.kw) if static_x is None or i in g.columns(static_x, s, width)]
        if not inside:
            continue
        first = i * g.sw - g.left
        if not result or first + inside[0] < result[-1].column or first + inside[-1] >= result[-1].column + PIXELS:
            result.append(Load(first + inside[0], []))
        taps = [result[-1].column + p - first for p in range(PIXELS)]
        result[-1].outputs.append((i, tuple(s if s in inside else -1 for s in taps)))
    return result


def variants(g: Window) -> list[Taps]:
    """All tap assignments with which outputs read their dwords."""
    tiles = [(width, x if repeat == 1 else None) for width, x, repeat in column_tiles(g, WIDTH, 1)]
    return sorted({taps for tile in tiles for load in loads(g, *tile) for _, taps in load.outputs})


@kernel(TileIntConv2d)
class ByteDepthwise(IntegerConv):
    name = "byte_depthwise"
    strided_batch = True

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        g = conv_window(fusion)
        able = target.dot == "vnni" and target.lanes == LANES and "avx512vbmi" in target.features and op.x.type.elem == "u8"
        fits = g.depthwise and g.block_in == g.lanes and g.kw <= PIXELS and g.dw == 1
        return able and fits and super().accepts(fusion, target) and Borders(g, 0).few

    def variant(self, fusion: Fusion, target: Target) -> str:
        return "packs" if packs(fusion, target) else ""

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        g = conv_window(fusion)
        behind = replace(g, h=g.oh, w=g.ow, kh=1, kw=1, groups=1)
        chunk = balance(g.oh, g.oh, g.n, g.in_blocks, threads, behind.small_weights)
        return [{"arithmetic": "vnni", "chunk": chunk, "packs": packs(fusion, target)}]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        g = conv_window(fusion)
        return float(g.n * g.in_blocks * g.oh * g.ow * (g.kh + 3))

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        """w (C, 1, kh, kw) -> [block][kh][variant][lane][4 taps]; the biases of all borders in place of the zero point."""
        op: Any = fusion.anchor
        g = conv_window(fusion)
        w, b, zero = (None if v is None else fusion.array(v) for v in (op.w, op.b, op.zero))
        assert w is not None and zero is not None
        full = np.zeros((g.in_blocks * LANES, g.kh, g.kw + 1), np.int8)
        full[: g.c, :, : g.kw] = w[:, 0]
        taken = full[:, :, np.array(variants(g))].reshape(g.in_blocks, LANES, g.kh, -1, PIXELS)
        biases = Borders(g, g.in_blocks * LANES).biases(w, b, int(zero))
        return {op.w: np.ascontiguousarray(taken.transpose(0, 2, 3, 1, 4)), op.zero: biases}

    def emit(self, k: KernelBuilder) -> None:
        g, b = conv_window(k.fusion), k.b
        numbers = {taps: i for i, taps in enumerate(variants(g))}
        with chunks_of_rows(k, g) as chunk, b.loop("oy", chunk.start, chunk.stop) as oy:
            row, taps = chunk.row(oy), g.rows(b, oy)
            for width, ox, static_x, _ in tiles_of(b, column_tiles(g, WIDTH, 1)):
                self._tile(k, g, numbers, row, width, ox, static_x, taps)

    def _tile(
        self, k: KernelBuilder, g: Window, numbers: dict[Taps, int], row: Row, width: int, ox: Expr, static_x: int | None, taps: tuple[Expr, Expr]
    ) -> None:
        b, op, borders = k.b, k.anchor, Borders(g, g.in_blocks * LANES)
        acc = [b.local(LANES, "int32") for _ in range(width)]
        above = borders.rows.emit(b, row.oy)
        for i, a in enumerate(acc):
            side = borders.columns.first if static_x is None else borders.columns.of(static_x + i)
            b.store(a, 0, b.load(k.args[op.zero], borders.place(above, side, row.block * LANES), LANES), LANES)
        with b.loop("r", *taps, "rolled") as r:
            at = b.let("row", row.source(row.oy * g.sh - g.top + r * g.dh) + ox * (g.sw * LANES))
            panel = b.let("panel", (row.block * g.kh + r) * (len(numbers) * BYTES))
            weights: dict[Taps, Expr] = {}
            for load in loads(g, width, static_x):
                x = b.value(_by_channel(b.load(k.args[op.x], at + load.column * LANES, BYTES)))
                for i, which in load.outputs:
                    if which not in weights:
                        weights[which] = b.let("w", b.load(k.args[op.w], panel + numbers[which] * BYTES, BYTES))
                    b.store(acc[i], 0, _dot(b.load(acc[i], 0, LANES), x, weights[which]), LANES)
        finish(k, [b.load(a, 0, LANES) for a in acc], row.result + ox * LANES, row.block * LANES, row.image, k.params["packs"])


def _by_channel(x: Expr) -> Expr:
    """Four pixels of 16 channels -> for each channel its four pixels: byte 4c + p is byte c + 16p."""
    order = t.reinterpret(f"uint8x{BYTES}", ramp(0x30201000, LANES, 0x01010101))
    return t.call_llvm_pure_intrin(f"uint8x{BYTES}", "llvm.x86.avx512.permvar.qi.512", x, order)


def _dot(acc: Expr, x: Expr, w: Expr) -> Expr:
    return t.call_llvm_pure_intrin(f"int32x{LANES}", "llvm.x86.avx512.vpdpbusd.512", acc, x, w)
