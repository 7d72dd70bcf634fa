"""Gather and scatter. A scatter copies x and then applies the updates one row after the other, since two of them may have the same index."""

from __future__ import annotations

import math
from typing import Any

from ....ir.ops import Gather, Scatter
from ...codegen.builder import Expr
from ...codegen.kernel_builder import KernelBuilder
from ...target import Target
from ...tile.fusion import Fusion
from ..template import Params, Template, kernel
from .nest import PARALLEL, dot, row, strides_of, tasks, vector


@kernel(Gather)
class GatherKernel(Template):
    """Element by element."""

    name = "gather"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return not fusion.epilogue and all(v.type.layout is None for v in fusion.anchor.operands)

    def emit(self, k: KernelBuilder) -> None:
        op, b, shape = k.anchor, k.b, k.fusion.out.shape
        read, write = strides_of(op.x.shape), strides_of(shape)
        threads = k.threads if k.fusion.out.size >= PARALLEL else 1
        with tasks(b, shape[:-1], 1, threads) as (index, _), b.loop("i", 0, shape[-1]) as i:
            at = b.let("at", dot([*index, i], write))
            place = k.place(k.args[op.index], at, op.x.shape[op.axis])
            source = dot([place if axis == op.axis else j for axis, j in enumerate([*index, i])], read)
            b.store(k.out, at, b.load(k.args[op.x], source))


@kernel(Scatter)
class ScatterKernel(Template):
    name = "scatter"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return not fusion.epilogue and all(v.type.layout is None for v in fusion.anchor.operands)

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        op: Any = fusion.anchor
        return float(fusion.out.size + op.updates.type.size)

    def emit(self, k: KernelBuilder) -> None:
        op, b = k.anchor, k.b
        size, lanes = math.prod(op.x.shape[1:]), vector(k.target, op.x.type.dtype)
        row(b, op.x.type.size, lanes, lambda at, n: b.store(k.out, at, b.load(k.args[op.x], at, n), n))
        with b.loop("k", 0, op.index.shape[0]) as number:
            place = k.place(k.args[op.index], number, op.x.shape[0])
            target, source = b.let("target", place * size), b.let("source", number * size)

            def body(at: Expr, n: int) -> None:
                update = b.load(k.args[op.updates], source + at, n)
                b.store(k.out, target + at, self._joined(k, b.load(k.out, target + at, n), update), n)

            row(b, size, lanes, body)

    def _joined(self, k: KernelBuilder, old: Expr, update: Expr) -> Expr:
        match k.anchor.mode:
            case "add":
                return old + update
            case "mul":
                return old * update
            case "max":
                return k.math.max(old, update)
            case "min":
                return k.math.min(old, update)
        return update
