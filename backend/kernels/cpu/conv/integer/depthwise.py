"""Depthwise convolution of stored integers: lanes are channels, a register tile is a run of output columns, taps outside the map are skipped.

Loops: (image, channel block, row chunk) > output row > column tile > kernel row. Every input vector is widened to i32 and centered once, and
feeds all the taps it belongs to. Both factors fit i16, so that on x86 a product is a pmaddwd, whose second pair is 0, not the slower pmulld.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from tvm import tirx as t

from ......ir.op import Value
from .....codegen.builder import Buffer, Expr, splat
from .....codegen.kernel_builder import KernelBuilder
from .....target import Target
from .....tile.fusion import Fusion
from .....tile.integer import TileIntConv2d
from ....template import Params, kernel
from ...arithmetic.base import pmaddwd, pmaddwd_on
from ...chunks import chunks_of_rows
from ...integer_tail import finish, packs
from ...window import Row, Window, balance, column_tiles, tiles_of
from ..depthwise import touched
from ..template import conv_window
from .gemm import IntegerConv

#: Output columns of a tile at most.
WIDTH = 8


@kernel(TileIntConv2d)
class IntegerDepthwise(IntegerConv):
    name = "integer_depthwise"
    strided_batch = True

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        g = conv_window(fusion)
        return g.depthwise and g.block_in == g.lanes and super().accepts(fusion, target)

    def variant(self, fusion: Fusion, target: Target) -> str:
        return "packs" if packs(fusion, target) else ""

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        g = conv_window(fusion)
        behind = replace(g, h=g.oh, w=g.ow, kh=1, kw=1, groups=1)
        chunk = balance(g.oh, g.oh, g.n, g.in_blocks, threads, behind.small_weights)
        width = max(1, min(WIDTH, target.registers // 2 * target.lanes // g.lanes))
        return [{"width": width, "chunk": chunk, "packs": packs(fusion, target)}]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        g = conv_window(fusion)
        return float(g.n * g.in_blocks * g.oh * g.ow * (g.lanes / target.lanes) * (g.kh * g.kw + 6))

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        """w (C, 1, kh, kw) -> [block][kh][kw][lane] of i32, for pmaddwd of their lower halves; the bias, or zeros, then the zero point."""
        op: Any = fusion.anchor
        g = conv_window(fusion)
        w, b, zero = (None if v is None else fusion.array(v) for v in (op.w, op.b, op.zero))
        assert w is not None and zero is not None
        full, bias = np.zeros((g.in_blocks * g.lanes, g.kh, g.kw), np.int32), np.zeros(g.in_blocks * g.lanes, np.int32)
        full[: g.c] = w[:, 0]
        bias[: g.c] = 0 if b is None else b
        packed = np.ascontiguousarray(full.reshape(g.in_blocks, g.lanes, g.kh, g.kw).transpose(0, 2, 3, 1))
        packed = packed & 0xFFFF if pmaddwd_on(target) else packed
        return {op.w: packed, op.zero: np.concatenate([bias, np.full(1, int(zero), np.int32)])}

    def emit(self, k: KernelBuilder) -> None:
        g, b = conv_window(k.fusion), k.b
        with chunks_of_rows(k, g) as chunk, b.loop("oy", chunk.start, chunk.stop) as oy:
            row = chunk.row(oy)
            taps = g.rows(b, oy)
            for width, ox, static_x, _ in tiles_of(b, column_tiles(g, k.params["width"], 1)):
                self._tile(k, g, row, width, ox, static_x, taps)

    def _tile(self, k: KernelBuilder, g: Window, row: Row, width: int, ox: Expr, static_x: int | None, taps: tuple[Expr, Expr]) -> None:
        b, lanes, op = k.b, k.target.lanes, k.anchor
        zero = splat(b.load(k.args[op.zero], g.in_blocks * g.lanes), lanes)
        parts = range(0, g.lanes, lanes)
        acc: list[dict[int, Buffer]] = [{part: b.local(lanes, "int32") for part in parts} for _ in range(width)]
        for part in parts:
            bias = b.let("bias", b.load(k.args[op.zero], row.block * g.lanes + part, lanes))
            for a in acc:
                b.store(a[part], 0, bias, lanes)
        with b.loop("r", *taps, "rolled") as r:
            at = b.let("row", row.source(row.oy * g.sh - g.top + r * g.dh) + (ox * g.sw - g.left) * g.lanes)
            panel = b.let("panel", (row.block * g.kh + r) * (g.kw * g.lanes))
            for part in parts:
                weights = [b.let("w", b.load(k.args[op.w], panel + s * g.lanes + part, lanes)) for s in range(g.kw)]
                for column, pairs in touched(g, width, static_x):
                    x = b.value(t.Cast(f"int32x{lanes}", b.load(k.args[op.x], at + column * g.lanes + part, lanes)) - zero)
                    for i, s in pairs:
                        b.store(acc[i][part], 0, b.load(acc[i][part], 0, lanes) + _product(k.target, x, weights[s]), lanes)
        values = [b.load(a[part], 0, lanes) for a in acc for part in parts]
        finish(k, values, row.result + ox * g.lanes, row.block * g.lanes, row.image, k.params["packs"])


def _product(target: Target, x: Expr, w: Expr) -> Expr:
    if not pmaddwd_on(target):
        return x * w
    x, w = (t.reinterpret(f"int16x{2 * target.lanes}", v) for v in (x, w))
    return pmaddwd(x, w, target.lanes)
