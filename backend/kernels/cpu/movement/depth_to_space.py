"""Depth to space on blocked maps: every output pixel is one vector of another pixel, so rows are copied with a stride."""

from __future__ import annotations

from typing import Any

from tvm import tirx as t

from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.fusion import Fusion
from ....tile.moves import TileDepthToSpace
from ...template import Template, kernel
from ..window import rows_of_planes


@kernel(TileDepthToSpace)
class DepthToSpaceKernel(Template):
    name = "depth_to_space"
    strided_batch = True
    masked_stores = True

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        if not op.lanes or op.x.type.layout is None:
            return False
        return op.x.type.layout.channels // (op.factor[0] * op.factor[1]) % op.lanes == 0  # type: ignore[no-any-return]

    def emit(self, k: KernelBuilder) -> None:
        op, b = k.anchor, k.b
        *_, ow, lanes = k.fusion.out.shape
        in_blocks = op.x.shape[1]
        (fh, fw), (top, left) = op.factor, op.crop
        phase = in_blocks // (fh * fw)
        inputs, results = (k.fusion.map_rows(v).pixels(lanes) for v in (op.x, k.fusion.result))
        with rows_of_planes(b, k.fusion.out, k.threads) as (image, block, plane, oy):
            place = b.let("place", results.at(plane, oy))
            iy, p = b.let("iy", t.floordiv(oy + top, fh)), b.let("p", t.floormod(oy + top, fh))
            for q in range(fw):
                first = (q - left) % fw
                count = len(range(first, ow, fw))
                source = inputs.at(image * in_blocks + (p * fw + q) * phase + block, iy) + (first + left) // fw
                row = b.let("row", source)
                with b.loop("i", 0, count) as i:
                    value = b.load(k.args[op.x], (row + i) * lanes, lanes)
                    k.finish(value, (place + first + i * fw) * lanes, block * lanes, image, lanes)
