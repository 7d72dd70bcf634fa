"""Indexes outside their range: the kernel that meets one reads place 0 instead, and says so in a record that the caller looks at after the call.

The records lie at the end of the arena, one of two i64 for each step that reads an index which is not known when the model is compiled: whether an
index was outside, and which. Nothing foreign is read, whatever the index; what the call computed is thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...ir.errors import TersorError
from ...ir.op import Value

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
            raise TersorError(f"{model}: {check.index} holds {value}, expected 0 to {check.size - 1}, for {step.op} [{step.loc}]")


def index_in_words(index: Value, inputs: Sequence[Value]) -> str:
    """An index by the inputs of the model that it is, or is computed from."""
    seen: set[Value] = set()
    stack, direct = [index], True
    found: set[Value] = set()
    while stack:
        v = stack.pop()
        if v in seen:
            continue
        seen.add(v)
        if v in inputs:
            found.add(v)
        elif v.op is not None:
            direct = direct and v.op.name == "nn.reshape"
            stack.extend(v.op.operands)
    names = ", ".join(repr(v.name) for v in inputs if v in found)
    if not names:
        return "an index that the model computes"
    return f"input {names}" if direct else f"an index computed from input {names}"
