"""Embedding bags: the sum, mean or maximum of table rows within each bag."""

from __future__ import annotations

import math

import numpy as np

from ....ir.op import Value
from ....ir.ops import Div, Equal, GreaterEqual, IndexSelect, Maximum, Mul, NotEqual, Scatter, Slice, Sub, Sum, Where
from ...call import Call
from ...registry import converter
from .indexing import static_shape

MODES = ("sum", "mean", "max")


@converter("aten._embedding_bag.default", "aten._embedding_bag_forward_only.default")
def embedding_bag(
    call: Call,
    table: Value,
    indices: Value,
    offsets: Value,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    weights: Value | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> list[Value | None]:
    """A bag begins at each offset. It is empty where the next one begins at the same offset; its result is then 0."""
    static_shape(call, indices, offsets)
    elem, count = str(table.type.elem), indices.type.size
    starts = call.cast(offsets, "i64")
    if include_last_offset:
        starts = Slice(starts, 0, 0, offsets.type.size - 1).out
    bags = starts.type.size
    # an index belongs to the last bag that begins at or before it
    begun = GreaterEqual(call.const(np.arange(count)[:, None], "i64"), call.reshape(starts, (1, bags)))
    bag = Sub(Sum(begun, (1,)), call.const(1, "i64")).out
    rows = IndexSelect(table, call.cast(indices, "i64"), 0).out
    if weights is not None:
        rows = Mul(rows, call.reshape(weights, (count, 1))).out
    counted: Value = call.const(np.ones(count), elem)
    if padding_idx >= 0:
        kept = NotEqual(call.cast(indices, "i64"), call.const(padding_idx, "i64")).out
        counted = Where(kept, counted, call.const(0, elem)).out
        rows = Where(call.reshape(kept, (count, 1)), rows, call.const(-math.inf if MODES[mode] == "max" else 0, elem)).out
    number = call.reshape(Scatter(call.const(np.zeros(bags), elem), bag, counted, "add"), (bags, 1))
    zero = call.const(0, elem)
    if MODES[mode] == "max":
        largest = Scatter(call.const(np.full((bags, table.shape[1]), -math.inf), elem), bag, rows, "max")
        return [Where(Equal(number, zero), zero, largest).out, None, None, None]
    total = Scatter(call.const(np.zeros((bags, table.shape[1])), elem), bag, rows, "add").out
    if MODES[mode] == "mean":
        total = Div(total, Maximum(number, call.const(1, elem))).out
    return [total, None, None, None]
