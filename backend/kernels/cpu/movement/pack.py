"""Packs between plain (N, C, H, W) and blocked (N, C/lanes, H, W, lanes), also with rounding in between, and plain copies."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx as t

from ....codegen.builder import Expr, const
from ....codegen.kernel_builder import KernelBuilder
from ....codegen.shuffles import transposed
from ....target import Target
from ....tile.fusion import Fusion
from ....tile.ops import Copy, Pack, Unpack, block, logical_type
from ...template import Template, kernel
from ..nest import PARALLEL, chunks_for, tasks, vectors


@kernel(Pack, Unpack)
class Repack(Template):
    """Blocks of `lanes` channels x `lanes` pixels, transposed; a partial block uses strided vectors on one side."""

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


@kernel(Pack)
class RoundedPack(Template):
    """Planes of floats that become up to four channels of bytes: the bytes of a pixel are put together in an i32."""

    name = "rounded_pack"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        scalars = all(v.type.size == 1 for v in fusion.extra)
        return isinstance(op, Pack) and op.lanes == 4 and bool(fusion.epilogue) and scalars and fusion.out.elem in ("u8", "i8")

    def emit(self, k: KernelBuilder) -> None:
        b, x = k.b, k.anchor.x
        n, c, h, w = x.shape
        pixels = h * w
        threads = k.threads if x.type.size >= PARALLEL else 1
        chunks = chunks_for(n, pixels, threads, 1024)
        with tasks(b, [n], chunks, threads) as ([image], chunk):

            def body(i: Expr, lanes: int) -> None:
                word: Any = None
                for channel in range(c):
                    value = k.apply(b.load(k.args[x], (image * c + channel) * pixels + i, lanes), 0, channel, image, lanes)
                    byte = t.bitwise_and(t.Cast(f"int32x{lanes}" if lanes > 1 else "int32", value), const(255, "int32", lanes))
                    byte = t.shift_left(byte, const(8 * channel, "int32", lanes))
                    word = b.value(byte if word is None else t.bitwise_or(word, byte))
                b.store(k.out, (image * pixels + i) * 4, t.reinterpret(f"{k.out.dtype}x{4 * lanes}", word), 4 * lanes)

            vectors(b, pixels, k.target.lanes, body, 2 if pixels >= 2 * k.target.lanes else 1, chunk, chunks)


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
