"""Structural equality of graphs."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from .graph import Graph
from .op import Const, Op, Value


def graph_equal(a: Graph, b: Graph, *, names: bool = True, locations: bool = True) -> bool:
    """Same inputs, ops in the same order with equal attributes, regions, types and constants (bit for bit), same outputs.

    names: also the names of graphs, of inner values and of the arguments of regions (the graph's own inputs and outputs always count).
    locations: also where ops come from.
    """
    return difference(a, b, names=names, locations=locations) is None


def difference(a: Graph, b: Graph, *, names: bool = True, locations: bool = True) -> str | None:
    """The first difference between two graphs, in a sentence; None when they are equal."""
    if [v.name for v in a.inputs] != [v.name for v in b.inputs]:
        return "the names of the inputs differ"
    return _difference(a, b, names, locations)


def _difference(a: Graph, b: Graph, names: bool, locations: bool) -> str | None:
    if names and (a.name != b.name or [v.name for v in a.inputs] != [v.name for v in b.inputs]):
        return f"the graphs {a.name!r} and {b.name!r}, or their inputs, are named differently"
    interface = [([(v.type, v.name in g.batched) for v in g.inputs], g.output_names) for g in (a, b)]
    if interface[0] != interface[1] or not _same(a.structure, b.structure):
        return "inputs, batched inputs, output names or the structure of the outputs differ"
    if len(a.ops) != len(b.ops):
        return f"the graphs have {len(a.ops)} and {len(b.ops)} ops"
    to = dict(zip(a.inputs, b.inputs))
    for i, (x, y) in enumerate(zip(a.ops, b.ops)):
        what = _op_difference(x, y, to, names, locations)
        if what is not None:
            return f"op {i} ({x.name}, %{x.out.name}): {what}"
        to.update(zip(x.outs, y.outs))
    if [to.get(v) for v in a.outputs] != b.outputs:
        return "the outputs are different values"
    return None


def _op_difference(x: Op, y: Op, to: dict[Value, Value], names: bool, locations: bool) -> str | None:
    if type(x) is not type(y):
        return f"{x.name} against {y.name}"
    if [v.type for v in x.outs] != [v.type for v in y.outs]:
        return "result types differ"
    if names and [v.name for v in x.outs] != [v.name for v in y.outs]:
        return f"named {y.outs[0].name!r} in the other graph"
    if locations and x.loc != y.loc:
        return f"comes from {x.loc} against {y.loc}"
    for f in x.fields:
        p, q = getattr(x, f.name), getattr(y, f.name)
        if f.kind == "list":
            same = [to.get(v) for v in p] == q
        elif f.kind != "attr":
            same = (None if p is None else to.get(p)) is q
        elif isinstance(p, Graph) and isinstance(q, Graph):
            same = _difference(p, q, names, locations) is None
        else:
            # the element type of a constant is in its result type, compared above
            same = (type(x) is Const and f.name == "elem") or _same(p, q)
        if not same:
            return f"{f.name} differs"
    return None


def _same(a: Any, b: Any) -> bool:
    """Equal in value and in Python type; floats by their bits, so that nan equals nan and -0.0 differs from 0.0."""
    if type(a) is not type(b) and not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        return False
    if isinstance(a, np.ndarray):
        return a is b or (a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(v, b[k]) for k, v in a.items())
    return bool(a == b)
