"""Packs between plain (N, C, H, W) and blocked (N, C/lanes, H, W, lanes), and plain copies."""

from __future__ import annotations

import math

from tvm import tirx as t

from ....codegen.kernel_builder import KernelBuilder
from ....codegen.shuffles import transposed
from ....tile.ops import Copy, Pack, Unpack, block, logical_type
from ...template import Template, kernel


@kernel(Pack, Unpack)
class Repack(Template):
    """Blocks of `lanes` channels x `lanes` pixels, transposed; of a partial block, strided vectors on one side."""

    name = "repack"

    def emit(self, k: KernelBuilder) -> None:
        packing = isinstance(k.anchor, Pack)
        plain = k.fusion.out if not packing else k.anchor.x.type
        blocked = k.fusion.out if packing else k.anchor.x.type
        lanes = block(blocked.layout)
        n, c, h, w = logical_type(blocked).shape
        pixels, blocks = h * w, blocked.shape[1]
        source, target = k.args[k.anchor.x], k.out
        assert plain.size == n * c * pixels
        b = k.b
        with b.loop("block", 0, n * blocks, "parallel" if k.threads > 1 and n * blocks > 1 else "serial") as nb:
            image, cb = b.let("image", t.floordiv(nb, blocks)), b.let("cb", t.floormod(nb, blocks))
            for live, condition in ((lanes, cb < c // lanes), (c % lanes, cb >= c // lanes)):
                if not live or (live == lanes and c < lanes):
                    continue
                # a square of whole vectors is transposed in registers, the last one overlapping its neighbour
                side = lanes if live == lanes and pixels >= lanes else 1
                with b.when(condition), b.loop("square", 0, -(-pixels // side)) as square:
                    p = b.let("p", t.min(square * side, pixels - side) if pixels % side else square * side)
                    base = b.let("base", (image * c + cb * lanes) * pixels + p)
                    at = b.let("at", (nb * pixels + p) * lanes)
                    if side == 1 and packing:
                        b.store(target, at, b.load_strided(source, base, pixels, live), live)
                    elif side == 1:
                        b.store_strided(target, base, pixels, b.load(source, at, live), live)
                    else:
                        read, write = (pixels, lanes) if packing else (lanes, pixels)
                        first, to = (base, at) if packing else (at, base)
                        rows = [b.let("row", b.load(source, first + i * read, lanes)) for i in range(lanes)]
                        for i, row in enumerate(transposed(rows)):
                            b.store(target, to + i * write, row, lanes)


@kernel(Copy)
class CopyKernel(Template):
    name = "copy"

    def emit(self, k: KernelBuilder) -> None:
        size, lanes = math.prod(k.fusion.out.shape), k.target.lanes
        b, x = k.b, k.args[k.anchor.x]
        with b.loop("i", 0, size // lanes) as i:
            b.store(k.out, i * lanes, b.load(x, i * lanes, lanes), lanes)
        with b.loop("j", size - size % lanes, size) as j:
            b.store(k.out, j, b.load(x, j))
