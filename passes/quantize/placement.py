"""Where quantize/dequantize pairs go. This alone decides where the network rounds: `to-integer` only translates it.

A pair goes on every value that an integer operator reads, except:

    clamp(y)        on y = layer(…), sum(…), add or mul read by the clamp alone: the clamp acts on stored integers
    add(y, z)       on y = layer(…), read by the add alone: the add reads its accumulator (the later one, where both are layers),
                    unless sums=rounded, as in other runtimes
    move(x)         on move(x), whose numbers are those of x already
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import Add
from ..core.options import nearest
from .domains import Domains, domains_of
from .roles import Role, data_operands, role, why_float

#: Roles whose result a clamp may follow without rounding in between.
CLAMPED = ("layer", "sum", "arithmetic")


@dataclass(frozen=True)
class Placement:
    """values: those that get a pair, in the order of the graph. integer: operators that will run on integers, with their roles.
    reasons: why a layer stays float."""

    values: list[Value]
    integer: dict[Op, Role]
    domains: Domains
    reasons: dict[Op, str]


def place(graph: Graph, skip: Sequence[str] = (), rounded_sums: bool = False) -> Placement:
    """Decide for a float graph; skip: patterns of module paths of operators that stay float. rounded_sums: no add reads an accumulator."""
    skipped = _skipped(graph, skip)
    roles: dict[Op, Role] = {op: "float" if op in skipped else role(op) for op in graph.ops if not isinstance(op, Const)}
    integer = integer_ops(graph, roles)
    order = {op: i for i, op in enumerate(graph.ops)}
    read: dict[Value, None] = {}
    for op in integer:
        for v in data_operands(op):
            accumulated = not rounded_sums and _accumulated(op, v, integer, order)
            if not (_fused_clamp(op, v, integer) or accumulated or _moved(v, integer)):
                read[v] = None
    reasons = {op: skipped.get(op) or why_float(op) or "it has no integer neighbour" for op in roles if op not in integer}
    moves = [op for op, r in integer.items() if r == "move"]
    values = sorted(read, key=lambda v: -1 if v.op is None else order[v.op])
    return Placement(values, integer, domains_of(moves), reasons)


def _skipped(graph: Graph, skip: Sequence[str]) -> dict[Op, str]:
    ops = [op for op in graph if not isinstance(op, Const)]
    paths = sorted({op.loc.path for op in ops if op.loc.path})
    for pattern in skip:
        if not fnmatch.filter(paths, pattern):
            shown = ", ".join(paths[:12]) + (", …" if len(paths) > 12 else "")
            raise TersorError(f"skip: {pattern!r} matches no layer{nearest(pattern, paths)}; module paths: {shown or 'none'}")
    return {op: f"skip={pattern}" for op in ops for pattern in skip if fnmatch.fnmatchcase(op.loc.path, pattern)}


def integer_ops(graph: Graph, roles: dict[Op, Role]) -> dict[Op, Role]:
    """Operators that run on integers: layers, sums over results of integer operators, and other operators between two of these."""
    fed: set[Op] = set()
    for op, r in roles.items():
        if r == "layer" or (r != "float" and any(v.op in fed for v in data_operands(op))):
            fed.add(op)
    found: dict[Op, Role] = {}
    for op, r in reversed(roles.items()):
        wanted = any(user in found for user in op.out.users)
        if r == "layer" or (r == "sum" and op in fed) or (r == "move" and wanted) or (r != "float" and op in fed and wanted):
            found[op] = r
    return dict(reversed(found.items()))


def _fused_clamp(op: Op, v: Value, integer: dict[Op, Role]) -> bool:
    """Whether `op` is a clamp whose producer's result would be rounded only for it."""
    return integer[op] == "clamp" and v.op is not None and v.single_use and (integer.get(v.op) in CLAMPED or _fused_already(v.op, integer))


def _fused_already(op: Op, integer: dict[Op, Role]) -> bool:
    return integer.get(op) == "clamp" and _fused_clamp(op, data_operands(op)[0], integer)


def _accumulated(op: Op, v: Value, integer: dict[Op, Role], order: dict[Op, int]) -> bool:
    """Whether an add reads the accumulator of `v`."""
    if not isinstance(op, Add) or integer[op] != "arithmetic":
        return False
    whole = [o for o in data_operands(op) if o.single_use and o.shape == op.out.shape]
    layers = [o.op for o in whole if o.op is not None and integer.get(o.op) == "layer"]
    return v.op in layers and v.op is max(layers, key=lambda o: order[o])


def _moved(v: Value, integer: dict[Op, Role]) -> bool:
    return v.op is not None and integer.get(v.op) == "move"
