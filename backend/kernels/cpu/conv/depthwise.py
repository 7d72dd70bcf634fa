"""Depthwise convolution on blocked maps: lanes are channels, a register tile is a run of output columns.

Loops: (image, channel block, row chunk) > output row > column tile > kernel row; per kernel row the weights are in registers, and every
input vector is loaded once and used for all its taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from tvm import tirx as t

from .....ir.op import Value
from ....codegen.builder import Buffer, Expr
from ....codegen.kernel_builder import KernelBuilder
from ....codegen.prefetch import LINE, Prefetch
from ....target import Target
from ....tile.fusion import Fusion
from ....tile.ops import TileConv2d
from ...template import Params, kernel
from ..chunks import chunks_of_rows
from ..register_tile import Tile
from ..window import Row, Window, balance, column_tiles, tiles_of
from .template import ConvTemplate, conv_window, padded_bias

#: From this many multiply-adds for each vector of the input on, the next output row, and the input rows that it needs, are prefetched. With
#: fewer, loads bound the time, and prefetches would add to them.
BUSY = 3


@kernel(TileConv2d)
class Depthwise(ConvTemplate):
    name = "depthwise"
    strided_batch = True
    masked_stores = True

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        g = conv_window(fusion)
        return g.groups == g.c == g.o and g.lanes > 0 and g.block_in == g.lanes and fusion.array(op.w) is not None

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        g = conv_window(fusion)
        # threads divide the work as in a pointwise convolution after it, so that each finds its operands in its own cache
        behind = replace(g, h=g.oh, w=g.ow, kh=1, kw=1, groups=1)
        return [{"width": columns_in_registers(g, target), "chunk": balance(g.oh, g.oh, g.n, g.in_blocks, threads, behind.small_weights)}]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        return depthwise_cycles(conv_window(fusion))

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        """(C, 1, kh, kw) -> [block][kh][kw][lane]."""
        op: Any = fusion.anchor
        g = conv_window(fusion)
        w = fusion.array(op.w)
        assert w is not None
        full = np.zeros((g.in_blocks * g.lanes, g.kh, g.kw), np.float32)
        full[: g.c] = w[:, 0]
        packed = {op.w: np.ascontiguousarray(full.reshape(g.in_blocks, g.lanes, g.kh, g.kw).transpose(0, 2, 3, 1))}
        if op.b is not None:
            packed[op.b] = padded_bias(fusion.array(op.b), g.o, g.lanes)
        return packed

    def row_partitioned(self, fusion: Fusion, target: Target, params: Params) -> list[list[Value]]:
        op: Any = fusion.anchor
        return [[op.x], fusion.same_layout if params["chunk"] < conv_window(fusion).oh else []]

    def emit(self, k: KernelBuilder) -> None:
        g, b = conv_window(k.fusion), k.b
        inputs, partitions = k.fusion.map_rows(k.anchor.x), k.fusion.map_rows(k.fusion.result).partitions
        with chunks_of_rows(k, g) as chunk:
            start, stop = chunk.start, chunk.stop
            with b.loop("oy", start, stop) as oy:
                row = chunk.row(oy)
                # the row after a chunk's last one is another thread's, unless it has a partition: this thread goes on with the next block
                skip = t.Select(oy + 1 < stop, 0, g.oh - (stop - start)) if k.params["chunk"] < g.oh and partitions == 1 else 0
                new = inputs.at(chunk.plane, (oy + skip) * g.sh - g.top + (g.kh - 1) * g.dh + 1, t.floordiv(oy * g.sh, inputs.rows))
                depthwise_row(k, g, k.params["width"], row, (new, row.result + (1 + skip) * (g.ow * g.lanes)))


def columns_in_registers(g: Window, target: Target) -> int:
    """Output columns whose accumulators fit the registers beside a row of weights."""
    return max(1, min(24, target.registers - g.kw - 2))


def depthwise_cycles(g: Window) -> float:
    return float(g.n * g.in_blocks * g.oh * g.ow * (g.kh * g.kw / 2 + 3))


def depthwise_row(k: KernelBuilder, g: Window, width: int, row: Row, next_row: tuple[Expr, Expr] | None = None) -> None:
    """One output row of a channel block, in tiles of at most `width` columns.

    next_row: where the input that only the next output row reads starts in the operand, and where that row starts in k.out.
    """
    b, taps, layout = k.b, g.rows(k.b, row.oy), column_tiles(g, width, 1)
    lines = -(-g.sh * g.w * g.lanes // LINE) if next_row and g.kh * g.kw >= BUSY * g.sh * g.sw else 0
    each = -(-lines // (g.kh * sum(repeat for _, _, repeat in layout)))
    new, below = (b.let("next_row", at) for at in next_row) if next_row and lines else (0, 0)
    for columns, ox, static_x, number in tiles_of(b, layout):
        ahead = []
        if lines:
            ahead.append(Prefetch(k.args[k.anchor.x], b.let("ahead", new + number * (g.kh * each * LINE)), each))
        if lines and k.threads > 1:
            # another thread may have used this memory before: taking over its lines costs as much as reading them
            ahead.append(Prefetch(k.out, below + ox * g.lanes, -(-columns * g.lanes // (g.kh * LINE)), write=True))
        _tile(k, g, columns, row, ox, static_x, taps, ahead)


def _tile(
    k: KernelBuilder, g: Window, width: int, row: Row, ox: Expr, static_x: int | None, taps: tuple[Expr, Expr], ahead: Sequence[Prefetch]
) -> None:
    b, lanes, op = k.b, g.lanes, k.anchor
    tile = Tile(b, width, 1, lanes)
    tile.start(None if op.b is None else lambda j: b.load(k.args[op.b], row.block * lanes, lanes))
    with b.loop("r", *taps) as r:
        for a in ahead:
            for line in range(a.lines):
                b.prefetch(a.buffer, a.at + (r * a.lines + line) * LINE, a.write)
        weights = [b.let("w", b.load(k.args[op.w], ((row.block * g.kh + r) * g.kw + s) * lanes, lanes)) for s in range(g.kw)]
        at = b.let("row", row.source(row.oy * g.sh - g.top + r * g.dh) + (ox * g.sw - g.left) * lanes)
        for column, pairs in touched(g, width, static_x):
            value = b.let("x", b.load(k.args[op.x], at + column * lanes, lanes))
            for i, s in pairs:
                acc: Buffer = tile.acc[i][0]
                b.store(acc, 0, b.load(acc, 0, lanes) + value * weights[s], lanes)
    k.finish_rows(width, partial(tile.value, j=0), row.result + ox * lanes, lanes, row.block * lanes, row.image, lanes)


def touched(g: Window, width: int, static_x: int | None) -> list[tuple[int, list[tuple[int, int]]]]:
    """Input columns of a tile, counted from that of its first pixel's first tap, with the (pixel, tap) pairs that read each one."""
    pairs: dict[int, list[tuple[int, int]]] = {}
    for s in range(g.kw):
        for i in range(width) if static_x is None else g.columns(static_x, s, width):
            pairs.setdefault(i * g.sw + s * g.dw, []).append((i, s))
    return sorted(pairs.items())
