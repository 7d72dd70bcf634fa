"""plan-memory: static memory planning. The result and scratch of every fusion get a byte offset in one arena; values that are never live together
may share bytes.

Constants are in the weights, graph inputs and outputs in the caller's memory. A reshape has the memory of its operand.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.graph import Graph
from ...ir.op import Op, Value
from ...ir.ops import Reshape
from ..kernels.template import template_named
from ..target import Target
from ..tile.fusion import ALIGN, Fusion, root
from ..tile.ops import Fused
from .alias_concats import block_bytes, groups_of, lanes_of

#: Bytes kept free after every buffer, so that a vector load that straddles its end stays inside the arena.
SLACK = 64
#: Bytes of a page: the hardware prefetches within it, and partitions do not share one.
PAGE = 4096


def plan_memory(graph: Graph, target: Target, threads: int) -> Graph:
    """Write `offset`, `scratch`, `stride` and `lane_offset` on every fused op, in place; `arena_size` adds them up.

    Partitioned feature maps are placed first: the arena starts with one part per partition, all with the same arrangement. The other buffers use
    the space that is free.
    """
    order = {op: i for i, op in enumerate(graph.ops)}
    outputs = {root(v) for v in graph.outputs}
    groups = groups_of(graph)
    grouped = {v for group in groups for v in group}
    whole: list[Span] = []
    banded: list[Span] = []
    for op in graph.ops:
        if not isinstance(op, Fused):
            continue
        op.offset = op.scratch = -1
        op.stride = 0
        if op.out not in outputs and op.out not in grouped:
            groups.append({op.out: 0})
        template = template_named(op.template, Fusion(op).anchor)
        if need := template.scratch(Fusion(op), target, op.params, threads):
            whole.append(Span(round_up(need + SLACK), order[op], order[op], [(op, "scratch", 0)]))
    for group in groups:
        lanes = lanes_of(group) if len(group) > 1 else {}
        images = next(iter(group)).shape[0] if len(group) > 1 else 1
        held: dict[Fused, int] = {}
        image = 0
        for v, at in group.items():
            if isinstance(made := v.op, Fused):
                made.lane_offset = lanes.get(v, -1)
                if made.lane_offset >= 0 and not template_named(made.template, Fusion(made).anchor).masked_stores:
                    raise made.fail(f"template {made.template!r} writes whole channel blocks, of which others have lanes: see `alias_concats`")
                held[made] = (at - at % block_bytes(v) if len(group) > 1 else at) // made.partitions
                nbytes = made.nbytes // (made.partitions * images)
                image = max(image, held[made] + nbytes + (nbytes // v.shape[1] if made.lane_offset > 0 else 0))
        if images > 1:
            for op in held:
                op.stride = image
        size = round_up(images * image + SLACK)
        first, last = min(order[op] for op in held), max(last_read(op.out, order) for op in held)
        span = Span(size, first, last, [(op, "offset", at) for op, at in held.items()])
        (banded if span.partitions > 1 else whole).append(span)
    parts = _place(banded, [])
    stride = round_up(max((at + s.size for s, at in parts), default=0), PAGE)
    for s in banded:
        for op, *_ in s.holds:
            op.stride = stride
    _place(whole, [(s, at + partition * stride) for s, at in parts for partition in range(s.partitions)])
    return graph


def _place(spans: list[Span], taken: list[tuple[Span, int]]) -> list[tuple[Span, int]]:
    """Give each span an offset that does not overlap the `taken` ones while it is live; returns the offsets."""
    placed: list[tuple[Span, int]] = []
    for s in sorted(spans, key=lambda s: (-s.size, s.first)):
        at = 0
        for other, offset in sorted(((o, f) for o, f in (*taken, *placed) if o.first <= s.last and s.first <= o.last), key=lambda p: p[1]):
            if at + s.size <= offset:
                break
            at = max(at, offset + other.size)
        placed.append((s, at))
        for op, field, inner in s.holds:
            setattr(op, field, at + inner)
    return placed


@dataclass(frozen=True)
class Span:
    """A buffer: its bytes, the first and last op of its lifetime, and its use: the field `offset` or `scratch` of an op, and from which byte on."""

    size: int
    first: int
    last: int
    holds: list[tuple[Fused, str, int]]

    @property
    def partitions(self) -> int:
        return self.holds[0][0].partitions


def round_up(size: int, to: int = ALIGN) -> int:
    return -(-size // to) * to


def last_read(v: Value, order: dict[Op, int]) -> int:
    """Index of the last op that reads a value or a reshape of it."""
    last = order[v.op] if v.op is not None else 0
    for user in v.users:
        last = max(last, last_read(user.out, order) if isinstance(user, Reshape) else order[user])
    return last


def arena_size(graph: Graph, target: Target, threads: int) -> int:
    """Bytes of the arena of a planned graph."""
    size = 0
    for op in graph.ops:
        if isinstance(op, Fused):
            if op.offset >= 0:
                parts, nbytes = op.spans
                size = max(size, op.offset + (parts - 1) * op.stride + round_up(nbytes + SLACK))
            if op.scratch >= 0:
                need = template_named(op.template, Fusion(op).anchor).scratch(Fusion(op), target, op.params, threads)
                size = max(size, op.scratch + round_up(need + SLACK))
    return size
