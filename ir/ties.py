"""How an operator ties positions of its operands' axes to positions of its result's: which positions pruning may remove, and which only together.

An op yields `Tie`s from `ties()`. An axis of an operand or of the result that no tie of the op names is a barrier: nothing along it is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .op import Value

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]
#: kept(value, axis): a mask over the positions of an axis, true where they stay.
Kept = Callable[["Value", int], Mask]


@dataclass(frozen=True, slots=True, eq=False)
class Tie:
    """Position `index_a[k]` along an axis of `a` and position `index_b[k]` along an axis of `b` are removed together, or not at all.

    Ties of one op with the same `choice` are alternatives: the first one applies whose axis of `a` is not barred yet (else the first).
    """

    a: Value
    axis_a: int
    index_a: Index
    b: Value
    axis_b: int
    index_b: Index
    choice: int | None = None


def same(a: Value, axis_a: int, b: Value, axis_b: int) -> Tie:
    """Position i with position i."""
    every = np.arange(a.shape[axis_a])
    return Tie(a, axis_a, every, b, axis_b, every)


def free(a: Value, axis: int) -> Tie:
    """Each position may be removed alone."""
    every = np.arange(a.shape[axis])
    return Tie(a, axis, every, a, axis, every)


def same_but(a: Value, b: Value, *barred: int) -> Iterator[Tie]:
    """Every axis of `a` with the same axis of `b`, except the barred ones."""
    for axis in range(a.type.rank):
        if axis not in barred:
            yield same(a, axis, b, axis)


def per_group(a: Value, axis: int, groups: int) -> Tie:
    """Position j of one group with position j of every other: groups keep one size."""
    every = np.arange(a.shape[axis])
    return Tie(a, axis, every, a, axis, every % (len(every) // groups))


def computed(v: Value) -> bool:
    """Whether a value is a constant or made from constants alone by ops of one operand (a transposed weight)."""
    from .op import Const

    while v.op is not None and not isinstance(v.op, Const) and len(v.op.operands) == 1:
        (v,) = v.op.operands
    return isinstance(v.op, Const)


def positions(kept: Mask) -> Index:
    """The index of each kept position after the removal (meaningless for removed ones)."""
    return np.cumsum(kept) - 1
