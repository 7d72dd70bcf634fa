"""Constant folding: operators of constants are computed by their own `evaluate`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ir.evaluate import to_numpy, to_torch
from ...ir.op import Const, Op, Value
from ...ir.ops import Expand
from ...ir.rewrite import Result, Rewrite, refuse, rewrite

#: Dialects whose ops describe how constants are stored or trained: folding them would lose that.
KEPT = ("quant.", "bits.", "sparse.", "tile.")


def constant_folding(max_bytes: int) -> Rewrite:
    """The pattern f(constants) -> constant, for results of at most `max_bytes` or no larger than the operands together."""

    @rewrite
    def fold_constants(op: Op) -> Result:
        """f(c1, c2, …) -> c"""
        operands = op.operands
        if not operands or not all(isinstance(v.op, Const) for v in operands) or op.name.startswith(KEPT):
            return None
        if len(op.outs) != 1 or not all(isinstance(v.type.elem, str) for v in (*operands, op.out)):
            return refuse("quantized types and several results are not folded")
        if isinstance(op, Expand):
            return refuse("an expanded constant would only take more memory")
        if op.out.type.nbytes > max(max_bytes, sum(v.type.nbytes for v in operands)):
            return refuse(f"the result would take {op.out.type.nbytes} bytes, more than max_bytes={max_bytes} and than its operands")
        return _computed(op)

    return fold_constants


def _computed(op: Op) -> Result:
    import torch

    try:
        with torch.no_grad():
            result = to_numpy(op.evaluate(*(_argument(getattr(op, f.name)) for f in op.operand_fields)))
    except (RuntimeError, IndexError) as error:
        return refuse(f"torch cannot compute it here: {error}")
    if result.shape != op.out.shape or result.dtype != op.out.type.dtype:
        return refuse(f"evaluate gave {result.dtype}{list(result.shape)} instead of {op.out.type}")
    if op.out.type.is_float and np.isnan(result).any():
        return refuse("the result would hold nan, which constants must not")
    return Const(np.array(result, order="C"), loc=op.loc)


def _argument(value: Value | list[Value] | None) -> Any:
    if isinstance(value, list):
        return [_argument(v) for v in value]
    return to_torch(value.op.array) if value is not None and isinstance(value.op, Const) else None
