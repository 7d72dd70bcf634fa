"""Convolution of stored integers by Winograd's F(m x m, 3x3), m = 4 or 2, bit for bit a direct one: 4 or 2.25 times fewer multiplications.

    V = B^T d B of every a x a input tile, a = m + 2;  M[xi] = V[xi] U[xi], a^2 matrix products over channels;  y = A^T M A, then the epilogue

Matrices are integers, so that nothing is rounded: V and U fit i16, M is i32 and may wrap (`transforms`). A sum is exact where 128 times the absolute
weights of each output channel add up to less than 2^25 (m = 4) or 2^29 (m = 2), which `accepts` checks.
Padding holds the zero point, which the bias subtracts. A chunk of tiles goes through all phases; weights are transformed again for each
chunk, group by group. Where chunks are fewer than threads, these share V and divide the groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx as t

from .......ir.op import Value
from ......codegen.builder import Expr
from ......codegen.kernel_builder import KernelBuilder
from ......target import Target
from ......tile.fusion import Fusion
from ......tile.integer import TileIntConv2d
from .....cost import beyond_l2
from .....template import Params, kernel
from ....arithmetic.integers import fitting_pairs
from ....integer_tail import packs
from ....integer_tile import tile_cycles
from ....window import share, workers
from ...template import conv_window
from ..gemm import IntegerConv
from ..geometry import whole_bias
from .inputs import Inputs
from .outputs import Outputs
from .plan import Plan, make_plan, pairs
from .products import Products
from .transforms import CENTER, TRANSFORMS

#: Most pairs of channels whose weights are transformed at once; half as many for chunks of at most FEW tiles, so that they stay in L1.
DEPTH = 32
FEW = 8
#: Tiles of a chunk to try when tuning.
TILES = (49, 28, 98, 14)


@kernel(TileIntConv2d)
class IntegerWinograd(IntegerConv):
    name = "integer_winograd"
    strided_batch = True

    def scratch_dtype(self, fusion: Fusion) -> str:
        return "int16"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        g = conv_window(fusion)
        geometry = (g.kh, g.kw, g.sh, g.sw, g.dh, g.dw, g.groups, g.block_in) == (3, 3, 1, 1, 1, 1, 1, 16)
        able = geometry and super().accepts(fusion, target) and bool(fitting_pairs(target))
        return able and bool(self.sizes(fusion))

    def sizes(self, fusion: Fusion) -> list[int]:
        """The m for which all sums are exact."""
        op: Any = fusion.anchor
        w = fusion.array(op.w)
        assert w is not None
        return [m for m in sorted(TRANSFORMS, reverse=True) if TRANSFORMS[m].fits(w)]

    def variant(self, fusion: Fusion, target: Target) -> str:
        """`large sums` for weights too large for m = 4; the usual case has no name."""
        return "large sums" if self.accepts(fusion, target) and 4 not in self.sizes(fusion) else ""

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        g = conv_window(fusion)
        how = {"arithmetic": fitting_pairs(target)[0], "packs": packs(fusion, target)}
        result = []
        for m in self.sizes(fusion):
            total = g.n * -(-g.oh // m) * -(-g.ow // m)
            for wanted in TILES:
                chunks = max(1, round(total / wanted))
                # few weights: threads divide tiles, as other kernels divide rows; many: they divide channels
                if chunks > 1 or (total >= threads and g.small_weights):
                    chunks = -(-chunks // threads) * threads
                tiles = -(-total // chunks)
                parts = -(-pairs(g) // (DEPTH if tiles > FEW else DEPTH // 2))
                result.append({"m": m, "tiles": tiles, "depth": -(-pairs(g) // parts), **how})
        return result

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        p = make_plan(fusion, target.lanes, params, 1)
        # measured on AVX2 and AVX-512: stores of weights miss L1, the more so the wider they are
        weight, pixel = 0.2 * target.lanes, 0.4 + 0.35 * target.lanes
        work = (3 + target.lanes / 8) * p.tiles * p.g.in_blocks * max(1, 8 // target.lanes)
        for vectors, _, count in p.groups.groups:
            products = tile_cycles(target, p.tiles, vectors, p.depth * p.parts, p.arithmetic)
            work += count * (products + vectors * (p.depth * p.parts * weight + p.tiles * pixel))
        v = 2 * p.sizes[0]
        again = sum(count for _, _, count in p.groups.groups) * beyond_l2(v) / 2 if v > target.l2 else 0
        return p.chunks * (p.planes * work + again)

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        """w (O, C, 3, 3) -> [group][part][pair of channels][vector][tap][lane][2]; biases, then the zero point, in place of the zero point."""
        op: Any = fusion.anchor
        w, b, zero = (None if v is None else fusion.array(v) for v in (op.w, op.b, op.zero))
        assert w is not None and zero is not None
        p = make_plan(fusion, target.lanes, params, 1)
        g, lanes = p.g, p.lanes
        full = np.zeros((g.out_blocks * g.lanes, p.parts * p.depth * 2, 9), np.int8)
        full[: g.o, : g.c] = w.reshape(g.o, g.c, 9)
        packed = []
        for vectors, first, count in p.groups.groups:
            rows = full[first * lanes : (first + count * vectors) * lanes].reshape(count, vectors, lanes, p.parts, p.depth, 2, 9)
            packed.append(rows.transpose(0, 3, 4, 1, 6, 2, 5).ravel())
        center = CENTER if op.x.type.elem == "u8" else 0
        bias = whole_bias(w, b, int(zero) - center, g.out_blocks * g.lanes)
        return {op.w: np.concatenate(packed), op.zero: np.concatenate([bias, np.full(1, int(zero), np.int32)])}

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        return 2 * make_plan(fusion, target.lanes, params, threads).scratch

    def winograd_tile(self, params: Params) -> int:
        m: int = params.get("m", 0)
        return m

    def emit(self, k: KernelBuilder) -> None:
        p = make_plan(k.fusion, k.target.lanes, k.params, k.threads)
        last = p.total - p.tiles
        if not p.by_channels:
            with workers(k.b, p.threads) as worker, k.b.loop("chunk", *share(worker, p.chunks, p.threads)) as chunk:
                # the last chunk overlaps the one before, so that all are equally long
                first = k.b.let("first", t.min(chunk * p.tiles, last))
                Inputs(k, p, worker).emit(first, (0, p.g.in_blocks))
                self._groups(k, p, worker, first)
            return
        for chunk in range(p.chunks):
            first = min(chunk * p.tiles, last)
            with workers(k.b, p.threads) as worker:
                Inputs(k, p, worker).emit(first, share(worker, p.g.in_blocks, p.threads))
            with workers(k.b, p.threads) as worker:
                self._groups(k, p, worker, first)

    def _groups(self, k: KernelBuilder, p: Plan, worker: Expr, first: Expr) -> None:
        """Products and outputs of a worker's groups."""
        at = 0
        for vectors, vector, count in p.groups.groups:
            size = p.parts * p.part(vectors)
            with k.b.loop("group", *(share(worker, count, p.threads) if p.by_channels else (0, count))) as group:
                Products(k, p, worker, vectors).emit(k.b.let("weights", at + group * size))
                Outputs(k, p, worker, vectors).emit(first, k.b.let("vector", vector + group * vectors))
            at += count * size
