"""Reductions over any axes, and arg-reductions.

Axes collapse to alternating kept and reduced dimensions. Where the last one is reduced, lanes run along it and are combined at the end
(`_row`); where it is kept, each lane has its own result (`_column`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as t

from ....ir.ops import ArgMax, ArgMin, Mean, Prod, Reduce, ReduceMax, ReduceMin, Sum
from ...codegen.builder import Expr, const, int32, ramp, splat
from ...codegen.ieee import is_float
from ...codegen.kernel_builder import KernelBuilder
from ...codegen.vector_math import convert
from ...target import Target
from ...tile.fusion import Fusion
from ...tile.integer_onnx import OrderedSum
from ..template import Template, kernel
from .accumulators import Monoid, Row, addition, extreme, product
from .nest import PARALLEL, chunks_for, collapse, dot, loops, strides_of, tasks, vectors, widest

#: Vectors that one step of a sum or a maximum works on: independent chains that hide the latency of an addition.
CHAINS = 4
#: f32 terms added up one after the other.
ORDERED = Monoid(lambda a, b: a + b, 0, "float32")


@dataclass(frozen=True)
class Walk:
    """Collapsed dimensions of a reduction: (size, stride in x, stride in the result); the latter is 0 for reduced ones."""

    kept: list[tuple[int, int, int]]
    reduced: list[tuple[int, int]]

    @property
    def by_rows(self) -> bool:
        """Whether the last dimension is reduced, or nothing is kept."""
        return not self.kept or (bool(self.reduced) and self.reduced[-1][1] == 1)


def walk(shape: Sequence[int], axes: Sequence[int]) -> Walk:
    result = strides_of([1 if i in axes else s for i, s in enumerate(shape)])
    sizes, (source, target) = collapse(shape, [strides_of(shape), [0 if i in axes else s for i, s in enumerate(result)]])
    kept = [(n, s, o) for n, s, o in zip(sizes, source, target) if o]
    return Walk(kept, [(n, s) for n, s, o in zip(sizes, source, target) if not o])


class Reduction(Template):
    """Any operator that reads whole rows or columns of x."""

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return fusion.anchor.x.type.layout is None  # type: ignore[attr-defined]

    def cost(self, fusion: Fusion, target: Target, params: dict[str, Any]) -> float:
        return float(fusion.anchor.operands[0].type.size)


@kernel(Mean, Sum, Prod, ReduceMax, ReduceMin, OrderedSum)
class ReduceKernel(Reduction):
    name = "reduce"

    def emit(self, k: KernelBuilder) -> None:
        op: Reduce = k.anchor
        elem = str(op.x.type.elem)
        if isinstance(op, (ReduceMax, ReduceMin)):
            monoid = extreme(k.math, elem, isinstance(op, ReduceMax))
        else:
            monoid = product(elem) if isinstance(op, Prod) else ORDERED if isinstance(op, OrderedSum) else addition(elem)
        count = op.x.type.size // max(op.out.type.size, 1)

        def finish(join: Join, offset: Expr, channel: Expr, lanes: int) -> None:
            value = join(monoid, lambda x, at, n: convert(x, monoid.dtype))
            if isinstance(op, Mean):
                value = value * const(1 / count, monoid.dtype, lanes)
            value = k.math.cast(value, elem) if elem == op.out.type.elem else value
            k.finish(k.b.value(value), offset, channel, None, lanes)

        _each(k, walk(op.x.shape, op.axes), finish)


@kernel(ArgMax, ArgMin)
class ArgReduceKernel(Reduction):
    """Two passes: the extreme, then its first index. A NaN is the extreme of its row, as in torch."""

    name = "arg_reduce"

    def emit(self, k: KernelBuilder) -> None:
        op: Any = k.anchor
        best = extreme(k.math, str(op.x.type.elem), isinstance(op, ArgMax))
        first = Monoid(t.min, 2**31 - 1, "int32")

        def finish(join: Join, offset: Expr, channel: Expr, lanes: int) -> None:
            extremum = join(best, lambda x, at, n: x)

            def place(x: Expr, at: Expr, n: int) -> Expr:
                found = t.EQ(x, extremum if lanes > 1 else splat(extremum, n))
                found = t.any(found, t.isnan(x)) if is_float(x) else found
                return t.Select(found, at, const(first.identity, first.dtype, n))

            k.finish(k.b.value(convert(join(first, place), "int64")), offset, channel, None, lanes)

        _each(k, walk(op.x.shape, (op.axis,)), finish)


#: Function that gives the value to reduce, from an element of x, its position along the (last) reduced dimension, and the number of lanes.
Item = Callable[[Expr, Expr, int], Expr]
#: Function that reduces the elements of one result, or of one result per lane.
Join = Callable[[Monoid, Item], Expr]


def _each(k: KernelBuilder, w: Walk, finish: Callable[[Join, Expr, Expr, int], None]) -> None:
    """finish(join, offset in the result, channel, lanes) for every result."""
    threads = k.threads if k.anchor.x.type.size >= PARALLEL else 1
    kept = w.kept if w.by_rows else w.kept[:-1]
    size = 1 if w.by_rows else w.kept[-1][0]
    lanes = widest(size, k.target.lanes * CHAINS)
    sizes = [n for n, _, _ in kept]
    chunks = chunks_for(math.prod(sizes), size, threads, lanes)
    along = size == (k.fusion.out.shape or (1,))[-1]
    with tasks(k.b, sizes, chunks, threads) as (index, chunk):
        source = k.b.let("source", dot(index, [s for _, s, _ in kept]))
        target = k.b.let("target", dot(index, [o for _, _, o in kept]))
        if w.by_rows:
            finish(lambda monoid, item: _row(k, w, source, monoid, item), target, None, 1)
        else:
            vectors(
                k.b, size, lanes,
                lambda at, n: finish(lambda monoid, item: _column(k, w, source + at, n, monoid, item), target + at, at if along else None, n),
                1, chunk, chunks,
            )  # fmt: skip


def _row(k: KernelBuilder, w: Walk, source: Expr, monoid: Monoid, item: Item) -> Expr:
    """One result: lanes along the last reduced dimension."""
    *outer, (size, _) = w.reduced or [(1, 1)]
    acc = Row(k.b, monoid, size, 1 if monoid is ORDERED else widest(size, k.target.lanes * CHAINS))
    with loops(k.b, [n for n, _ in outer]) as index:
        base = k.b.let("base", source + dot(index, [s for _, s in outer]))
        acc.add_row(lambda at, lanes: item(k.b.load(k.args[k.anchor.x], base + at, lanes), ramp(at, lanes), lanes))
    return acc.result()


def _column(k: KernelBuilder, w: Walk, source: Expr, lanes: int, monoid: Monoid, item: Item) -> Expr:
    """`lanes` results: lanes along a kept dimension."""
    b = k.b
    acc = b.local(lanes, monoid.dtype)
    b.store(acc, 0, const(monoid.identity, monoid.dtype, lanes), lanes)
    with loops(b, [n for n, _ in w.reduced]) as index:
        x = b.load(k.args[k.anchor.x], source + dot(index, [s for _, s in w.reduced]), lanes)
        position = splat(int32(index[-1] if index else 0), lanes)
        b.store(acc, 0, monoid.combine(b.load(acc, 0, lanes), item(x, position, lanes)), lanes)
    return b.value(b.load(acc, 0, lanes))
