"""Elementwise identities that keep every bit (except which nan a nan is).

Signed zeros are why some obvious ones are missing: x + 0.0 turns -0.0 into 0.0, so it equals x only where x is never -0.0. IEEE leaves
max(-0.0, 0.0) open (torch's vector loops and their remainders differ), so the identities of relu and clip keep the order of its operands.
"""

from __future__ import annotations

import math

import numpy as np

from ...ir.op import Const, Value
from ...ir.ops import (
    Abs,
    Add,
    Cast,
    Ceil,
    Clip,
    Div,
    Exp,
    Floor,
    LogicalAnd,
    LogicalNot,
    LogicalOr,
    Maximum,
    Minimum,
    Mul,
    Neg,
    Pow,
    Relu,
    Round,
    Sigmoid,
    Silu,
    Softmax,
    Sub,
    Where,
)
from ...ir.rewrite import Result, refuse, rewrite
from ...ir.types import FLOATS

#: For each element type, the types that hold all its values.
WIDER: dict[str, frozenset[str]] = {
    "bool": frozenset({"i8", "i16", "i32", "i64", "u8", *FLOATS}),
    "i8": frozenset({"i16", "i32", "i64", *FLOATS}),
    "u8": frozenset({"i16", "i32", "i64", *FLOATS}),
    "i16": frozenset({"i32", "i64", "f32", "f64"}),
    "i32": frozenset({"i64", "f64"}),
    "f16": frozenset({"f32", "f64"}),
    "bf16": frozenset({"f32", "f64"}),
    "f32": frozenset({"f64"}),
}


def splat(value: Value) -> float | None:
    """The number that fills a plain constant, sign of zero included, or None."""
    if not isinstance(value.op, Const) or not isinstance(value.type.elem, str) or not value.op.array.size:
        return None
    array = value.op.array
    first = array.flat[0]
    if array.flat[-1] != first or not (array == first).all():
        return None
    number = float(first)
    if number == 0 and value.type.is_float and len(np.unique(np.signbit(array))) > 1:
        return None
    return number if number != 0 else math.copysign(0.0, number)


def negative_zero(number: float) -> bool:
    return number == 0 and math.copysign(1, number) < 0


@rewrite
def constant_right(op: Add | Mul) -> Result:
    """c + x -> x + c,   c * x -> x * c"""
    if isinstance(op.a.op, Const) and not isinstance(op.b.op, Const):
        return op.rebuilt(a=op.b, b=op.a)
    return None


@rewrite
def add_zero(op: Add) -> Result:
    """x + 0 -> x   for integers, for -0.0, and for 0.0 where x is never -0.0"""
    c = splat(op.b)
    if c != 0 or op.a.type != op.out.type:
        return None
    if op.a.type.is_float and not negative_zero(c) and not isinstance(op.a.op, (Abs, Exp, Sigmoid, Softmax)):
        return refuse("x may be -0.0, which x + 0.0 turns into 0.0")
    return op.a


@rewrite
def sub_zero(op: Sub) -> Result:
    """x - 0 -> x"""
    c = splat(op.b)
    if c != 0 or op.a.type != op.out.type:
        return None
    return refuse("x may be -0.0, which x - -0.0 turns into 0.0") if negative_zero(c) else op.a


@rewrite
def times_one(op: Mul | Div | Pow) -> Result:
    """x * 1 -> x,   x / 1 -> x,   x ** 1 -> x"""
    return op.a if splat(op.b) == 1 and op.a.type == op.out.type else None


@rewrite
def divide_by_power_of_two(op: Div) -> Result:
    """x / c -> x * (1/c)   where every c is a power of two, so that 1/c and the product round alike"""
    if not isinstance(op.b.op, Const) or isinstance(op.a.op, Const):
        return None
    c = np.asarray(op.b.op.array).astype(np.float64)
    # within the normal numbers of every float type
    if not ((np.abs(np.frexp(c)[0]) == 0.5) & (np.abs(c) >= 2.0**-14) & (np.abs(c) <= 2.0**14)).all():
        return None
    return Mul(op.a, Const((1 / c).astype(op.b.type.dtype), loc=op.b.op.loc))


@rewrite
def double_negation(op: Neg) -> Result:
    """-(-x) -> x"""
    return op.x.op.x if isinstance(op.x.op, Neg) else None


@rewrite
def double_not(op: LogicalNot) -> Result:
    """not not x -> x"""
    return op.x.op.x if isinstance(op.x.op, LogicalNot) else None


@rewrite
def idempotent(op: Relu | Abs | Floor | Ceil | Round) -> Result:
    """f(f(x)) -> f(x)   for relu, abs, floor, ceil, round"""
    return op.x if type(op.x.op) is type(op) else None


@rewrite
def same_operands(op: Maximum | Minimum | LogicalAnd | LogicalOr) -> Result:
    """max(x, x) -> x,   min(x, x) -> x,   x and x -> x,   x or x -> x"""
    return op.a if op.a is op.b else None


@rewrite
def where_decided(op: Where) -> Result:
    """where(c, x, x) -> x,   where(true, a, b) -> a,   where(false, a, b) -> b"""
    c = splat(op.c)
    chosen = op.a if op.a is op.b or c == 1 else op.b if c == 0 else None
    return chosen if chosen is not None and chosen.type == op.out.type else None


@rewrite
def silu(op: Mul) -> Result:
    """x * sigmoid(x) -> silu(x)"""
    for x, gate in ((op.a, op.b), (op.b, op.a)):
        if isinstance(gate.op, Sigmoid) and gate.op.x is x:
            return Silu(x)
    return None


@rewrite
def bound_to_clip(op: Maximum | Minimum) -> Result:
    """max(x, c) -> clip(x, c, inf),   min(x, c) -> clip(x, -inf, c)   for one number c"""
    c = splat(op.b)
    if c is None or op.a.type != op.out.type or not op.a.type.is_float or isinstance(op.a.op, Const):
        return None
    return Clip(op.a, min=c) if isinstance(op, Maximum) else Clip(op.a, max=c)


@rewrite
def clip_to_relu(op: Clip) -> Result:
    """clip(x, 0, inf) -> relu(x),   clip(x, -inf, inf) -> x"""
    if op.max == math.inf and op.min == 0 and not negative_zero(op.min):
        return Relu(op.x)
    return op.x if (op.min, op.max) == (-math.inf, math.inf) else None


@rewrite
def relu_of_clip(op: Relu) -> Result:
    """relu(clip(x, a, b)) -> clip(x, max(a, 0), b)   where b >= 0"""
    match op.x.op:
        case Clip() as clip:
            if not clip.max >= 0 or negative_zero(clip.min) or negative_zero(clip.max):
                return refuse("the upper bound is negative, or a bound is -0.0")
            return op.x if clip.min >= 0 else clip.rebuilt(min=0.0)
    return None


@rewrite
def clip_of_relu(op: Clip) -> Result:
    """clip(relu(x), a, b) -> clip(x, max(a, 0), b)   where b >= 0"""
    match op.x.op:
        case Relu() as relu:
            if not op.max >= 0 or negative_zero(op.min) or negative_zero(op.max):
                return refuse("the upper bound is negative, or a bound is -0.0")
            return op.rebuilt(x=relu.x, min=max(op.min, 0.0))
    return None


@rewrite
def clip_of_clip(op: Clip) -> Result:
    """clip(clip(x, a, b), c, d) -> clip(x, min(max(a, c), d), min(max(b, c), d))"""
    match op.x.op:
        case Clip() as inner:
            if any(map(negative_zero, (op.min, op.max, inner.min, inner.max))):
                return refuse("a bound is -0.0")
            return op.rebuilt(x=inner.x, min=min(max(inner.min, op.min), op.max), max=min(max(inner.max, op.min), op.max))
    return None


@rewrite
def cast_to_same(op: Cast) -> Result:
    """cast(x, type of x) -> x"""
    return op.x if op.x.type == op.out.type else None


@rewrite
def cast_of_cast(op: Cast) -> Result:
    """cast(cast(x, a), b) -> cast(x, b)   where a holds every value of x"""
    match op.x.op:
        case Cast(x=Value(type=inner) as x, elem=elem):
            if not isinstance(inner.elem, str) or elem not in WIDER.get(inner.elem, ()):
                return refuse(f"{elem} does not hold every {inner.elem}")
            if inner.is_float and op.elem != inner.elem and op.elem not in FLOATS:
                return refuse("a float out of an integer's range has no defined cast")
            return x if op.elem == inner.elem else Cast(x, op.elem)
    return None


ELEMENTWISE = (
    constant_right,
    add_zero,
    sub_zero,
    times_one,
    divide_by_power_of_two,
    double_negation,
    double_not,
    idempotent,
    same_operands,
    where_decided,
    silu,
    bound_to_clip,
    clip_to_relu,
    relu_of_clip,
    clip_of_relu,
    clip_of_clip,
    cast_to_same,
    cast_of_cast,
)
