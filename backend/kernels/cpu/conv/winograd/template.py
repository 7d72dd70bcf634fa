"""3x3 convolution by Winograd's F(m x m, 3x3): a = m + 2, so 9 m^2 multiplications become a^2 (2.25, 4 and 5.06 times fewer for m = 2, 4, 6).

    V = B^T d B of every a x a input tile;  M[xi] = V[xi] U[xi], a^2 matrix products over channels;  y = A^T M A, then the epilogue

Weights U = G g G^T are transformed when the kernel is made. A chunk of tiles (of all images) goes through all three phases. plan.py arranges
tiles and planes, phases.py has the code of the products, chunks.py and single_chunk.py that of the transforms, for feature maps of several chunks
and of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from ......ir.op import Value
from .....codegen.kernel_builder import KernelBuilder
from .....target import Target
from .....tile.fusion import Fusion
from .....tile.ops import TileConv2d
from ....packed import Packed
from ....template import Params, Template, kernel
from ...register_tile import max_rows
from ..template import conv_window, padded_bias
from .chunks import Chunks
from .packed_weights import Form
from .plan import grid, make_plan
from .single_chunk import SingleChunk
from .toom_cook import POINTS


@kernel(TileConv2d)
class Winograd(Template):
    name = "winograd"
    strided_batch = True
    masked_stores = True
    prefetches_next_weights = True

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        g = conv_window(fusion)
        geometry = (g.kh, g.kw, g.sh, g.sw, g.groups) == (3, 3, 1, 1, 1)
        return geometry and g.lanes > 0 and g.block_in == g.lanes and fusion.array(op.w) is not None

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        g = conv_window(fusion)
        result = []
        for m in POINTS:
            total = g.n * math.prod(grid(g, m))
            # every chunk reads all weights again: those that fit its second-level cache cost nothing
            fits = (m + 2) ** 2 * g.c * g.out_blocks * g.lanes * 4 <= target.l2
            for wanted in (14, 28, 56, 112) if fits else (28, 14, 56, 112):
                chunks = max(1, round(total / wanted))
                # with few weights threads divide tiles, as other kernels divide rows; with many they divide channels, so each weight is read once
                if chunks > 1 or (total >= threads and (m + 2) ** 2 * g.o <= 8 * g.n * g.h * g.w):
                    chunks = -(-chunks // threads) * threads
                tiles = -(-total // chunks)
                widths = (2, 1) if tiles <= max_rows(target, 1) else (2,)
                result += [{"m": m, "tiles": tiles, "groups": 4 // vectors, "vectors": vectors} for vectors in widths]
        return result

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        p = make_plan(fusion, params, 1)
        g, a2, products, height = p.g, p.a**2, 0.0, 1
        for planes, (vectors, _, blocks, passes) in product(p.same_layout, p.passes):
            width, tiles = p.width(planes, vectors, blocks, target), p.cover(planes, p.tiles, target)
            step = sum(max(rows * width, 9, rows + width if width == 1 else 0) / 2 * g.c + 14 for rows in tiles)
            products += passes * (blocks // width) * (planes.stop - planes.first) * step
            height = max(height, len(tiles))
        products *= p.total / p.tiles
        transforms = p.total * a2 * 5.0 * (g.in_blocks + g.out_blocks)
        # weights come from memory at 10 bytes a cycle; the more tiles there are to multiply meanwhile, the more of that is hidden. A panel that a
        # single tile reads is a steady stream. Every chunk reads them again, from the last-level cache where that holds them
        size = a2 * p.column * g.out_blocks * 4
        again = 0.0 if size <= target.l2 else 0.2 if size <= 16 * target.l2 else 1.0
        weights = size / 10 * (1 + (p.chunks - 1) * again)
        return max(products + weights * (0.35 if height == 1 else 1.5 / height), weights) + transforms

    def pack(self, fusion: Fusion, target: Target, params: Params) -> Mapping[Value, np.ndarray | Packed]:
        op: Any = fusion.anchor
        w = fusion.array(op.w)
        assert w is not None
        p = make_plan(fusion, params, 1)
        form = Form.of(p, target)
        weights = Packed(form.size, "int32" if p.fixed else "float32", w, form, partial(form.write, w))
        return {op.w: weights} if op.b is None else {op.w: weights, op.b: padded_bias(fusion.array(op.b), p.g.o, p.g.lanes)}

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        return 4 * make_plan(fusion, params, threads).scratch

    def winograd_tile(self, params: Params) -> int:
        m: int = params.get("m", 0)
        return m

    def emit(self, k: KernelBuilder) -> None:
        p = make_plan(k.fusion, k.params, k.threads)
        (SingleChunk if p.single_chunk else Chunks)(k, p).emit()
