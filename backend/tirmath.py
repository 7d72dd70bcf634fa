"""The namespace that elementwise operators compute in when they become TensorIR: the counterpart of torch in `evaluate`."""

from __future__ import annotations

from typing import Any

from tvm import tirx as t

from ..ir.types import FLOATS
from .tir import TIR_DTYPE, Expr, const, lanes_of


def dtype_of(x: Expr) -> str:
    """Element dtype of an expression, without its lanes: `float32x8` -> `float32`."""
    return str(x.ty.dtype).split("x")[0]


class TirMath:
    """`Math` over TensorIR vectors."""

    def max(self, a: Expr, b: Expr) -> Expr:
        return t.max(a, b)

    def min(self, a: Expr, b: Expr) -> Expr:
        return t.min(a, b)

    def where(self, c: Expr, a: Expr, b: Expr) -> Expr:
        return t.Select(c, a, b)

    def const(self, x: Expr, value: float) -> Expr:
        return const(value, dtype_of(x), lanes_of(x))
