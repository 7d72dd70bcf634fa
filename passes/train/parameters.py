"""Which constants of a graph are parameters: what training may change."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops.elementwise import Binary


def parameters_of(graph: Graph) -> set[Value]:
    """The results of float constants that training may change.

    They are the operands that operators declare as `learned` (weights, biases, gammas, slopes, embeddings), constants that such a weight is
    computed from (weight norm, a quantized weight), and vectors that scale or shift a result that already depends on a parameter. Constants
    that normalize the image, running statistics, and scalars are not parameters; nor is a class token, which looks just like them.
    """
    ops = [op for op in graph.ops if not isinstance(op, Const)]
    constant = _computed_from_constants(graph)
    wanted: set[Value] = set()
    behind: set[Value] = set()
    for op in ops:
        wanted.update(v for v in _learned(op, behind) if v in constant)
        if not behind.isdisjoint(op.operands) or not wanted.isdisjoint(op.operands):
            behind.update(op.outs)
    for op in reversed(ops):
        if not wanted.isdisjoint(op.outs):
            # of a fake-quantized weight the weight is learned, the range is not
            wanted.update(v for v in (_named(op) if op.learned else op.operands) if v.type.rank)
    return {v for v in wanted if isinstance(v.op, Const) and v.type.is_float and np.isfinite(v.op.array).all()}


def _computed_from_constants(graph: Graph) -> set[Value]:
    found: set[Value] = set()
    for op in graph.ops:
        if all(v in found for v in op.operands):
            found.update(op.outs)
    return found


def _learned(op: Op, behind: set[Value]) -> Iterator[Value]:
    """Operands that an op learns; for arithmetic its vectors, where the other operand comes from a layer."""
    yield from _named(op)
    if isinstance(op, Binary) and op.affine:
        for v, other in ((op.a, op.b), (op.b, op.a)):
            if other in behind and v.type.size > 1:
                yield v


def _named(op: Op) -> Iterator[Value]:
    """The operands that an op declares as learned."""
    for name in op.learned:
        v = getattr(op, name)
        yield from v if isinstance(v, list) else () if v is None else (v,)
