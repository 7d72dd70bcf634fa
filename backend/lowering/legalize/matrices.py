"""Matrix products."""

from __future__ import annotations

from ....ir.op import Const, Op
from ....ir.ops import Add, Linear, Matmul, Reshape, Transpose
from ....ir.rewrite import Result, rewrite


@rewrite
def linear_of_computed(op: Linear) -> Result:
    """linear(x, w, b) -> matmul(x, transpose(w)) + b   where w is computed"""
    if isinstance(op.w.op, Const):
        return None
    rows = op.x if op.x.type.rank > 1 else Reshape(op.x, (1, *op.x.shape), loc=op.loc)
    product: Op = Matmul(rows, Transpose(op.w, (1, 0), loc=op.loc), loc=op.loc)
    if op.b is not None:
        product = Add(product, op.b, loc=op.loc)
    return product if op.x.type.rank > 1 else Reshape(product, op.out.shape, loc=op.loc)


RULES = (linear_of_computed,)
