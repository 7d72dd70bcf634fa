"""Indices out of range: a kernel that reads one uses index 0 instead and sets a record, which the caller checks after the call.

The records are at the end of the arena, two i64 for each step that reads an index which is not known at compile time: whether an index was out of
range, and which. So no index reads memory outside its tensor; the results of the call are discarded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...ir.addresses import index_error

if TYPE_CHECKING:
    from .artifact import Entry

#: Bytes of a record.
RECORD = 16


@dataclass(frozen=True)
class Check:
    """A description of a step's index, and the size of the axis that it selects from."""

    index: str
    size: int


def raise_first(model: str, entry: Entry, records: memoryview) -> None:
    """Raise `TersorError` for the first step whose index was outside, and clear the records; return if there is none. records: i64."""
    steps = [step for step in entry.steps if step.check is not None]
    for number, step in enumerate(steps):
        if records[2 * number] and step.check is not None:
            value, check = records[2 * number + 1], step.check
            for i in range(len(records)):
                records[i] = 0
            raise index_error(model, check.index, value, check.size, step.op, step.loc)
