"""Reductions over axes, arg-reductions, and functions along one axis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import (
    Abs,
    Add,
    ArgMax,
    ArgMin,
    Concat,
    CumProd,
    CumSum,
    Equal,
    Exp,
    IndexSelect,
    Log,
    LogSoftmax,
    Mean,
    Mul,
    Prod,
    ReduceMax,
    ReduceMin,
    Slice,
    Softmax,
    Sqrt,
    Sub,
    Sum,
)
from ..node import Node
from ..registry import Ints, onnx_converter

Axes = tuple[int, ...]


def _sum(node: Node, x: Value, axes: Axes, keepdim: bool) -> Value:
    """The sum in the type of the operand; nn.sum adds integers up in i64."""
    return node.cast(Sum(x, axes, keepdim), str(x.type.elem))


def _mean(node: Node, x: Value, axes: Axes, keepdim: bool) -> Value:
    if x.type.is_float:
        return Mean(x, axes, keepdim).out
    return node.cast(Mean(node.cast(x, "f64"), axes, keepdim), str(x.type.elem))


def _norm2(node: Node, x: Value, axes: Axes, keepdim: bool) -> Value:
    total = _sum(node, Mul(x, x).out, axes, keepdim)
    return Sqrt(total).out if x.type.is_float else node.cast(Sqrt(node.cast(total, "f64")), str(x.type.elem))


def _log_sum_exp(node: Node, x: Value, axes: Axes, keepdim: bool) -> Value:
    """log(sum(exp(x - m))) + m with m the maximum"""
    inner = Log(Sum(Exp(Sub(x, ReduceMax(x, axes, True))), axes, keepdim))
    return Add(inner, ReduceMax(x, axes, keepdim)).out


REDUCTIONS: dict[str, Callable[[Node, Value, Axes, bool], Value]] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceProd": lambda node, x, axes, keep: node.cast(Prod(x, axes, keep), str(x.type.elem)),
    "ReduceMax": lambda node, x, axes, keep: ReduceMax(x, axes, keep).out,
    "ReduceMin": lambda node, x, axes, keep: ReduceMin(x, axes, keep).out,
    "ReduceL1": lambda node, x, axes, keep: _sum(node, Abs(x).out, axes, keep),
    "ReduceL2": _norm2,
    "ReduceSumSquare": lambda node, x, axes, keep: _sum(node, Mul(x, x).out, axes, keep),
    "ReduceLogSum": lambda node, x, axes, keep: Log(Sum(x, axes, keep)).out,
    "ReduceLogSumExp": _log_sum_exp,
}


def _register(name: str, function: Callable[[Node, Value, Axes, bool], Value]) -> None:
    @onnx_converter(name)
    def convert(node: Node, x: Value, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Value:
        if not axes and noop_with_empty_axes:
            return function(node, x, (), bool(keepdims)) if name not in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd") else x
        return function(node, x, node.axes(axes or None, x.type.rank), bool(keepdims))


for _name, _function in REDUCTIONS.items():
    _register(_name, _function)


def _register_place(name: str, kind: type[Op]) -> None:
    @onnx_converter(name)
    def convert(node: Node, x: Value, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Op:
        """For select_last_index, the last of equals is the first of the reversed axis."""
        along = node.axis(axis, x.type.rank)
        if not select_last_index:
            return kind(x, along, bool(keepdims))
        last = node.static(x, along) - 1
        reverse = IndexSelect(x, node.const(np.arange(last, -1, -1), "i64"), along)
        return Sub(node.const(last, "i64"), kind(reverse, along, bool(keepdims)))


_register_place("ArgMax", ArgMax)
_register_place("ArgMin", ArgMin)


@onnx_converter("CumSum")
def cum_sum(node: Node, x: Value, axis: Ints, *, exclusive: int = 0, reverse: int = 0) -> Value:
    """Exclusive: without the element itself. Reverse: from the end."""
    along = node.axis(axis[0], x.type.rank)
    flip = node.const(np.arange(node.static(x, along))[::-1], "i64") if reverse else None
    ordered = x if flip is None else IndexSelect(x, flip, along).out
    total = node.cast(CumSum(ordered, along), str(x.type.elem))
    if exclusive:
        total = Sub(total, ordered).out
    return total if flip is None else IndexSelect(total, flip, along).out


@onnx_converter("CumProd")
def cum_prod(node: Node, x: Value, axis: Ints, *, exclusive: int = 0, reverse: int = 0) -> Value:
    """Exclusive: without the element itself, so the first is 1. Reverse: from the end."""
    along = node.axis(axis[0], x.type.rank)
    size = node.static(x, along)
    flip = node.const(np.arange(size)[::-1], "i64") if reverse else None
    ordered = x if flip is None else IndexSelect(x, flip, along).out
    total = node.cast(CumProd(ordered, along), str(x.type.elem))
    if exclusive:
        ones = node.expand(node.like(x, 1), [1 if a == along else n for a, n in enumerate(node.dims(x))])
        total = Concat([ones, Slice(total, along, 0, size - 1)], along).out if size > 1 else ones
    return total if flip is None else IndexSelect(total, flip, along).out


@onnx_converter("Softmax")
def softmax(node: Node, x: Value, *, axis: int = -1) -> Op:
    return Softmax(x, node.axis(axis, x.type.rank))


@onnx_converter("LogSoftmax")
def log_softmax(node: Node, x: Value, *, axis: int = -1) -> Op:
    return LogSoftmax(x, node.axis(axis, x.type.rank))


@onnx_converter("Hardmax")
def hardmax(node: Node, x: Value, *, axis: int = -1) -> Value:
    """1 at the first maximum, else 0"""
    along = node.axis(axis, x.type.rank)
    places = np.arange(node.static(x, along)).reshape(-1, *[1] * (x.type.rank - along - 1))
    return node.cast(Equal(node.const(places, "i64"), ArgMax(x, along, True)), str(x.type.elem))
