"""Resizing of blocked maps: one vector of channels per output pixel; source positions are computed per row and per column in f32, as in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx as t

from ....codegen.builder import Builder, Expr, splat
from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.fusion import Fusion
from ....tile.ops import TileUpsample
from ...template import Template, kernel
from ..window import rows_of_planes


@kernel(TileUpsample)
class UpsampleKernel(Template):
    name = "upsample"
    strided_batch = True
    masked_stores = True

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        return op.x.type.layout is not None

    def emit(self, k: KernelBuilder) -> None:
        op, b = k.anchor, k.b
        *_, oh, ow, lanes = k.fusion.out.shape
        h, w = op.x.shape[2:4]
        x, inputs, results = k.args[op.x], *(k.fusion.map_rows(v).pixels(lanes) for v in (op.x, k.fusion.result))
        ratios = [_ratio(size, out, op.align_corners, op.scales and op.scales[i]) for i, (size, out) in enumerate(((h, oh), (w, ow)))]
        with rows_of_planes(b, k.fusion.out, k.threads) as (image, block, plane, oy):
            channel = b.let("channel", block * lanes)
            place = b.let("place", results.at(plane, oy))
            if op.mode == "nearest":
                iy = _nearest(b, oy, ratios[0], h)
                with b.loop("ox", 0, ow) as ox:
                    value = b.load(x, (inputs.at(plane, iy) + _nearest(b, ox, ratios[1], w)) * lanes, lanes)
                    k.finish(value, (place + ox) * lanes, channel, image, lanes)
                return
            rows = _linear(b, oy, ratios[0], h, op.align_corners)
            with b.loop("ox", 0, ow) as ox:
                columns = _linear(b, ox, ratios[1], w, op.align_corners)
                mixed = []
                for iy, _ in rows:
                    parts = [b.load(x, (inputs.at(plane, iy) + ix) * lanes, lanes) * splat(share, lanes) for ix, share in columns]
                    mixed.append(parts[0] + parts[1])
                value = mixed[0] * splat(rows[0][1], lanes) + mixed[1] * splat(rows[1][1], lanes)
                k.finish(value, (place + ox) * lanes, channel, image, lanes)


def _ratio(size: int, out: int, align_corners: bool, scale: float | None) -> float:
    """Input pixels per output pixel."""
    if align_corners:
        return float(np.float32(size - 1) / np.float32(out - 1)) if out > 1 else 0.0
    return float(np.float32(1.0 / scale)) if scale else float(np.float32(size) / np.float32(out))


def _nearest(b: Builder, i: Expr, ratio: float, size: int) -> Expr:
    return b.let("i", t.min(t.Cast("int32", t.Cast("float32", i) * t.const(ratio, "float32")), size - 1))


def _linear(b: Builder, i: Expr, ratio: float, size: int, align_corners: bool) -> list[tuple[Expr, Expr]]:
    """The two pixels that output i mixes, with their shares."""
    at, r, half = t.Cast("float32", i), t.const(ratio, "float32"), t.const(0.5, "float32")
    source = b.let("source", at * r if align_corners else t.max((at + half) * r - half, t.const(0.0, "float32")))
    low = b.let("low", t.min(t.Cast("int32", source), size - 1))
    high = b.let("high", t.min(low + 1, size - 1))
    share = b.let("share", t.min(source - t.Cast("float32", low), t.const(1.0, "float32")))
    return [(low, b.let("rest", t.const(1.0, "float32") - share)), (high, share)]
