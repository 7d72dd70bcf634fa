"""Common subexpressions: ops of one class with equal operands and attributes are one op."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Const, Op, Value


def merge_equal(graph: Graph, constants: bool = True) -> int:
    """Replace equal ops by the first of them, in place; returns how many were erased.

    constants: also merge constants of equal type and bytes. Merged weights are trained as one, so leave this off before training.
    """
    twins = Counter(_sketch(op) for op in graph.ops if isinstance(op, Const)) if constants else Counter()
    seen: dict[Any, Op] = {}
    merged = 0
    for op in graph.ops:
        if isinstance(op, Const):
            # hash all bytes only where another constant has the same sketch
            key: Any = ("constant", op.out.type, _digest(op.array)) if twins[_sketch(op)] > 1 else None
        else:
            key = _key(op)
        if key is None:
            continue
        first = seen.setdefault(key, op)
        if first is not op:
            for old, new in zip(op.outs, first.outs):
                new.name = new.name or old.name
                graph.replace_uses(old, new)
            graph.erase(op)
            merged += 1
    return merged


def _sketch(op: Const) -> Any:
    """The type and some elements of a constant: cheap, and different for most constants that differ."""
    step = max(1, op.array.size // 16)
    return op.out.type, op.array.flat[::step].tobytes()


def _digest(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).view(np.uint8).data if array.ndim else array.tobytes(), digest_size=16).digest()


def _key(op: Op) -> Any:
    """What makes two ops equal, or None for an op with an attribute that cannot be compared (a region)."""
    try:
        return type(op), tuple(_frozen(getattr(op, f.name)) for f in op.fields)
    except _Incomparable:
        return None


class _Incomparable(Exception):
    pass


def _frozen(value: Any) -> Any:
    """A hashable stand-in that tells 0.0 from -0.0 and 1 from 1.0 and True."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return tuple((k, _frozen(v)) for k, v in value.items())
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, _digest(value)
    if isinstance(value, Graph) or not (isinstance(value, Value) or value.__hash__):
        raise _Incomparable
    return type(value), value
