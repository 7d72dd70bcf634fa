"""Depthwise convolution of bytes on x86 by pmaddwd of two kernel rows at once: lanes are channels, and the bytes of two rows are interleaved.

    row 0: a0 a1 ..   row 1: b0 b1 ..   ->   a0 b0 a1 b1 ..  as i16, times  w[0, s] w[1, s] ..

Half as many multiplications as tap by tap. A kernel row outside the map is read from a row inside, times 0; the bias corrects for the zero point,
with one bias for each class of outputs at a border (`borders`).
Loops: (image, channel block, row chunk) > output row > column tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx as t

from ......ir.op import Value
from .....codegen.builder import Expr
from .....codegen.kernel_builder import KernelBuilder
from .....codegen.shuffles import shuffle
from .....target import Target
from .....tile.fusion import Fusion
from .....tile.integer import TileIntConv2d
from ....template import Params, kernel
from ...arithmetic.base import added, pmaddwd, pmaddwd_on
from ...chunks import chunks_of_rows
from ...integer_tail import finish
from ...window import Row, Window, column_tiles, tiles_of
from ..depthwise import touched
from ..template import conv_window
from .borders import Borders
from .depthwise import IntegerDepthwise

#: Kernel rows at most: they are unrolled.
ROWS = 7


@kernel(TileIntConv2d)
class PairedDepthwise(IntegerDepthwise):
    name = "paired_depthwise"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        g = conv_window(fusion)
        return pmaddwd_on(target) and g.kh <= ROWS and super().accepts(fusion, target) and Borders(g, 0).few

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        g = conv_window(fusion)
        return float(g.n * g.in_blocks * g.oh * g.ow * (g.lanes / target.lanes) * (_pairs(g) * g.kw + 4))

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        """w (C, 1, kh, kw) -> [block][row class][pair of rows][kw][lane][2], 0 outside the map; biases of all borders as the zero point."""
        op: Any = fusion.anchor
        g = conv_window(fusion)
        w, b, zero = (None if v is None else fusion.array(v) for v in (op.w, op.b, op.zero))
        assert w is not None and zero is not None
        borders, pairs = Borders(g, g.in_blocks * g.lanes), _pairs(g)
        full = np.zeros((g.in_blocks * g.lanes, borders.rows.classes, 2 * pairs, g.kw), np.int16)
        for number, y in enumerate(borders.rows.members()):
            for r in range(g.kh):
                if 0 <= y * g.sh - g.top + r * g.dh < g.h:
                    full[: g.c, number, r] = w[:, 0, r]
        taken = full.reshape(g.in_blocks, g.lanes, borders.rows.classes, pairs, 2, g.kw).transpose(0, 2, 3, 5, 1, 4)
        return {op.w: np.ascontiguousarray(taken), op.zero: borders.biases(w, b, int(zero))}

    def emit(self, k: KernelBuilder) -> None:
        g, b = conv_window(k.fusion), k.b
        with chunks_of_rows(k, g) as chunk, b.loop("oy", chunk.start, chunk.stop) as oy:
            row = chunk.row(oy)
            ys = [oy * g.sh - g.top + r * g.dh for r in range(g.kh)]
            sources = [b.let("source", row.source(b.let("y", t.max(0, t.min(g.h - 1, y))))) for y in ys]
            above = Borders(g, 0).rows.emit(b, oy)
            for width, ox, static_x, _ in tiles_of(b, column_tiles(g, k.params["width"], 1)):
                self._pair_tile(k, g, row, above, sources, width, ox, static_x)

    def _pair_tile(self, k: KernelBuilder, g: Window, row: Row, above: Expr, sources: list[Expr], width: int, ox: Expr, static_x: int | None) -> None:
        b, lanes, op, borders = k.b, k.target.lanes, k.anchor, Borders(g, g.in_blocks * g.lanes)
        parts = range(0, g.lanes, lanes)
        acc = [{part: b.local(lanes, "int32") for part in parts} for _ in range(width)]
        for part in parts:
            for i, a in enumerate(acc):
                side = borders.columns.first if static_x is None else borders.columns.of(static_x + i)
                b.store(a[part], 0, b.load(k.args[op.zero], borders.place(above, side, row.block * g.lanes + part), lanes), lanes)
        left = b.let("left", (ox * g.sw - g.left) * g.lanes)
        panel = b.let("panel", (row.block * borders.rows.classes + above) * (_pairs(g) * g.kw * g.lanes * 2))
        for part in parts:
            for pair in range(_pairs(g)):
                base = panel + (pair * g.kw * g.lanes + part) * 2
                weights = [b.let("w", b.load(k.args[op.w], base + s * (g.lanes * 2), 2 * lanes)) for s in range(g.kw)]
                for column, uses in touched(g, width, static_x):
                    places = [source + left + (column * g.lanes + part) for source in sources[2 * pair : 2 * pair + 2]]
                    x = b.value(self._interleaved(k, places))
                    for i, s in uses:
                        b.store(acc[i][part], 0, added(b, b.load(acc[i][part], 0, lanes), pmaddwd(x, weights[s], lanes)), lanes)
        values = [b.load(a[part], 0, lanes) for a in acc for part in parts]
        finish(k, values, row.result + ox * g.lanes, row.block * g.lanes, row.image, k.params["packs"])

    def _interleaved(self, k: KernelBuilder, places: list[Expr]) -> Expr:
        """Bytes of two rows, or of one and zeros, as i16."""
        b, lanes = k.b, k.target.lanes
        rows = [b.load(k.args[k.anchor.x], at, lanes) for at in places]
        if len(rows) == 1:
            # the other half of an i8 is its sign, times a weight of 0
            return t.reinterpret(f"int16x{2 * lanes}", t.Cast(f"int32x{lanes}", rows[0]))
        woven = shuffle([b.value(value) for value in rows], [j for i in range(lanes) for j in (i, lanes + i)])
        return t.Cast(f"int16x{2 * lanes}", woven)


def _pairs(g: Window) -> int:
    """Pairs of kernel rows."""
    return -(-g.kh // 2)
