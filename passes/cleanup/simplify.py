"""simplify: algebra that changes only rounding, or the sign of a zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Const, Value
from ...ir.ops import Add, Clip, Div, HardSigmoid, HardSwish, Mul, Pow, Rsqrt, Sqrt
from ...ir.rewrite import Result, refuse, rewrite
from ...ir.types import EPSILON, storage_elem
from ..core.base import Pass, register_pass
from ..core.context import Context
from ..folding.affine import F64, array_of, keeps_digits, representable, rounded
from .identities import constant_right, splat


@register_pass
@dataclass(frozen=True)
class Simplify(Pass):
    """Merge constants, replace divisions and powers, and name the hard activations that models spell out.

    x + 0.0       ->  x            x / c       ->  x * (1/c)          clip(x + 3, 0, 6) / 6  ->  hard_sigmoid(x)
    (x*c) * d     ->  x * (c*d)    x ** 2      ->  x * x              x * hard_sigmoid(x)    ->  hard_swish(x)
    (x + c) + d   ->  x + (c + d)  x ** 0.5    ->  sqrt(x)

    Constants are computed in float64 and rounded once, and merged only where their type holds the result (docs/numerics.md).
    """

    name = "simplify"
    keeps = "numeric"

    def run(self, graph: Graph, ctx: Context) -> None:
        ctx.greedy(graph, constant_right, add_any_zero, merge_constants, small_power, hard_sigmoid, hard_swish, divide_by_constant)


@rewrite
def add_any_zero(op: Add) -> Result:
    """x + 0.0 -> x   (-0.0 stays -0.0)"""
    return op.a if splat(op.b) == 0 and op.a.type == op.out.type else None


@rewrite
def merge_constants(op: Add | Mul) -> Result:
    """(x + c) + d -> x + (c + d),   (x * c) * d -> x * (c * d)   where the inner result is read once and no range is lost"""
    match op.a.op, op.b:
        case (Add() | Mul()) as inner, Value(op=Const()) as d if type(inner) is type(op) and isinstance(inner.b.op, Const):
            if not op.out.type.is_float or isinstance(inner.a.op, Const):
                return None
            if not inner.out.single_use:
                return refuse("the inner result has other readers")
            c = inner.b
            first, second = array_of(c), array_of(d)
            with np.errstate(over="ignore", invalid="ignore"):
                array = first + second if isinstance(op, Add) else first * second
            if array.size > max(c.type.size, d.type.size):
                return refuse("the merged constant would be larger than both")
            elem = storage_elem(c.type.elem)
            if not representable(array, elem):
                return refuse(f"{elem} cannot hold the merged constant")
            if not (keeps_digits(first, second) if isinstance(op, Add) else _no_range_lost(first, second, elem)):
                return refuse("the first constant takes digits or range from x, which the second does not give back")
            merged = type(op)(inner.a, Const(rounded(array, elem), loc=c.op.loc if c.op else op.loc))
            return merged if merged.out.type == op.out.type else None
    return None


def _no_range_lost(c: F64, d: F64, elem: str) -> bool:
    """Whether x * c overflows only where x * c * d does (x * 1e30 * 1e-30 is infinite for x = 1e30), and what underflows ends subnormal.

    At worst x * c is off by half the smallest number of the type, epsilon times its smallest normal one; 1 / epsilon times that is less than normal.
    """
    up, down = np.abs(c) >= 1, np.abs(c) <= 1
    return bool(((up & (np.abs(d) >= 1)) | (down & (np.abs(d) <= 1 / EPSILON[elem]))).all())


@rewrite
def small_power(op: Pow) -> Result:
    """x ** 2 -> x * x,   x ** 0.5 -> sqrt(x),   x ** -0.5 -> 1 / sqrt(x)   for floats"""
    if op.a.type != op.out.type or not op.a.type.is_float:
        return None
    match splat(op.b):
        case 2.0:
            return Mul(op.a, op.a)
        case 0.5:
            return Sqrt(op.a)
        case -0.5:
            return Rsqrt(op.a)
    return None


@rewrite
def divide_by_constant(op: Div) -> Result:
    """x / c -> x * (1/c)"""
    if not isinstance(op.b.op, Const) or isinstance(op.a.op, Const) or not op.b.type.is_float:
        return None
    with np.errstate(divide="ignore"):
        inverse = 1 / array_of(op.b)
    elem = storage_elem(op.b.type.elem)
    if not representable(inverse, elem) or (np.abs(inverse) < 2.0**-14).any():
        return refuse("1/c is not a normal number")
    return Mul(op.a, Const(rounded(inverse, elem), loc=op.b.op.loc))


@rewrite
def hard_sigmoid(op: Div | Mul) -> Result:
    """clip(x + 3, 0, 6) / 6 -> hard_sigmoid(x)"""
    match op.a.op:
        case Clip(x=Value(op=Add(a=x, b=three)), min=0.0, max=6.0):
            sixth = splat(op.b)
            wanted = 6.0 if isinstance(op, Div) else float(np.asarray(1 / 6).astype(op.b.type.dtype))
            if sixth == wanted and splat(three) == 3 and x.type == op.out.type:
                return HardSigmoid(x)
    return None


@rewrite
def hard_swish(op: Mul | Div) -> Result:
    """x * hard_sigmoid(x) -> hard_swish(x),   (x * clip(x + 3, 0, 6)) / 6 -> hard_swish(x)"""
    if isinstance(op, Mul):
        for x, gate in ((op.a, op.b), (op.b, op.a)):
            if isinstance(gate.op, HardSigmoid) and gate.op.x is x:
                return HardSwish(x)
    elif splat(op.b) == 6 and isinstance(op.a.op, Mul):
        for x, gate in ((op.a.op.a, op.a.op.b), (op.a.op.b, op.a.op.a)):
            match gate.op:
                case Clip(x=Value(op=Add(a=base, b=three)), min=0.0, max=6.0) if base is x and splat(three) == 3 and x.type == op.out.type:
                    return HardSwish(x)
    return None
