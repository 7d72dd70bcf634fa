"""Pooling of stored integers on feature maps in blocks of 16 channels: windows are trimmed at the borders, so padding is never read."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx as t

from ...codegen.builder import TIR_DTYPE, Expr, const, splat
from ...codegen.kernel_builder import KernelBuilder
from ...target import Target
from ...tile.fusion import Fusion
from ...tile.integer import TileIntSumPool2d
from ...tile.integer_onnx import TileScaledSumPool2d
from ...tile.ops import TileAdaptiveMaxPool2d, TileMaxPool2d
from ..template import Params, Template, kernel
from .pool import bounds, pool_window
from .window import rows_of_planes, span

#: Poolings that widen bytes to 32 bits and add them up.
SUMS = (TileIntSumPool2d, TileScaledSumPool2d)


@kernel(TileMaxPool2d, TileAdaptiveMaxPool2d, *SUMS)
class IntegerPool(Template):
    """Loops: (image, channel block, row) > pixel > part of the block > tap. A maximum takes the bytes as they are, a sum widens them."""

    name = "integer_pool"
    strided_batch = True

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        return bool(op.lanes) and op.x.type.layout is not None and op.x.shape[-1] == op.lanes and op.x.type.elem in ("u8", "i8", "i32")

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        return float(fusion.anchor.operands[0].type.size)

    def emit(self, k: KernelBuilder) -> None:
        op, b = k.anchor, k.b
        *_, ow, block = k.fusion.out.shape
        sums = isinstance(op, SUMS)
        lanes = k.target.lanes if sums else block
        inputs, results = (k.fusion.map_rows(v).pixels(block) for v in (op.x, k.fusion.result))
        with rows_of_planes(b, k.fusion.out, k.threads) as (image, channel_block, plane, oy), b.loop("ox", 0, ow) as ox:
            (y0, y1, dy), (x0, x1, dx) = self._window(k, 0, oy), self._window(k, 1, ox)
            for part in range(0, block, lanes):
                acc = b.local(lanes, TIR_DTYPE[str(op.out.type.elem)])
                b.store(acc, 0, self._start(k, acc.dtype, lanes), lanes)
                with b.loop("r", 0, y1 - y0) as r, b.loop("s", 0, x1 - x0) as s:
                    pixel = inputs.at(plane, y0 + r * dy) + x0 + s * dx
                    x = b.load(k.args[op.x], pixel * block + part, lanes)
                    b.store(acc, 0, self._join(k, b.load(acc, 0, lanes), x, lanes), lanes)
                offset = (results.at(plane, oy) + ox) * block + part
                k.finish(b.load(acc, 0, lanes), offset, channel_block * block + part, image, lanes)

    def _window(self, k: KernelBuilder, axis: int, at: Expr) -> tuple[Expr, Expr, int]:
        """Along an axis: the first pixel of a window that lies in the map, that plus the number of its taps there, and the distance of two taps."""
        op, b = k.anchor, k.b
        size = op.x.shape[2 + axis]
        if isinstance(op, TileAdaptiveMaxPool2d):
            low, high = bounds(at, size, op.size[axis])
            return b.let("low", low), b.let("high", high), 1
        g = pool_window(k.fusion)
        stride, taps, dilation = ((g.sh, g.kh, g.dh), (g.sw, g.kw, g.dw))[axis]
        start = b.let("start", at * stride - (g.top, g.left)[axis])
        first, last = span(b, start, taps, dilation, size, True, True)
        low = b.let("low", start + first * dilation)
        return low, b.let("high", low + t.max(last - first, 0)), dilation

    @staticmethod
    def _start(k: KernelBuilder, dtype: str, lanes: int) -> Expr:
        if isinstance(k.anchor, SUMS):
            return const(0, dtype, lanes)
        return const(int(np.iinfo(dtype).min), dtype, lanes)

    @staticmethod
    def _join(k: KernelBuilder, acc: Expr, x: Expr, lanes: int) -> Expr:
        if isinstance(k.anchor, SUMS):
            zero = t.Cast("int32", k.b.load(k.args[k.anchor.zero], 0))
            term = t.Cast(f"int32x{lanes}", x) - splat(zero, lanes)
            if isinstance(k.anchor, TileScaledSumPool2d):
                scale = splat(k.b.load(k.args[k.anchor.scale], 0), lanes)
                term = k.math.mul(t.Cast(f"float32x{lanes}", term), scale)
                return k.math.add(acc, term)
            return acc + term
        x = k.b.let("x", x)
        return t.Select(x > acc, x, acc)
