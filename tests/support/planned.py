"""Execute a memory plan symbolically: every byte that a kernel reads must have been written last by the kernel it expects.

In this model the channels of a block are contiguous. Lanes after the last channel of a feature map have no owner: they may hold anything.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from tersor.backend.kernels.template import template_named
from tersor.backend.lowering.plan_memory import SLACK, arena_size
from tersor.backend.target import resolve
from tersor.backend.tile.fusion import ALIGN, Fusion
from tersor.backend.tile.ops import Fused
from tersor.ir.graph import Graph
from tersor.ir.op import Value
from tersor.ir.ops import Reshape

NOBODY = -1


def execute(graph: Graph, threads: int = 1) -> int:
    """Run a planned graph over owners instead of numbers; returns the bytes of the arena."""
    target = resolve("cpu")
    owner = np.full(arena_size(graph, target, threads), NOBODY)
    #: the parts of a value, and the writer of each: (first, bytes, writer)
    place: dict[Value, list[tuple[int, int, int]]] = {}
    outputs: set[Value] = set(graph.outputs)
    for v in list(outputs):
        while isinstance(v.op, Reshape):
            v = v.op.x
            outputs.add(v)
    for i, op in enumerate(graph.ops):
        if isinstance(op, Reshape):
            if op.x in place:
                place[op.out] = place[op.x]
            continue
        if not isinstance(op, Fused):
            continue
        for v in op.args:
            for at, size, writer in place.get(v, ()):
                assert (owner[at : at + size] == writer).all(), f"op {i} reads %{v.name}, whose bytes were overwritten"
        if op.alias:
            place[op.out] = seen_through(op, place)
        elif op.out in outputs:
            assert op.offset == -1, "an output lies in the caller's memory"
        else:
            assert op.offset >= 0 and op.offset % ALIGN == 0
            # a kernel that shares blocks writes only its channels, another also the lanes after them
            results = pieces(op, live=op.lane_offset >= 0)
            # the kernel may write scratch before it has read everything, and results while it reads
            assert all(disjoint(part, result) for v in op.args if v in place for part in place[v] for result in results), (
                f"op {i} overwrites its operand"
            )
            assert all(disjoint(a, b) for a, b in combinations(results, 2))
            for at, size in results:
                owner[at : at + size] = i
                assert at + size + SLACK <= len(owner)
            count, whole = op.spans
            # a value that straddles blocks is loaded from two, even if its last part needs only the first
            assert all(op.offset + j * op.stride + whole <= len(owner) for j in range(count))
            place[op.out] = [(at, size, i) for at, size in results]
        if op.scratch >= 0:
            size = template_named(op.template, Fusion(op).anchor).scratch(Fusion(op), target, op.params, threads)
            for v in (*op.args, op.out):
                if v in place:
                    assert all(disjoint(part, (op.scratch, size)) for part in place[v]), f"the scratch of op {i} lies in %{v.name}"
            owner[op.scratch : op.scratch + size] = NOBODY
            assert op.scratch + size + SLACK <= len(owner)
    return len(owner)


def seen_through(op: Fused, place: dict[Value, list[tuple[int, int, int]]]) -> list[tuple[int, int, int]]:
    """The parts of an alias: what its operands wrote there, which must cover it."""
    parts, wanted = [], pieces(op, live=True)
    for start, size in wanted:
        inside = [(max(at, start), min(at + n, start + size), who) for v in op.args for at, n, who in place[v]]
        parts += sorted({(at, stop - at, who) for at, stop, who in inside if at < stop})
    assert sum(n for _, n, _ in parts) == sum(n for _, n in wanted), "the operands of a view lie beside it"
    return parts


def pieces(op: Fused, live: bool) -> list[tuple[int, int]]:
    """The contiguous pieces of a result (one, or its partitions, or images with a stride): (first, bytes), of all blocks or of `live` channels."""
    count = op.partitions if op.partitions > 1 else op.out.shape[0] if op.stride else 1
    layout, size = op.out.type.layout, op.out.type.nbytes // count
    if layout is None:
        return [(op.offset, size)]
    images = op.out.shape[0] if count == 1 or op.partitions > 1 else 1
    channel = size // (images * op.out.shape[1] * op.out.shape[-1])
    starts = [op.offset + i * op.stride + j * (size // images) + max(op.lane_offset, 0) * channel for i in range(count) for j in range(images)]
    return [(at, layout.channels * channel if live else size // images) for at in starts]


def disjoint(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[0] + a[1] <= b[0] or b[0] + b[1] <= a[0]
