"""Ties that several families share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..op import Value
from ..ties import Tie, free, same


def broadcast_ties(operands: Iterable[Value], out: Value, trailing: int = 0) -> Iterator[Tie]:
    """Axes aligned from the right as numpy broadcasts them, except the last `trailing`; a repeated axis of size 1 stays as it is."""
    for v in operands:
        lead = out.type.rank - v.type.rank
        for axis in range(v.type.rank - trailing):
            yield same(v, axis, out, axis + lead) if v.shape[axis] == out.shape[axis + lead] else free(v, axis)
