"""Sorting, order statistics, searches in sorted tensors, and scans along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import (
    ArgMax,
    ArgSort,
    Cast,
    CumMax,
    CumMin,
    CumProd,
    CumSum,
    Equal,
    Gather,
    Greater,
    GreaterEqual,
    LogCumSumExp,
    LogicalNot,
    LogicalOr,
    NotEqual,
    ReduceMax,
    Sum,
    Where,
)
from ...call import Call, Number
from ...registry import converter
from .shapes import cut


def _line(call: Call, x: Value, dim: int) -> tuple[Value, int]:
    """x and a non-negative axis of it; a scalar becomes a vector of one element."""
    line = call.reshape(x, (1,)) if x.type.rank == 0 else x
    return line, call.axis(dim, x.type.rank)


def _places(call: Call, x: Value, axis: int, descending: bool) -> Value:
    """The indices that sort x; bools are sorted as 0 and 1."""
    return ArgSort(Cast(x, "u8") if x.type.elem == "bool" else x, axis, descending).out


def _sorted(call: Call, x: Value, dim: int, descending: bool, count: int | None = None) -> list[Value]:
    """The sorted elements and their indices, the first `count` of each."""
    line, axis = _line(call, x, dim)
    places = _places(call, line, axis, descending)
    if count is not None:
        places = cut(places, axis, 0, count)
    return [Gather(line, places, axis).out, places]


@converter("aten.sort.default")
def sort(call: Call, x: Value, dim: int = -1, descending: bool = False) -> list[Value]:
    return [call.reshape(y, call.shape) for y in _sorted(call, x, dim, descending)]


@converter("aten.sort.stable")
def sort_stable(call: Call, x: Value, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> list[Value]:
    return sort(call, x, dim, descending)


@converter("aten.argsort.default")
def argsort(call: Call, x: Value, dim: int = -1, descending: bool = False) -> Value:
    return sort(call, x, dim, descending)[1]


@converter("aten.argsort.stable")
def argsort_stable(call: Call, x: Value, *, stable: bool = True, dim: int = -1, descending: bool = False) -> Value:
    return sort(call, x, dim, descending)[1]


@converter("aten.topk.default")
def topk(call: Call, x: Value, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> list[Value]:
    """Equal elements come in the order of their indices; torch does not specify it."""
    if x.type.rank:
        call.static(x, call.axis(dim, x.type.rank))
    return [call.reshape(y, call.shape) for y in _sorted(call, x, dim, largest, k)]


@converter("aten.kthvalue.default")
def kthvalue(call: Call, x: Value, k: int, dim: int = -1, keepdim: bool = False) -> list[Value]:
    line, axis = _line(call, x, dim)
    call.static(line, axis)
    place = cut(_places(call, line, axis, False), axis, k - 1, k)
    return [call.reshape(Gather(line, place, axis), call.shape), call.reshape(place, call.shape)]


@converter("aten.median.dim")
def median_dim(call: Call, x: Value, dim: int, keepdim: bool = False) -> list[Value]:
    """The lower of two middle elements; NaN and its index where there is one along the axis."""
    line, axis = _line(call, x, dim)
    middle = (call.static(line, axis) - 1) // 2
    place = cut(_places(call, line, axis, False), axis, middle, middle + 1)
    if x.type.is_float:
        nan = NotEqual(line, line).out
        place = Where(ReduceMax(nan, (axis,), True), ArgMax(Cast(nan, "u8"), axis, True), place).out
    return [call.reshape(Gather(line, place, axis), call.shape), call.reshape(place, call.shape)]


@converter("aten.median.default")
def median(call: Call, x: Value) -> Value:
    for axis in range(x.type.rank):
        call.static(x, axis)
    return median_dim(call, call.reshape(x, (x.type.size,)), 0)[0]


@converter("aten.bucketize.Tensor", "aten.bucketize.Scalar")
def bucketize(call: Call, x: Value | Number, boundaries: Value, *, out_int32: bool = False, right: bool = False) -> Value:
    return _buckets(call, boundaries, x, right)


@converter("aten.searchsorted.Tensor", "aten.searchsorted.Scalar")
def searchsorted(
    call: Call,
    boundaries: Value,
    x: Value | Number,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Value | None = None,
) -> Value:
    if sorter is not None:
        boundaries = Gather(boundaries, call.cast(sorter, "i64"), boundaries.type.rank - 1).out
    return _buckets(call, boundaries, x, right if side is None else side == "right")


def _buckets(call: Call, boundaries: Value, x: Value | Number, right: bool) -> Value:
    """The number of boundaries along the last axis that are below x, with `right` also those equal to it. NaN is above all numbers."""
    elem = call.promote(boundaries, x)
    value, lines = call.cast(x, elem), call.cast(boundaries, elem)
    column = call.reshape(value, (*call.dims(value), 1))
    if lines.type.rank > 1:
        dims = call.dims(lines)
        lines = call.reshape(lines, (*dims[:-1], 1, dims[-1]))
    above = Greater(lines, column) if right else GreaterEqual(lines, column)
    return call.cast(Sum(LogicalNot(above), (column.type.rank - 1,)), call.elem)


# -- scans -------------------------------------------------------------------------------------

SCANS: dict[str, type[Op]] = {"cumsum": CumSum, "cumprod": CumProd, "logcumsumexp": LogCumSumExp}


def _register_scan(name: str, kind: type[Op]) -> None:
    @converter(f"aten.{name}.default")
    def convert(call: Call, x: Value, dim: int, *, dtype: Any = None) -> Value:
        line, axis = _line(call, call.cast(x, call.elem), dim)
        return call.reshape(call.cast(kind(line, axis), call.elem), call.shape)


for _name, _kind in SCANS.items():
    _register_scan(_name, _kind)


@converter("aten.cummax.default", "aten.cummin.default")
def cumulative_extreme(call: Call, x: Value, dim: int) -> list[Value]:
    """The running extreme and the last index that attains it: a running maximum of those indices, others counting as 0."""
    line, axis = _line(call, call.cast(x, "u8") if x.type.elem == "bool" else x, dim)
    size = call.static(line, axis)
    extreme = (CumMax if "cummax" in call.target else CumMin)(line, axis).out
    stands = Equal(line, extreme).out
    if line.type.is_float:
        stands = LogicalOr(stands, NotEqual(line, line)).out
    index = call.const(np.arange(size).reshape(-1, *[1] * (line.type.rank - axis - 1)), "i64")
    places = CumMax(Where(stands, index, call.const(0, "i64")), axis).out
    return [call.reshape(call.cast(extreme, str(x.type.elem)), call.shape), call.reshape(places, call.shape)]
