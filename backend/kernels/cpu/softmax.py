"""Softmax and log-softmax along any axis: maximum, exponentials and their sum, scaling.

Along the last axis lanes run along it; otherwise each lane has its own sum. The exponentials are stored in the result's memory, except in
f16, which would round them: there they are computed twice.
"""

from __future__ import annotations

import math
from typing import Any

from ....ir.ops import LogSoftmax, Softmax
from ...codegen.builder import Expr, const, lanes_of, splat
from ...codegen.kernel_builder import KernelBuilder
from ...codegen.vector_math import cast, convert
from ..template import kernel
from .accumulators import Monoid, Row, addition
from .nest import PARALLEL, chunks_for, row, tasks, vectors, widest
from .reduce import CHAINS, Reduction


@kernel(Softmax, LogSoftmax)
class SoftmaxKernel(Reduction):
    name = "softmax"

    def emit(self, k: KernelBuilder) -> None:
        op: Any = k.anchor
        shape = op.x.shape
        outer, size, inner = math.prod(shape[: op.axis]), shape[op.axis], math.prod(shape[op.axis + 1 :])
        threads = k.threads if op.x.type.size * 8 >= PARALLEL else 1
        chunks = chunks_for(outer, inner, threads, k.target.lanes)
        with tasks(k.b, [outer], chunks, threads) as ((index,), chunk):
            base = k.b.let("base", index * (size * inner))
            if inner == 1:
                _Passes(k, base, 1, None).along_row(size)
                return
            along = inner == shape[-1]

            def body(at: Expr, lanes: int) -> None:
                _Passes(k, base + at, inner, at if along else None).down_column(size, lanes)

            vectors(k.b, inner, widest(inner, k.target.lanes), body, 1, chunk, chunks)


class _Passes:
    """The three passes over one row, or over one column for each lane: elements start + i * stride."""

    def __init__(self, k: KernelBuilder, start: Expr, stride: int, channel: Expr):
        self.k, self.b, self.start, self.stride, self.channel = k, k.b, start, stride, channel
        elem = str(k.anchor.x.type.elem)
        self.dtype = "float64" if elem == "f64" else "float32"
        self.log = isinstance(k.anchor, LogSoftmax)
        self.stored = elem != "f16" and not self.log
        self.sum = addition(elem)
        # the maximum may ignore a NaN: its exponential is NaN again
        self.max = Monoid(lambda a, b: k.math.where(a > b, a, b), -math.inf, self.dtype)

    def along_row(self, size: int) -> None:
        lanes = self.k.target.lanes
        peak = Row(self.b, self.max, size, widest(size, lanes * CHAINS))
        peak.add_row(self._x)
        top = peak.result()
        total = Row(self.b, self.sum, size, widest(size, lanes))
        total.add_row(lambda at, n: self._exponential(at, n, top))
        scale = self._scale(total.result())
        row(self.b, size, widest(size, lanes), lambda at, n: self._finish(at, n, top, scale, at))

    def down_column(self, size: int, lanes: int) -> None:
        b = self.b
        slots = [b.local(lanes, monoid.dtype) for monoid in (self.max, self.sum)]
        for slot, monoid in zip(slots, (self.max, self.sum)):
            b.store(slot, 0, const(monoid.identity, monoid.dtype, lanes), lanes)
        with b.loop("i", 0, size) as i:
            b.store(slots[0], 0, self.max.combine(b.load(slots[0], 0, lanes), self._x(i, lanes)), lanes)
        top = b.value(b.load(slots[0], 0, lanes))
        with b.loop("i", 0, size) as i:
            b.store(slots[1], 0, b.load(slots[1], 0, lanes) + self._exponential(i, lanes, top), lanes)
        scale = self._scale(b.load(slots[1], 0, lanes))
        with b.loop("i", 0, size) as i:
            self._finish(i, lanes, top, scale, self.channel)

    def place(self, i: Expr) -> Expr:
        return self.start + i * self.stride

    def _x(self, i: Expr, lanes: int) -> Expr:
        return self.b.value(cast(self.b.load(self.k.args[self.k.anchor.x], self.place(i), lanes), self.dtype))

    def _exponential(self, i: Expr, lanes: int, top: Expr) -> Expr:
        e = self.k.math.exp_negative(self._x(i, lanes) - _spread(top, lanes))
        if self.stored:
            self.b.store(self.k.out, self.place(i), e, lanes)
        return cast(e, "float64")

    def _scale(self, total: Expr) -> Expr:
        """The value that the last pass multiplies by, or subtracts."""
        if self.log:
            return self.k.math.log(cast(total, self.dtype))
        return self.b.value(cast(self.k.math.const(total, 1) / total, self.dtype))

    def _finish(self, i: Expr, lanes: int, top: Expr, scale: Expr, channel: Expr) -> None:
        top, scale = _spread(top, lanes), _spread(scale, lanes)
        if self.log:
            y = self._x(i, lanes) - top - scale
        elif self.stored:
            y = self.b.load(self.k.out, self.place(i), lanes) * scale
        else:
            y = self.k.math.exp_negative(self._x(i, lanes) - top) * scale
        value = self.b.value(convert(y, self.k.out.dtype))
        self.k.finish(value, self.place(i), channel, None, lanes)


def _spread(x: Expr, lanes: int) -> Expr:
    """One value for all lanes, or as many as there are."""
    return x if lanes_of(x) == lanes else splat(x, lanes)
