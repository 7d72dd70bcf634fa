"""views: concats and slices of channels that move nothing. Their operands lie where the result has them, and no kernel is left.

    concat(a, b)   =>   a and b are written side by side, which is the result
    x[:, 16:32]    =>   a part of the memory of x

This takes whole channel blocks of a single image: then each operand is one piece of the result, or the other way round. Values that lie in each
other's memory are a group, for which the planner finds one place. Where two kernels would write to the same bytes of a group, the later gather
copies.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from ..ir.graph import Graph
from ..ir.op import Value
from .kernels.channel_gather import recipes
from .region import ALIGN, root
from .target import Target
from .tile import Fused, TileChannelGather

#: Where values of a group begin, in bytes from one of them.
Group = dict[Value, int]


def views(graph: Graph, target: Target, threads: int) -> Graph:
    """Write `view` on every region, in place."""
    outputs = {root(v) for v in graph.outputs}
    groups: dict[Value, Group] = {}
    for op in graph.ops:
        if isinstance(op, Fused):
            found = pieces(op)
            mine = found is not None and op.out not in outputs and all(isinstance(v.op, Fused) and v not in outputs for v in found)
            op.view = found is not None and mine and _join(groups, op.out, found)
    return graph


def groups_of(graph: Graph) -> list[Group]:
    """The groups of a graph on which `views` has written, each from its first byte on, in the order of their first values."""
    groups: dict[Value, Group] = {}
    for op in graph.ops:
        if not isinstance(op, Fused) or not op.view:
            continue
        found = pieces(op)
        if found is None or not _join(groups, op.out, found):
            raise op.fail("its operands do not lie in its memory: `view` is what the stage `views` finds")
    result = []
    for group in {id(group): group for group in groups.values()}.values():
        start = min(group.values())
        result.append({v: at - start for v, at in group.items()})
    return result


def pieces(op: Fused) -> Group | None:
    """Where the operands of a gather have to begin, in bytes from the beginning of its result; None if it has to copy."""
    anchor: Any = op.body.ops[0]
    if not isinstance(anchor, TileChannelGather) or len(op.body.ops) > 1 or not anchor.lanes or op.out.shape[0] != 1:
        return None
    lanes, size = anchor.lanes, op.out.type.nbytes // op.out.shape[1]
    result: Group = {}
    for recipe, *_ in recipes(anchor, lanes):
        operand, distance, _ = recipe[0]
        in_order = recipe == tuple((operand, distance, lane) for lane in range(len(recipe)))
        at = -distance * size
        if not (in_order and at % ALIGN == 0) or result.setdefault(op.args[operand], at) != at:
            return None
    return result


def _join(groups: dict[Value, Group], result: Value, operands: Group) -> bool:
    """Make a result, its operands and the groups of these one group; False, and nothing done, where kernels would write to the same bytes."""
    joined: Group = {result: 0}
    for v, at in operands.items():
        own = groups.get(v, {v: 0})
        for u, place in own.items():
            here = at + place - own[v]
            if joined.setdefault(u, here) != here:
                return False
    written = [(at, v) for v, at in joined.items() if v is not result and not (isinstance(v.op, Fused) and v.op.view)]
    if not _apart(written):
        return False
    groups |= dict.fromkeys(joined, joined)
    return True


def _apart(values: Iterable[tuple[int, Value]]) -> bool:
    """Whether values that begin at these bytes do not overlap."""
    ordered = sorted(values, key=lambda placed: placed[0])
    return all(at + v.type.nbytes <= following for (at, v), (following, _) in pairwise(ordered))
