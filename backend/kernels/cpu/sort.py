"""Stable merge sort of indices along an axis, in runs of 1, 2, 4, … elements."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx as t

from ....ir.ops import ArgSort
from ...codegen.builder import Buffer, Expr, const
from ...codegen.ieee import is_float
from ...codegen.kernel_builder import KernelBuilder
from ...target import Target
from ...tile.fusion import Fusion
from ..template import Params, Template, kernel
from .window import tasks


def before(a: Expr, b: Expr, descending: bool) -> Expr:
    """Whether a sorts strictly before b; NaN is above all numbers."""
    beats = a > b if descending else a < b
    if not is_float(a):
        return beats
    first, last = (a, b) if descending else (b, a)
    return t.Select(t.isnan(last), const(False, "bool"), t.Select(t.isnan(first), const(True, "bool"), beats))


@kernel(ArgSort)
class MergeSort(Template):
    """n log2(n) steps for each line of n elements."""

    name = "merge_sort"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return fusion.anchor.x.type.layout is None and not fusion.epilogue  # type: ignore[attr-defined]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        op: Any = fusion.anchor
        return 10.0 * fusion.out.size * max(1, int(op.x.shape[op.axis] - 1).bit_length())

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        return 8 * fusion.out.size

    def scratch_dtype(self, fusion: Fusion) -> str:
        return "int64"

    def emit(self, k: KernelBuilder) -> None:
        op, b = k.anchor, k.b
        outer, size, inner = math.prod(op.x.shape[: op.axis]), op.x.shape[op.axis], math.prod(op.x.shape[op.axis + 1 :])
        passes = (size - 1).bit_length()
        assert k.scratch is not None
        buffers = [k.out, k.scratch] if passes % 2 == 0 else [k.scratch, k.out]
        with b.loop("line", 0, outer * inner, tasks(k.threads, outer * inner)) as line:
            base = b.let("base", t.floordiv(line, inner) * (size * inner) + t.floormod(line, inner))
            with b.loop("i", 0, size) as i:
                b.store(buffers[0], base + i * inner, t.Cast("int64", i))
            for number in range(passes):
                _merge(k, base, inner, 1 << number, buffers[number % 2], buffers[1 - number % 2])


def _merge(k: KernelBuilder, base: Expr, step: int, width: int, source: Buffer, result: Buffer) -> None:
    """Merge sorted runs of `width` indices into runs of twice as many. Elements of a line are `step` apart."""
    op, b = k.anchor, k.b
    size = op.x.shape[op.axis]
    with b.loop("run", 0, -(-size // (2 * width))) as run:
        low = b.let("low", run * (2 * width))
        middle, high = b.let("middle", t.min(low + width, size)), b.let("high", t.min(low + 2 * width, size))
        heads = b.local(2, "int32")
        b.store(heads, 0, low)
        b.store(heads, 1, middle)
        with b.loop("at", low, high) as at:
            i, j = b.let("i", b.load(heads, 0)), b.let("j", b.load(heads, 1))
            first = b.let("first", b.load(source, base + t.min(i, middle - 1) * step))
            second = b.let("second", b.load(source, base + t.min(j, high - 1) * step))
            x, y = (b.let("x", b.load(k.args[op.x], base + t.Cast("int32", place) * step)) for place in (first, second))
            beats = t.Select(before(y, x, op.descending), const(1, "int32"), const(0, "int32"))
            left = t.Select(i >= middle, const(1, "int32"), beats)
            taken = b.let("taken", t.Select(j >= high, const(0, "int32"), left))
            b.store(result, base + at * step, t.Select(t.EQ(taken, 1), second, first))
            b.store(heads, 0, i + 1 - taken)
            b.store(heads, 1, j + taken)
