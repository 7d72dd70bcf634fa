"""alias-concats: operands of a channel concat or slice share the result's buffer, so nothing is copied and no kernel is left.

    concat(a, b)   =>   a and b are written side by side in the memory of the result
    x[:, 16:32]    =>   a part of the memory of x

Each operand is one piece of each image of the result, or the result one piece of the operand. Values that share memory form a group, which
gets one place in the arena. All images of a group have the same batch stride, which its kernels must be able to address. Where two kernels
would write the same channels of a group, the later gather copies.

Kernels read whole channel blocks, so a value that a kernel reads must start a block. A value that is read only through aliases may start at
any lane of a block (`lane_offset`). Its kernel then writes parts of blocks, as does a kernel whose last block also holds another's channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from ...ir.graph import Graph
from ...ir.op import Value
from ...ir.ops import Elementwise
from ..kernels.template import Template, template_named
from ..target import Target
from ..tile.fusion import ALIGN, Fusion, root
from ..tile.ops import Fused, TileChannelGather

#: Offsets of the values of a group in each image, in bytes relative to one of them: a channel counts its share of a block.
Group = dict[Value, int]


def alias_concats(graph: Graph, target: Target, threads: int) -> Graph:
    """Write `alias` and `lane_offset` on every fused op, in place."""
    copied: set[Fused] = set()
    while wrong := _mark(graph, target, copied):
        copied |= wrong
    for op in graph.ops:
        if isinstance(op, Fused):
            op.lane_offset = -1
    for group in groups_of(graph):
        for v, lane in lanes_of(group).items():
            v.op.lane_offset = lane  # type: ignore[union-attr]
    return graph


def _mark(graph: Graph, target: Target, copied: set[Fused]) -> set[Fused]:
    """Write `alias` on every fused op except those in `copied`; returns the aliases whose memory some kernel cannot address."""
    outputs = {root(v) for v in graph.outputs}
    groups: dict[Value, Group] = {}
    fusions = [op for op in graph.ops if isinstance(op, Fused)]
    for op in fusions:
        found = None if op in copied else pieces(op)
        mine = found is not None and op.out not in outputs and all(isinstance(v.op, Fused) and v not in outputs for v in found)
        op.alias = found is not None and mine and (target.masks or not _ragged(op)) and _join(groups, op.out, found)
    lost = {id(groups[v]) for op in fusions if not op.alias for v in _lost(op, groups)}
    split = {id(group) for group in groups.values() if not _whole_for_kernels(group)}
    return {op for op in fusions if op.alias and (id(groups[op.out]) in lost or (id(groups[op.out]) in split and _ragged(op)))}


def channel_bytes(v: Value) -> int:
    """Bytes of a channel of an image."""
    n, blocks, *_, lanes = v.shape
    return v.type.nbytes // (n * blocks * lanes)


def block_bytes(v: Value) -> int:
    """Bytes of a channel block of an image."""
    return channel_bytes(v) * v.shape[-1]


def _stop(v: Value, at: int) -> int:
    """Where the channels of a value end that starts at `at`."""
    assert v.type.layout is not None
    return at + v.type.layout.channels * channel_bytes(v)


def _ragged(op: Fused) -> bool:
    """Whether a gather's operands would start inside blocks if they were aliases of its memory."""
    return any(at % block_bytes(op.out) for at in (pieces(op) or {}).values())


def lanes_of(group: Group) -> dict[Value, int]:
    """For values that share channel blocks with others of the group: the lane of a block at which they start."""
    written = {v: at for v, at in group.items() if isinstance(v.op, Fused) and not v.op.alias}
    result: dict[Value, int] = {}
    for v, at in written.items():
        block = block_bytes(v)
        low, high = at // block * block, -(-_stop(v, at) // block) * block
        if at % block or any(u is not v and there < high and low < _stop(u, there) for u, there in written.items()):
            result[v] = at % block // channel_bytes(v)
    return result


def _whole_for_kernels(group: Group) -> bool:
    """Whether values that kernels read start a block, and kernels that must write parts of blocks can."""
    inside = [v for v, at in group.items() if at % block_bytes(v)]
    if any(not (isinstance(user, Fused) and user.alias) for v in inside for user in v.users):
        return False
    kernels = (v.op for v in lanes_of(group) if isinstance(v.op, Fused))
    return all(template_named(op.template, Fusion(op).anchor).masked_stores for op in kernels)


def _lost(op: Fused, groups: dict[Value, Group]) -> Iterable[Value]:
    """Values with a batch stride that this kernel cannot address."""
    strided = [v for v in (*op.args, op.out) if v in groups and v.shape[0] > 1]
    if not strided:
        return ()
    fusion = Fusion(op)
    outer = dict(zip(op.body.inputs, op.args)) | {op.body.outputs[0]: op.out}
    # operands that an epilogue reads like the result must have its layout; without an anchor each operand may have its own
    layouts = {id(groups.get(outer[v])) for v in (fusion.segments[-1].same_layout if not isinstance(fusion.anchor, Elementwise) else [fusion.result])}
    finds = finds_images(template_named(op.template, fusion.anchor), strided)
    return () if finds and len(layouts) == 1 else strided


def finds_images(template: Template, values: Iterable[Value]) -> bool:
    """Whether a template can address values that may be part of an alias, whose images are not contiguous."""
    parts = (v.shape[:1] != (1,) and any(isinstance(op, Fused) and op.alias for op in (v.op, *v.users)) for v in values)
    return template.strided_batch or not any(parts)


def groups_of(graph: Graph) -> list[Group]:
    """The groups of a graph after `alias_concats`, each starting at a block, in the order of their first values."""
    groups: dict[Value, Group] = {}
    for op in graph.ops:
        if not isinstance(op, Fused) or not op.alias:
            continue
        found = pieces(op)
        if found is None or not _join(groups, op.out, found):
            raise op.fail("its operands do not lie in its memory: `alias` is what the stage `alias-concats` finds")
    result = []
    for group in {id(group): group for group in groups.values()}.values():
        start = min(at // block_bytes(v) * block_bytes(v) for v, at in group.items())
        result.append({v: at - start for v, at in group.items()})
    return result


def pieces(op: Fused) -> Group | None:
    """Where the operands of a gather must start, in bytes from the start of its result in each image; None if it has to copy."""
    anchor: Any = op.body.ops[0]
    if not isinstance(anchor, TileChannelGather) or len(op.body.ops) > 1 or not anchor.lanes:
        return None
    size, block = channel_bytes(op.out), block_bytes(op.out)
    # the gather may read an operand twice, which the kernel has once
    outer = dict(zip(op.body.inputs, op.args))
    sources = [(outer[v], c) for v in anchor.xs for c in range(v.type.layout.channels)]  # type: ignore[union-attr]
    result: Group = {}
    for i, channel in enumerate(anchor.channels):
        x, c = sources[channel]
        if result.setdefault(x, (i - c) * size) != (i - c) * size:
            return None
    return result if block % ALIGN == 0 or all(at % ALIGN == 0 for at in result.values()) else None


def _join(groups: dict[Value, Group], result: Value, operands: Group) -> bool:
    """Join a result, its operands and their groups to one group. Returns False and does nothing where kernels would write to the same bytes."""
    joined: Group = {result: 0}
    for v, at in operands.items():
        own = groups.get(v, {v: 0})
        for u, place in own.items():
            here = at + place - own[v]
            if joined.setdefault(u, here) != here:
                return False
    written = [(at, v) for v, at in joined.items() if v is not result and not (isinstance(v.op, Fused) and v.op.alias)]
    if not _disjoint(written):
        return False
    groups |= dict.fromkeys(joined, joined)
    return True


def _disjoint(values: Iterable[tuple[int, Value]]) -> bool:
    """Whether the channels of values at these byte offsets of an image do not overlap."""
    ordered = sorted(values, key=lambda placed: placed[0])
    return all(_stop(v, at) <= following for (at, v), (following, _) in pairwise(ordered))
