"""views: concats and slices of channels that move nothing. Their operands lie where the result has them, and no kernel is left.

    concat(a, b)   =>   a and b are written side by side, which is the result
    x[:, 16:32]    =>   a part of the memory of x

This takes whole channel blocks: then each operand is one piece of each image of the result, or the other way round. Values that lie in each other's
memory are a group, for which the planner finds one place; of several images, all in a group lie equally far `apart`, and kernels have to find
them so. Where two kernels would write to the same bytes of a group, the later gather copies.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from ..ir.graph import Graph
from ..ir.op import Value
from ..ir.ops import Elementwise
from .kernels.channel_gather import recipes
from .kernels.template import Template, template_named
from .region import ALIGN, Region, root
from .target import Target
from .tile import Fused, TileChannelGather

#: Where values of a group begin in each image, in bytes from one of them.
Group = dict[Value, int]


def views(graph: Graph, target: Target, threads: int) -> Graph:
    """Write `view` on every region, in place."""
    copied: set[Fused] = set()
    while wrong := _mark(graph, copied):
        copied |= wrong
    return graph


def _mark(graph: Graph, copied: set[Fused]) -> set[Fused]:
    """Write `view` on every region but those that are to be `copied`; returns the views whose memory a kernel could not find its way in."""
    outputs = {root(v) for v in graph.outputs}
    groups: dict[Value, Group] = {}
    for op in graph.ops:
        if isinstance(op, Fused):
            found = None if op in copied else pieces(op)
            mine = found is not None and op.out not in outputs and all(isinstance(v.op, Fused) and v not in outputs for v in found)
            op.view = found is not None and mine and _join(groups, op.out, found)
    lost = {id(groups[v]) for op in graph.ops if isinstance(op, Fused) and not op.view for v in _lost(op, groups)}
    return {op for op in graph.ops if isinstance(op, Fused) and op.view and id(groups[op.out]) in lost}


def _lost(op: Fused, groups: dict[Value, Group]) -> Iterable[Value]:
    """Of several images that do not follow each other those that a kernel reads or makes, and would not find."""
    apart = [v for v in (*op.args, op.out) if v in groups and v.shape[0] > 1]
    if not apart:
        return ()
    region = Region(op)
    outer = dict(zip(op.body.inputs, op.args)) | {op.body.outputs[0]: op.out}
    # what a tail reads at the places of the result lies as the result does; without an anchor each operand has its own
    alike = {id(groups.get(outer[v])) for v in (region.stages[-1].alike if not isinstance(region.anchor, Elementwise) else [region.result])}
    finds = finds_images(template_named(op.template, region.anchor), apart)
    return () if finds and len(alike) == 1 else apart


def finds_images(template: Template, values: Iterable[Value]) -> bool:
    """Whether a template finds its way in values that may be part of a view: several images of these do not follow each other."""
    parts = (v.shape[:1] != (1,) and any(isinstance(op, Fused) and op.view for op in (v.op, *v.users)) for v in values)
    return getattr(template, "images_apart", False) or not any(parts)


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
    """Where the operands of a gather have to begin, in bytes from the beginning of its result, in each image; None if it has to copy."""
    anchor: Any = op.body.ops[0]
    if not isinstance(anchor, TileChannelGather) or len(op.body.ops) > 1 or not anchor.lanes:
        return None
    lanes, size = anchor.lanes, op.out.type.nbytes // (op.out.shape[0] * op.out.shape[1])
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
    """Whether values that begin at these bytes of an image do not overlap."""
    ordered = sorted(values, key=lambda placed: placed[0])
    return all(at + v.type.nbytes // v.shape[0] <= following for (at, v), (following, _) in pairwise(ordered))
