"""Convolutions and matrix products of any geometry, a thread for each element: for depthwise ones and those too small for tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx as t

from ....ir.ops import Conv2d, Linear, Matmul
from ...codegen.builder import Expr
from ...codegen.gpu import GpuKernel, coordinates, div, mod
from ...target import Target
from ...tile.fusion import Fusion
from ...tile.integer import IntConv2d, IntLinear, IntMatmul
from ..template import Params, kernel
from .reduce import LONG, threads_for
from .template import ElementTemplate, GpuTemplate, centered, total_dtype

#: Cost of a multiply-add of operands in global memory, relative to one of operands in shared memory.
SLOW = 6
#: Most rows with which a block of threads for each result reads the weights fastest.
FEW = 8


class Direct(ElementTemplate):
    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        return SLOW * float(fusion.anchor.macs())


@kernel(Conv2d, IntConv2d)
class DirectConv(Direct):
    name = "gpu_direct_conv"

    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        b, dtype = k.b, total_dtype(op)
        n, o, i, j = index
        outputs, per_group, kh, kw = op.w.shape
        h, w = op.x.shape[2:]
        acc = b.local(1, dtype)
        b.store(acc, 0, t.const(0, dtype) if op.b is None else k.read(op.b, [o]))
        first = b.value(div(o, outputs // op.groups) * per_group) if op.groups > 1 else 0
        top, left = b.value(i * op.stride[0] - op.padding[0]), b.value(j * op.stride[1] - op.padding[2])
        padded = any(op.padding)
        with b.range("c", 0, per_group) as c, b.range("p", 0, kh) as p, b.range("q", 0, kw) as q:
            y, x = b.value(top + p * op.dilation[0]), b.value(left + q * op.dilation[1])
            inside = t.all(y >= 0, y < h, x >= 0, x < w) if padded else None

            def tap() -> None:
                factor = k.math.convert(k.read(op.w, [o, c, p, q]), dtype)
                b.store(acc, 0, k.math.fma(centered(k, op, k.read(op.x, [n, first + c, y, x])), factor, b.load(acc, 0)))

            if inside is None:
                tap()
            else:
                with b.when(inside):
                    tap()
        return b.load(acc, 0)


@kernel(Linear, IntLinear)
class DirectLinear(Direct):
    name = "gpu_direct_linear"

    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        b, dtype, size = k.b, total_dtype(op), op.w.shape[1]
        *rows, o = index
        acc = b.local(1, dtype)
        b.store(acc, 0, t.const(0, dtype) if op.b is None else k.read(op.b, [o]))
        with b.loop("c", 0, size) as c:
            factor = k.math.convert(k.read(op.w, [o, c]), dtype)
            b.store(acc, 0, k.math.fma(centered(k, op, k.read(op.x, [*rows, c])), factor, b.load(acc, 0)))
        return b.load(acc, 0)


@kernel(Matmul, IntMatmul)
class DirectMatmul(Direct):
    name = "gpu_direct_matmul"

    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        b, dtype, size = k.b, total_dtype(op), op.a.shape[-1]
        *lead, row, column = index
        acc = b.local(1, dtype)
        b.store(acc, 0, t.const(0, dtype))
        with b.loop("c", 0, size) as c:
            b.store(acc, 0, k.math.fma(k.read(op.a, [*lead, row, c]), k.read(op.b, [*lead, c, column]), b.load(acc, 0)))
        return b.load(acc, 0)


@kernel(Linear, IntLinear)
class RowLinear(GpuTemplate):
    """A block of threads for each result: neighbouring threads read neighbouring weights."""

    name = "gpu_row_linear"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        return super().accepts(fusion, target) and op.w.shape[1] >= LONG and fusion.out.size <= FEW * op.w.shape[0]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        return float(fusion.anchor.macs())

    def write(self, k: GpuKernel, op: Any) -> None:
        b, (outputs, size) = k.b, op.w.shape
        b.launch([op.out.type.size], threads_for(min(size, 64), k.target))
        row, o = b.value(div(b.block[0], outputs)), b.value(mod(b.block[0], outputs))

        dtype = total_dtype(op)

        def product(c: Expr) -> Expr:
            return centered(k, op, b.load(k.args[op.x], row * size + c)) * k.math.convert(b.load(k.args[op.w], o * size + c), dtype)

        total = k.reduced(size, dtype, t.const(0, dtype), product, lambda x, y: x + y)
        with b.when(t.EQ(b.thread, 0)):
            k.store(total if op.b is None else total + k.read(op.b, [o]), [*coordinates(row, op.out.shape[:-1]), o])
