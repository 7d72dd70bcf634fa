"""Indexes outside their range: the kernel that meets one reads place 0 instead, and says so in a record that the caller looks at after the call.

The records lie at the end of the arena, one of two i64 for each step that reads an index which is not known when the model is compiled: whether an
index was outside, and which. Nothing foreign is read, whatever the index; what the call computed is thrown away.
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
    """What a step's index is, in words, and how many places there are."""

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
