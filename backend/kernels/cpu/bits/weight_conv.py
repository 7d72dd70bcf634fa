"""Convolutions of f32 maps by weights of few levels: weights stay bits in memory, and become floats in registers, once for a tile of pixels.

A word holds the bits of 32 outputs for a channel and tap. Of each vector of outputs the word is tested against one bit in each lane:

    w[lane] = first + sum over planes m of (step 2^m where bit lane of word_m is set)

Loops: (image, row chunk, output group) > output row > column tile > input block > kernel row > tap > channel. Taps outside the map are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx as t

from .....ir.op import Value
from ....codegen.builder import Expr, const, splat
from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.bits import WORD, TileWeightConv2d
from ....tile.fusion import Fusion
from ...template import Params, Template, kernel
from ..window import Window, column_tiles, share, tasks, tiles_of, window


def weight_window(fusion: Fusion) -> Window:
    """The window of a fusion's anchor."""
    op: Any = fusion.anchor
    return window(op.x, op.out.type, op.kernel, op.stride, op.padding, op.dilation)


@kernel(TileWeightConv2d)
class WeightConv(Template):
    name = "bit_weight_conv"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        return fusion.array(op.w) is not None and op.lanes == target.lanes and op.x.type.layout is not None

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        # a group is a word of outputs, or a half of one where registers are few
        vectors = min(WORD // target.lanes, 4 if target.registers == 32 else 2)
        return [{"vectors": vectors, "columns": max(1, (target.registers - vectors - 3) // vectors)}]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        op: Any = fusion.anchor
        return float(op.macs()) / target.lanes

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        """(kh, kw, C, planes, words) -> [word][kh][kw][channel][plane], so that a group reads its words as they follow."""
        op: Any = fusion.anchor
        w = fusion.array(op.w)
        assert w is not None
        return {op.w: np.ascontiguousarray(np.moveaxis(w, 4, 0))}

    def emit(self, k: KernelBuilder) -> None:
        g, b, lanes = weight_window(k.fusion), k.b, k.target.lanes
        vectors, chunks = k.params["vectors"], min(k.threads, g.oh)
        total = g.out_blocks
        whole, rest = divmod(total, vectors)
        for size, first, count in ((vectors, 0, whole), (rest, whole * vectors, 1)):
            if not size or not count:
                continue
            with b.loop("task", 0, g.n * chunks * count, tasks(k.threads, g.n * chunks * count)) as task:
                group = b.let("group", t.floormod(task, count))
                part, image = b.let("part", t.floormod(t.floordiv(task, count), chunks)), b.let("image", t.floordiv(task, count * chunks))
                vector = b.let("vector", first + group * size)
                with b.loop("oy", *share(part, g.oh, chunks), "rolled") as oy:
                    for width, ox, known, _ in tiles_of(b, column_tiles(g, k.params["columns"], size)):
                        self._tile(k, g, lanes, size, vector, image, oy, width, ox, known)

    def _tile(
        self, k: KernelBuilder, g: Window, lanes: int, vectors: int, vector: Expr, image: Expr, oy: Expr, width: int, ox: Expr, known: int | None
    ) -> None:
        b, x_rows = k.b, k.fusion.map_rows(k.anchor.x)
        acc = [[b.local(lanes) for _ in range(vectors)] for _ in range(width)]
        for own in (a for row in acc for a in row):
            b.store(own, 0, const(0.0, "float32", lanes), lanes)
        columns = [g.columns(known, tap, width) if known is not None else [*range(width)] for tap in range(g.kw)]
        r0, r1 = g.rows(b, oy)
        full, ragged = divmod(g.c, g.block_in)
        for first, last, channels in ((0, full, g.block_in), (full, full + 1, ragged)):
            if first == last or not channels:
                continue
            with b.loop("cb", first, last, "rolled") as cb, b.loop("r", r0, r1, "rolled") as r:
                at = b.let("x_row", x_rows.at(image * g.in_blocks + cb, oy * g.sh - g.top + r * g.dh) + (ox * g.sw - g.left) * g.block_in)
                for tap, live in enumerate(columns):
                    if live:
                        with b.loop("c", 0, channels, "rolled") as c:
                            place = ((r * g.kw + tap) * g.c + cb * g.block_in + c) * k.anchor.w.shape[3]
                            weights = self._weights(k, g, lanes, vectors, vector, place)
                            for i in live:
                                step = (i * g.sw + tap * g.dw) * g.block_in
                                value = b.let("x", splat(b.load(k.args[k.anchor.x], at + step + c), lanes))
                                for own, weight in zip(acc[i], weights):
                                    b.store(own, 0, b.load(own, 0, lanes) + value * weight, lanes)
        stride, plane = k.fusion.map_rows(k.fusion.result).cut(1)
        for j in range(vectors):
            offset = b.let("offset", image * stride + (vector + j) * plane + (oy * g.ow + ox) * lanes)
            for i in range(width):
                k.finish(b.load(acc[i][j], 0, lanes), offset + i * lanes, (vector + j) * lanes, image, lanes)

    @staticmethod
    def _weights(k: KernelBuilder, g: Window, lanes: int, vectors: int, vector: Expr, place: Expr) -> list[Expr]:
        """Vectors of weights of a channel and tap."""
        b, op = k.b, k.anchor
        planes, per_word = op.w.shape[3], WORD // lanes
        panel = g.kh * g.kw * g.c * planes
        result = []
        for j in range(vectors):
            number, part = t.floordiv(vector + j, per_word), t.floormod(vector + j, per_word)
            value: Expr = const(float(op.first), "float32", lanes)
            for m in range(planes):
                word = splat(t.shift_right(b.load(k.args[op.w], number * panel + place + m), part * lanes), lanes)
                bit = t.bitwise_and(word, t.Shuffle([t.const(1 << i, "int32") for i in range(lanes)], [*range(lanes)]))
                here = t.NE(bit, const(0, "int32", lanes))
                high, low = (const(v, "float32", lanes) for v in (float(op.step << m), 0.0))
                if m == 0:
                    value = t.Select(here, const(float(op.first + op.step), "float32", lanes), value)
                else:
                    value = b.value(value) + t.Select(here, high, low)
            result.append(b.let("w", value))
        return result
