"""Fusions of only elementwise operators: any chain or DAG with numpy broadcasting, mixed element types, plain or blocked.

Dimensions are collapsed so that rows are as long as possible; along a row an operand steps by 1 or by 0. One pass over memory computes it all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ....ir.op import Value
from ....ir.ops import Elementwise, Prelu
from ...codegen.builder import Expr, splat
from ...codegen.kernel_builder import KernelBuilder
from ...target import Target
from ...tile.fusion import Fusion
from ..template import Params, Template, kernel
from .nest import PARALLEL, broadcast_strides, chunks_for, collapse, dot, strides_of, tasks, vectors

#: Fusions of at most this many operators work on several vectors in one step of their loop.
CHEAP = 4


@kernel(Elementwise)
class ElementwiseKernel(Template):
    name = "elementwise"
    strided_batch = True

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return all(isinstance(op, Elementwise) and op.out.shape == fusion.out.shape and not _by_channel(op) for op in fusion.op.body.ops)

    def row_partitioned(self, fusion: Fusion, target: Target, params: Params) -> list[list[Value]]:
        return [[v] for v in fusion.same_layout]

    def emit(self, k: KernelBuilder) -> None:
        b, ops, out = k.b, k.fusion.epilogue, k.fusion.out
        tables = {v for op in ops if isinstance(op, Elementwise) for v in op.operands if v not in op.by_element}
        operands = [v for v in k.fusion.op.body.inputs if v.uses and v not in tables]
        sizes, steps = collapse(*walk(k, operands))
        if not sizes:
            sizes, steps = [1], [[0] for _ in steps]
        *outer, size = sizes
        threads = k.threads if out.size * len(ops) >= PARALLEL else 1
        chunks = chunks_for(math.prod(outer), size, threads, 1024)
        with tasks(b, outer, chunks, threads) as (index, chunk):
            *at, base = [b.let("at", dot(index, s)) for s in steps]
            row = {v: b.load(k.args[v], a) for v, a, s in zip(operands, at, steps) if s[-1] == 0}
            row = {v: b.let("x", x) for v, x in row.items()}

            def body(i: Expr, lanes: int) -> None:
                values = {v: splat(row[v], lanes) if v in row else b.let("x", b.load(k.args[v], a + i, lanes)) for v, a in zip(operands, at)}
                values |= {v: k.args[v] for v in tables}
                b.store(k.out, base + i, compute(k, values), lanes)

            vectors(b, size, k.target.lanes, body, 4 if len(ops) <= CHEAP and size >= 8 * k.target.lanes else 1, chunk, chunks)


def walk(k: KernelBuilder, operands: Sequence[Value]) -> tuple[Sequence[int], list[Sequence[int]]]:
    """The sizes of a nest of loops over the result, and the strides of each operand and of the result along them."""
    out, result = k.fusion.out, k.fusion.result
    if out.layout is None:
        return out.shape, [*(broadcast_strides(v.shape, out.shape) for v in operands), broadcast_strides(out.shape, out.shape)]
    n, blocks, height, *pixel = out.shape
    partitions = max(k.fusion.map_rows(v).partitions for v in (*operands, result) if v.shape == out.shape)
    shape = (n * partitions, blocks, height // partitions, *pixel)

    def along(v: Value) -> Sequence[int]:
        if v.shape != out.shape:
            strides = broadcast_strides(v.shape, shape)
            return (k.fusion.map_rows(v).stride, *strides[1:]) if v.type.layout is not None and v.shape[0] > 1 else strides
        step, plane = k.fusion.map_rows(v).cut(partitions)
        return (step, plane, *strides_of(shape)[2:])

    return shape, [along(v) for v in (*operands, result)]


def compute(k: KernelBuilder, values: dict[Value, Expr]) -> Expr:
    """The fusion's result from the values of its operands."""
    for op in k.fusion.op.body.ops:
        values[op.out] = k.b.value(op.f(k.math, *(values[v] for v in op.operands)))  # type: ignore[attr-defined]
    return values[k.fusion.op.body.outputs[0]]


def _by_channel(op: Elementwise) -> bool:
    """prelu's slopes lie along axis 1, not along the last axes as numpy broadcasts."""
    return isinstance(op, Prelu) and op.w.type.size > 1
