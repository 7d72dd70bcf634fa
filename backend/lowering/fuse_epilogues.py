"""fuse-epilogues: every operator becomes the anchor of one `tile.fused` op, with the elementwise ops that follow it as its epilogue.

    conv2d -> add(., y) -> relu   =>   tile.fused(x, w, b, y) { conv2d; add; relu }

A fused op means its ops in sequence, so fusing is exact. An elementwise op joins if the values inside have no readers outside, if it keeps
the type, and if its other operands are computed before the anchor and an epilogue can read them (scalar, per channel, same shape). After
a sum of stored integers only ops that round it join, and these change the type; after a sum of few bits float ops may follow. A fusion of
only elementwise ops may mix types and read any operand that broadcasts.
"""

from __future__ import annotations

from ...ir.graph import Graph, remapped
from ...ir.op import Const, Op, Value
from ...ir.ops import (
    Elementwise,
    Reshape,
)
from ..tile.integer import Rounding
from ..tile.ops import Copy, Fused

#: Most ops of a fusion.
LONGEST = 32


def fuse_epilogues(graph: Graph) -> Graph:
    """Group the ops of a legalized graph into fusions, in place."""
    sink_accumulators(graph)
    position = {op: i for i, op in enumerate(graph.ops)}
    taken: set[Op] = set()
    for anchor in list(graph.ops):
        if anchor in taken or isinstance(anchor, (Const, Reshape, Fused, Copy)):
            continue
        group = [anchor, *_epilogue(anchor, position)]
        taken.update(group)
        position[wrap(graph, group)] = position[group[-1]]
    return graph


def sink_accumulators(graph: Graph) -> None:
    """Move sums of stored integers directly before their first reader, after its other operands are computed, so that it can be the epilogue.

    conv2d a; conv2d b; rescale a; rescaled_sum(a, b)   =>   conv2d a; rescale a; conv2d b; rescaled_sum(a, b)
    """
    held: set[Op] = set()
    order: list[Op] = []

    def put(op: Op) -> None:
        for v in op.operands:
            if v.op in held:
                held.discard(v.op)
                put(v.op)
        order.append(op)

    for op in graph.ops:
        if op.accumulates and op.out.users:
            held.add(op)
        else:
            put(op)
    if len(order) == len(graph.ops) and order != graph.ops:
        graph.ops = order


def _epilogue(anchor: Op, position: dict[Op, int]) -> list[Op]:
    """Elementwise ops after the anchor, in order: as many as leave only the last value with readers outside."""
    group, closed = [anchor], 1
    while len(group) < LONGEST:
        users = {u for op in group for u in op.out.uses if u not in group}
        if not users or None in users:
            break
        user = min((u for u in users if u is not None), key=lambda u: position[u])
        if not _joins(user, anchor, group, position):
            break
        group.append(user)
        if all(u in group for op in group[:-1] for u in op.out.uses):
            closed = len(group)
    return group[1:closed]


def _joins(op: Op, anchor: Op, group: list[Op], position: dict[Op, int]) -> bool:
    if not isinstance(op, Elementwise) or anchor.alone:
        return False
    others = [v for v in op.operands if v.op not in group]
    if op.out.shape != anchor.out.shape or not all(_ready(v, position[anchor], position) for v in others):
        return False
    if isinstance(anchor, Elementwise) and not uniform(anchor):
        return True
    if anchor.accumulates:
        # after sums of few bits have become floats, float ops may follow
        rounds = isinstance(op, Rounding) or (anchor.few_bits and all(v.type.elem == "f32" for v in (*op.operands, op.out)))
        return rounds and all(_epilogue_reads(anchor, v) for v in others if v in op.by_element)
    return op.out.type == anchor.out.type and op.out.type.is_float and all(_epilogue_reads(anchor, v) for v in others)


def uniform(op: Op) -> bool:
    """Whether an elementwise op can work on blocked feature maps, so that a fusion of such ops does not need plain operands."""
    out = op.out
    return out.type.rank == 4 and out.type.is_float and all(v.type.elem == out.type.elem and readable(v, out) for v in op.operands)


def _ready(v: Value, start: int, position: dict[Op, int]) -> bool:
    """Whether a value is known before the anchor runs: constants and inputs are, other values if they are computed earlier."""
    return v.op is None or isinstance(v.op, Const) or position.get(v.op, start) < start


def _epilogue_reads(anchor: Op, operand: Value) -> bool:
    if anchor.row_wise or anchor.moves:
        a, o = operand.shape, anchor.out.shape
        return a == o or operand.type.size == 1 or (anchor.row_wise and operand.type.size == o[-1] and a[-1:] == o[-1:])
    return readable(operand, anchor.out)


def readable(operand: Value, out: Value) -> bool:
    """Whether an epilogue can read an operand: a scalar, the same shape, or one per channel, (1|N, C, 1, 1) for a feature map, (C,) for rows."""
    a, o = operand.shape, out.shape
    if a == o or operand.type.size == 1:
        return True
    if len(o) == 4:
        return len(a) == 4 and a[0] in (1, o[0]) and a[1:] == (o[1], 1, 1)
    return bool(o) and operand.type.size == o[-1] and a[-1:] == o[-1:]


def wrap(graph: Graph, group: list[Op]) -> Fused:
    """Replace a group of ops, in sequence, by one fusion; operands keep their order of first use."""
    inside = set(group)
    args: list[Value] = []
    for op in group:
        args.extend(v for v in op.operands if v.op not in inside and v not in args)
    body = Graph(group[0].name.split(".")[-1])
    inner = {v: body.add_input(v.type, f"a{i}") for i, v in enumerate(args)}
    for op in group:
        copy = remapped(op, inner)
        body.add(copy)
        inner[op.out] = copy.out
    body.set_outputs([inner[group[-1].out]])
    fused = Fused(args, body, loc=group[0].loc)
    last = group[-1]
    graph.replace(last, fused)
    for op in reversed(group[:-1]):
        graph.erase(op)
    return fused
