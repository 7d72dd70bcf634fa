"""Accumulators of reductions. Sums of floats are kept in f64: any order and length gives them to the last bit or so of f32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from tvm import tirx as t

from ....ir.types import NUMPY
from ...codegen.builder import TIR_DTYPE, Buffer, Builder, Expr, const
from ...codegen.tir_math import TirMath
from .nest import pieces, row

Combine = Callable[[Expr, Expr], Expr]


@dataclass(frozen=True)
class Monoid:
    """How values are combined: identity, operation, and the dtype of the accumulator."""

    combine: Combine
    identity: float
    dtype: str


def sum_dtype(elem: str) -> str:
    """The dtype of accumulators for sums and products of an element type."""
    return "float64" if elem in ("f16", "f32", "f64") else "int64"


def addition(elem: str) -> Monoid:
    return Monoid(lambda a, b: a + b, 0, sum_dtype(elem))


def product(elem: str) -> Monoid:
    return Monoid(lambda a, b: a * b, 1, sum_dtype(elem))


def extreme(m: TirMath, elem: str, largest: bool) -> Monoid:
    """Maximum or minimum; bools as bytes."""
    limits = np.iinfo(np.uint8 if elem == "bool" else NUMPY[elem]) if elem not in ("f16", "f32", "f64") else None
    low, high = (limits.min, limits.max) if limits else (-np.inf, np.inf)
    return Monoid(m.max if largest else m.min, low if largest else high, "uint8" if elem == "bool" else TIR_DTYPE[elem])


@dataclass
class Row:
    """Accumulators of a row of `size` elements: one of `width` lanes, and one for each shorter vector at its end."""

    b: Builder
    monoid: Monoid
    size: int
    width: int
    _slots: dict[int, Buffer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for lanes in [self.width, *(w for _, w in pieces(self.size % self.width, self.width))]:
            self._slots[lanes] = self.b.local(lanes, self.monoid.dtype)
            self.b.store(self._slots[lanes], 0, const(self.monoid.identity, self.monoid.dtype, lanes), lanes)

    def add(self, value: Expr, lanes: int) -> None:
        slot = self._slots[lanes]
        self.b.store(slot, 0, self.monoid.combine(self.b.load(slot, 0, lanes), value), lanes)

    def add_row(self, value: Callable[[Expr, int], Expr]) -> None:
        """`value(position, lanes)` for the whole row."""
        row(self.b, self.size, self.width, lambda at, lanes: self.add(value(at, lanes), lanes))

    def result(self) -> Expr:
        """All lanes combined, by halving."""
        value, lanes = self.b.load(self._slots[self.width], 0, self.width), self.width
        while lanes > 1:
            lanes //= 2
            value = self.b.value(value)
            low, high = ([t.IntImm("int32", start + i) for i in range(lanes)] for start in (0, lanes))
            value = self.monoid.combine(t.Shuffle([value], low), t.Shuffle([value], high))
            if lanes in self._slots:
                value = self.monoid.combine(value, self.b.load(self._slots[lanes], 0, lanes))
        return self.b.value(value)
