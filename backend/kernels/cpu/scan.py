"""Scans along an axis: one element after the other; lanes run along the axes after it."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx as t

from ....ir.ops import CumMax, CumMin, CumProd, CumSum, LogCumSumExp
from ...codegen.builder import TIR_DTYPE, Expr, const
from ...codegen.kernel_builder import KernelBuilder
from ...codegen.vector_math import convert
from ..template import kernel
from .accumulators import Monoid, addition, extreme, product
from .nest import PARALLEL, chunks_for, tasks, vectors, widest
from .reduce import Reduction


class ScanKernel(Reduction):
    """The loops of any scan; `start` and `step` define its state."""

    def emit(self, k: KernelBuilder) -> None:
        op: Any = k.anchor
        b, shape = k.b, op.x.shape
        outer, size, inner = math.prod(shape[: op.axis]), shape[op.axis], math.prod(shape[op.axis + 1 :])
        threads = k.threads if op.x.type.size >= PARALLEL else 1
        chunks = chunks_for(outer, inner, threads, k.target.lanes)
        along = inner == shape[-1] and op.axis < len(shape) - 1
        with tasks(b, [outer], chunks, threads) as ((index,), chunk):
            base = b.let("base", index * (size * inner))

            def body(at: Expr, lanes: int) -> None:
                state = self.start(k, lanes)
                with b.loop("i", 0, size) as i:
                    offset = b.let("offset", base + i * inner + at)
                    value = self.step(k, state, b.load(k.args[op.x], offset, lanes), lanes)
                    k.finish(convert(value, TIR_DTYPE[str(op.out.type.elem)]), offset, at if along else None, None, lanes)

            vectors(b, inner, widest(inner, k.target.lanes), body, 1, chunk, chunks)

    def start(self, k: KernelBuilder, lanes: int) -> Any:
        """The state before the first element."""
        raise NotImplementedError(f"template {self.name!r} defines no start")

    def step(self, k: KernelBuilder, state: Any, x: Expr, lanes: int) -> Expr:
        """Update the state with an element; returns the result for it."""
        raise NotImplementedError(f"template {self.name!r} defines no step")


@kernel(CumSum, CumProd, CumMax, CumMin)
class MonoidScan(ScanKernel):
    name = "scan"

    def monoid(self, k: KernelBuilder) -> Monoid:
        elem = str(k.anchor.x.type.elem)
        if isinstance(k.anchor, (CumMax, CumMin)):
            return extreme(k.math, elem, isinstance(k.anchor, CumMax))
        return product(elem) if isinstance(k.anchor, CumProd) else addition(elem)

    def start(self, k: KernelBuilder, lanes: int) -> Any:
        monoid = self.monoid(k)
        slot = k.b.local(lanes, monoid.dtype)
        k.b.store(slot, 0, const(monoid.identity, monoid.dtype, lanes), lanes)
        return monoid, slot

    def step(self, k: KernelBuilder, state: Any, x: Expr, lanes: int) -> Expr:
        monoid, slot = state
        value = k.b.value(monoid.combine(k.b.load(slot, 0, lanes), convert(x, monoid.dtype)))
        k.b.store(slot, 0, value, lanes)
        return value


@kernel(LogCumSumExp)
class LogCumSumExpKernel(ScanKernel):
    """A sum of exponentials relative to the largest term so far: log(s) + m with s = sum of exp(x - m). Infinite m count as 0."""

    name = "log_cum_sum_exp"

    def start(self, k: KernelBuilder, lanes: int) -> Any:
        dtype = "float64" if k.anchor.x.type.elem == "f64" else "float32"
        largest, total = k.b.local(lanes, dtype), k.b.local(lanes, dtype)
        k.b.store(largest, 0, const(-math.inf, dtype, lanes), lanes)
        k.b.store(total, 0, k.math.const(k.b.load(total, 0, lanes), 0), lanes)
        return largest, total

    def step(self, k: KernelBuilder, state: Any, x: Expr, lanes: int) -> Expr:
        b, m, (largest, total) = k.b, k.math, state
        x = b.value(convert(x, largest.dtype))
        old = b.value(b.load(largest, 0, lanes))
        new = b.value(m.max(old, x))
        infinite = t.EQ(m.abs(new), m.const(new, math.inf))
        shift = b.value(t.Select(infinite, m.const(new, 0), new))
        before = t.Select(t.EQ(old, m.const(old, -math.inf)), m.const(old, 0), b.load(total, 0, lanes) * m.exp(self._less(k, old, shift)))
        value = b.value(before + m.exp(x - shift))
        b.store(largest, 0, new, lanes)
        b.store(total, 0, value, lanes)
        return m.log(value) + shift

    def _less(self, k: KernelBuilder, old: Expr, shift: Expr) -> Expr:
        """old - shift, where old is a number."""
        return k.b.value(old - shift)
