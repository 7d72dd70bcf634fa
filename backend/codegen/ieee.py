"""Protect float arithmetic from TVM's simplifier, which treats floats as reals.

The rules were found by trying `tvm.sym.Analyzer.simplify` with every operator on equal operands, zeros and sums;
tests/backend/codegen/test_ieee.py repeats that. Rules that hold only for reals, and that apply to our expressions:

    x - x -> 0    (x + y) - y -> x    x - (x + y) -> 0 - y    select(c, x, y) - x -> select(c, 0, y - x)
    x == x -> true    x != x -> false
    x * 0 -> 0    0 / x -> 0    x + 0 -> x    x / 0 is an error
    not (x < y) -> y <= x    x < y or y <= x -> true

Against the first row there is a fence (`llvm.arithmetic.fence`, no instruction) wherever a term is subtracted from itself, and nowhere else;
comparisons are fenced too (`equal` in `builder`); zeros are calls that only LLVM evaluates (`zero`). The last row needs `Not`, `And` or `Or` of
float comparisons: elementwise operators write `Select` instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tvm_ffi
from tvm import ir
from tvm import tirx as t

#: TVM has no stubs.
Expr = Any

#: The operand fields of each kind of expression; other kinds hold no arithmetic.
OPERANDS: dict[type, tuple[str, ...]] = {
    **dict.fromkeys((t.Add, t.Sub, t.Mul, t.Div, t.Min, t.Max, t.EQ, t.NE, t.LT, t.LE, t.GT, t.GE, t.And, t.Or), ("a", "b")),
    t.Not: ("a",),
    t.Cast: ("value",),
    t.Broadcast: ("value",),
    t.Select: ("condition", "true_value", "false_value"),
}


def fence(x: Expr) -> Expr:
    """x, computed as it is written."""
    return t.call_llvm_pure_intrin(str(x.ty.dtype), "llvm.arithmetic.fence", x)


def is_float(x: Expr) -> bool:
    return str(x.ty.dtype).startswith("float")


def zero(dtype: str, negative: bool = False) -> Expr:
    """0.0 or -0.0 of a scalar dtype, by a function that LLVM evaluates and TVM does not."""
    if negative:
        bits = int(dtype.removeprefix("float"))
        return t.reinterpret(dtype, t.IntImm(f"int{bits}", -(2 ** (bits - 1))))
    return t.call_llvm_pure_intrin(dtype, "llvm.fabs", t.FloatImm(dtype, 0.0))


def is_zero(x: Expr) -> bool:
    """Whether an expression is one that `zero` made."""
    return type(x) is ir.Call and all(isinstance(a, (t.FloatImm, t.IntImm)) for a in x.args) and is_float(x)


def same(a: Expr, b: Expr) -> bool:
    """Whether two expressions are the same, so that the simplifier treats them as one value."""
    return bool(a.same_as(b)) or bool(tvm_ffi.structural_equal(a, b))


def keep_differences(x: Expr) -> Expr:
    """The expression with a fence in every difference of floats that share a term; the expression itself where there is none."""
    if type(x) is ir.Call:
        return _rebuilt(x, [*x.args], lambda args: ir.Call(x.op, args, ret_ty=x.ty))
    names = OPERANDS.get(type(x))
    if names is None:
        return x
    x = _rebuilt(x, [getattr(x, name) for name in names], lambda parts: _like(x, parts))
    if type(x) is t.Sub and is_float(x) and _meet(x.a, x.b):
        return t.Sub(fence(x.a), x.b)
    return x


def _rebuilt(x: Expr, parts: list[Expr], build: Any) -> Expr:
    kept = [keep_differences(part) for part in parts]
    return x if all(new is old for new, old in zip(kept, parts)) else build(kept)


def _like(x: Expr, parts: list[Expr]) -> Expr:
    if isinstance(x, t.Cast):
        return t.Cast(str(x.ty.dtype), *parts)
    return t.Broadcast(*parts, x.lanes) if isinstance(x, t.Broadcast) else type(x)(*parts)


def _meet(a: Expr, b: Expr) -> bool:
    """Whether the two share a term."""
    others = list(_terms(b))
    return any(same(term, other) for term in _terms(a) for other in others)


def _terms(x: Expr) -> Iterator[Expr]:
    """The expression, and recursively the terms that it adds or selects."""
    while isinstance(x, t.Broadcast):
        x = x.value
    yield x
    if isinstance(x, (t.Add, t.Sub)):
        parts = (x.a, x.b)
    elif isinstance(x, t.Select):
        parts = (x.true_value, x.false_value)
    else:
        return
    for part in parts:
        yield from _terms(part)
