"""Tiled matrix products: a block of threads computes `m` x `n` results, each thread some of them in registers.

For `k` steps of depth at a time, the block copies a tile of both operands to shared memory, waits at a barrier, and multiplies.
A convolution is such a product of its weights with the pixels under its taps, which are gathered while they are copied (implicit GEMM).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx as t

from ....ir.op import Value
from ....ir.ops import Conv2d, Linear, Matmul
from ...codegen.builder import Expr
from ...codegen.gpu import GpuKernel, choose, coordinates, div, mod
from ...target import Target
from ...tile.fusion import Fusion
from ...tile.integer import IntConv2d, IntLinear, IntMatmul
from ..template import Params, kernel
from .template import GpuTemplate, centered, total_dtype

#: Function that gives an element of an operand from its depth and its row or column.
Load = Callable[[Expr, Expr], Expr]


@dataclass(frozen=True)
class Tile:
    """Results of a block, depth of a step, and results of a thread. Rows of one thread are m / rows apart. Its columns are n / columns apart, so that
    neighbouring threads read neighbouring elements of shared memory, or adjacent, so that a compiler can load them as vectors."""

    m: int
    n: int
    k: int
    rows: int
    columns: int
    adjacent: bool = False

    def column(self, thread: Expr, c: int) -> Expr:
        """Column c of a thread, within the block."""
        return thread * self.columns + c if self.adjacent else thread + c * (self.n // self.columns)

    @property
    def threads(self) -> int:
        return self.m // self.rows * (self.n // self.columns)


#: For CUDA. All have 256 threads, a multiple of `m` and of `n`, so that each thread copies from one row or column.
CUDA_TILES = {"64x64": Tile(64, 64, 16, 4, 4), "32x64": Tile(32, 64, 16, 4, 2), "16x64": Tile(16, 64, 16, 2, 2)}
#: For OpenCL. Fewer threads with more results each: PoCL, the only device they were measured on, runs the threads of a block one after the other.
OPENCL_TILES = {f"{m}x64, adjacent": Tile(m, 64, 16, 4, 16, adjacent=True) for m in (64, 32, 16)}
TILES = CUDA_TILES | OPENCL_TILES


@dataclass(frozen=True)
class Product:
    """`matrices` products (m, depth) @ (depth, n)."""

    matrices: int
    m: int
    n: int
    depth: int

    def padded(self, tile: Tile) -> float:
        """Multiply-adds, including those of tiles beyond the end."""
        return float(self.matrices * up(self.m, tile.m) * up(self.n, tile.n) * up(self.depth, tile.k))


def matmul_product(op: Any) -> Product:
    *lead, m, n = op.out.shape
    return Product(math.prod(lead), m, n, op.a.shape[-1])


def up(size: int, to: int) -> int:
    return -(-size // to) * to


class GemmTemplate(GpuTemplate):
    """Base of the tiled products; candidates are the tiles. Small products are cheaper without tiles."""

    def product(self, op: Any) -> Product:
        raise NotImplementedError

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        return [{"tile": name} for name in (OPENCL_TILES if target.kind == "opencl" else CUDA_TILES)]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        tile = TILES[params["tile"]]
        # from shared memory, a thread reads rows + columns values for rows * columns multiply-adds
        return self.product(fusion.anchor).padded(tile) * (0.5 + (tile.rows + tile.columns) / (tile.rows * tile.columns))


def multiply(k: GpuKernel, p: Product, a: Load, b: Load, store: Callable[[Expr, Expr, Expr], None], deep_rows: bool = False) -> None:
    """Call store(row, column, sum) for each result. a(depth, row), b(depth, column): elements within the product.

    deep_rows: `a` is contiguous in memory along its depth, not along its rows.
    """
    out, tile = k.b, TILES[k.params["tile"]]
    dtype, threads = total_dtype(k.anchor), tile.threads
    out.launch([-(-p.n // tile.n), -(-p.m // tile.m), p.matrices], threads)
    first_row, first_column = out.value(out.block[1] * tile.m), out.value(out.block[0] * tile.n)
    across = tile.n // tile.columns
    i, j = out.value(div(out.thread, across)), out.value(mod(out.thread, across))
    # one more, so that threads that store along the depth use different banks
    pitch = tile.m + (1 if deep_rows else 0)
    left, right = out.shared(tile.k * pitch, dtype), out.shared(tile.k * tile.n, dtype)
    acc = out.local(tile.rows * tile.columns, dtype)
    for r in range(tile.rows * tile.columns):
        out.store(acc, r, t.const(0, dtype))
    with out.loop("step", 0, -(-p.depth // tile.k)) as step:
        start = out.value(step * tile.k)
        for part in range(0, tile.m * tile.k, threads):
            at = out.thread + part
            depth, row = (mod(at, tile.k), div(at, tile.k)) if deep_rows else (div(at, tile.m), mod(at, tile.m))
            depth, row = out.value(depth), out.value(row)
            out.store(
                left, depth * pitch + row, _within(out.value(start + depth), p.depth, tile.k, out.value(first_row + row), p.m, tile.m, a, dtype)
            )
        for part in range(0, tile.n * tile.k, threads):
            at = out.thread + part
            depth, column = out.value(div(at, tile.n)), out.value(mod(at, tile.n))
            value = _within(out.value(start + depth), p.depth, tile.k, out.value(first_column + column), p.n, tile.n, b, dtype)
            out.store(right, depth * tile.n + column, value)
        out.barrier()
        with out.loop("depth", 0, tile.k) as depth:
            rows = [out.value(out.load(left, depth * pitch + i + r * (tile.m // tile.rows))) for r in range(tile.rows)]
            columns = [out.value(out.load(right, depth * tile.n + tile.column(j, c))) for c in range(tile.columns)]
            for r, x in enumerate(rows):
                for c, y in enumerate(columns):
                    place = r * tile.columns + c
                    out.store(acc, place, k.math.fma(x, y, out.load(acc, place)))
        out.barrier()
    for r in range(tile.rows):
        row = out.value(first_row + i + r * (tile.m // tile.rows))
        for c in range(tile.columns):
            column = out.value(first_column + tile.column(j, c))
            limits = [row < p.m] * (p.m % tile.m > 0) + [column < p.n] * (p.n % tile.n > 0)
            with contextlib.ExitStack() as stack:
                if limits:
                    stack.enter_context(out.when(t.all(*limits) if len(limits) > 1 else limits[0]))
                store(row, column, out.load(acc, r * tile.columns + c))


def _within(depth: Expr, depths: int, step: int, at: Expr, size: int, tile: int, load: Load, dtype: str) -> Expr:
    """An element of an operand, 0 beyond its end."""
    limits = [depth < depths] * (depths % step > 0) + [at < size] * (size % tile > 0)
    value = load(depth, at)
    return value if not limits else choose(t.all(*limits) if len(limits) > 1 else limits[0], value, t.const(0, dtype))


@kernel(Conv2d, IntConv2d)
class GemmConv(GemmTemplate):
    """Rows are the outputs of a group, columns the pixels of all images, depth is (channel, tap)."""

    name = "gpu_gemm_conv"

    def product(self, op: Any) -> Product:
        outputs, per_group, kh, kw = op.w.shape
        n, _, oh, ow = op.out.shape
        return Product(op.groups, outputs // op.groups, n * oh * ow, per_group * kh * kw)

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        return super().accepts(fusion, target) and fusion.array(op.w) is not None

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        """(O, C/groups, kh, kw) -> (groups, depth, O/groups): neighbouring threads read neighbouring elements."""
        op: Any = fusion.anchor
        w = fusion.array(op.w)
        assert w is not None
        return {op.w: np.ascontiguousarray(w.reshape(op.groups, w.shape[0] // op.groups, -1).swapaxes(1, 2))}

    def write(self, k: GpuKernel, op: Any) -> None:
        b, p, group = k.b, self.product(op), k.b.block[2]
        _, per_group, kh, kw = op.w.shape
        (h, w), (oh, ow) = op.x.shape[2:], op.out.shape[2:]
        padded = any(op.padding)

        def weight(depth: Expr, row: Expr) -> Expr:
            return k.math.convert(b.load(k.args[op.w], (group * p.depth + depth) * p.m + row), total_dtype(op))

        def pixel(depth: Expr, column: Expr) -> Expr:
            n, i, j = coordinates(column, (op.out.shape[0], oh, ow))
            channel = div(depth, kh * kw)
            y = i * op.stride[0] - op.padding[0] + mod(div(depth, kw), kh) * op.dilation[0]
            x = j * op.stride[1] - op.padding[2] + mod(depth, kw) * op.dilation[1]
            if padded:
                y, x = b.value(y), b.value(x)
            value = centered(k, op, k.read(op.x, [n, group * per_group + channel if op.groups > 1 else channel, y, x]))
            return choose(t.all(y >= 0, y < h, x >= 0, x < w), value, t.const(0, total_dtype(op))) if padded else value

        def store(row: Expr, column: Expr, total: Expr) -> None:
            n, i, j = (b.value(v) for v in coordinates(column, (op.out.shape[0], oh, ow)))
            o = b.value(group * p.m + row) if op.groups > 1 else row
            k.store(total if op.b is None else total + k.read(op.b, [o]), [n, o, i, j])

        multiply(k, p, weight, pixel, store)


@kernel(Linear, IntLinear)
class GemmLinear(GemmTemplate):
    """Rows are those of x, columns the outputs."""

    name = "gpu_gemm_linear"

    def product(self, op: Any) -> Product:
        outputs, depth = op.w.shape
        return Product(1, math.prod(op.x.shape[:-1]), outputs, depth)

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        """(N, K) -> (K, N)"""
        op: Any = fusion.anchor
        w = fusion.array(op.w)
        assert w is not None
        return {op.w: np.ascontiguousarray(w.T)}

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        return super().accepts(fusion, target) and fusion.array(op.w) is not None

    def write(self, k: GpuKernel, op: Any) -> None:
        b, p = k.b, self.product(op)

        def store(row: Expr, column: Expr, total: Expr) -> None:
            index = [b.value(i) for i in coordinates(row, op.x.shape[:-1])]
            k.store(total if op.b is None else total + k.read(op.b, [column]), [*index, column])

        multiply(
            k, p, lambda depth, row: centered(k, op, b.load(k.args[op.x], row * p.depth + depth)),
            lambda depth, column: k.math.convert(b.load(k.args[op.w], depth * p.n + column), total_dtype(op)), store, deep_rows=True,
        )  # fmt: skip


@kernel(Matmul, IntMatmul)
class GemmMatmul(GemmTemplate):
    """One product for each index of the leading axes."""

    name = "gpu_gemm_matmul"

    def product(self, op: Any) -> Product:
        return matmul_product(op)

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return super().accepts(fusion, target) and self.product(fusion.anchor).matrices < 1 << 16

    def write(self, k: GpuKernel, op: Any) -> None:
        b, p = k.b, self.product(op)
        lead: Sequence[Expr] = [b.value(i) for i in coordinates(b.block[2], op.out.shape[:-2])]
        multiply(
            k, p, lambda depth, row: k.read(op.a, [*lead, row, depth]), lambda depth, column: k.read(op.b, [*lead, depth, column]),
            lambda row, column, total: k.store(total, [*lead, row, column]), deep_rows=True,
        )  # fmt: skip
