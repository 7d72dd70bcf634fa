"""Bounds checks of index operands: the check in the interpreter, and the error that it and compiled code both raise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .errors import TersorError
from .op import Const, Op, Value

if TYPE_CHECKING:
    import torch


def index_error(model: str, index: str, value: int, size: int, op: str, loc: object) -> TersorError:
    """The error for an index value outside 0 to size - 1. index: the operand's description by `index_in_words`."""
    return TersorError(f"{model}: {index} holds {value}, expected 0 to {size - 1}, for {op} [{loc}]")


def index_in_words(index: Value, inputs: Sequence[Value]) -> str:
    """Describe an index operand by the model inputs that it is, or is computed from."""
    seen: set[Value] = set()
    found: set[Value] = set()
    stack, direct = [index], True
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


def check_addresses(op: Op, args: Sequence[Any]) -> None:
    """Raise `TersorError` for the first index of an op that is out of range. args: tensors by operand field."""
    for v, size in op.addresses():
        if isinstance(v.op, Const):
            continue  # checked when the op was made
        index: torch.Tensor = next(x for f, x in zip(op.operand_fields, args) if getattr(op, f.name) is v)
        wrong = index[(index < 0) | (index >= size)]
        if wrong.numel():
            name, inputs = ("graph", []) if op.graph is None else (op.graph.name, op.graph.inputs)
            raise index_error(name, index_in_words(v, inputs), int(wrong[0]), size, op.name, op.loc)
