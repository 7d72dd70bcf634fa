"""partition-rows: where threads divide the rows of feature maps, store each thread's rows of a feature map together.

    [block][row][column][lane]   =>   [partition][block][row of the partition][column][lane], a partition for each thread

In the usual order a thread's rows are a piece of every channel block. The hardware prefetcher crosses the border of each piece. And memory
that one core has in its cache is reused by the next feature map, of another shape, for rows of the other core. So the planner gives each
partition its own part of the arena, the same for all feature maps. Only the order in memory changes; types do not show it. Used only where
the producer and every consumer support it.
"""

from __future__ import annotations

from ...ir.graph import Graph
from ...ir.op import Value
from ..kernels.template import template_named
from ..target import Target
from ..tile.fusion import ALIGN, Fusion, root
from ..tile.ops import Fused


def partition_rows(graph: Graph, target: Target, threads: int) -> Graph:
    """Write `partitions` on every fused op, in place."""
    outputs = {root(v) for v in graph.outputs}
    fusions = [op for op in graph.ops if isinstance(op, Fused)]
    chosen = {op.out for op in fusions if threads > 1 and _may(op, threads, outputs)}
    groups = {op: _groups(op, target, threads) for op in fusions}
    while left := {v for op in fusions for v in _against(op, groups[op], chosen)}:
        chosen -= left
    for op in fusions:
        op.partitions = threads if op.out in chosen else 1
    return graph


def _may(op: Fused, threads: int, outputs: set[Value]) -> bool:
    """Whether the result is one image whose rows threads can divide evenly, which only kernels read."""
    v = op.out
    map_ = v.type.layout is not None and v.type.elem == "f32" and v.shape[0] == 1 and v.shape[2] % threads == 0
    return map_ and v not in outputs and all(isinstance(user, Fused) for user in v.users)


def _groups(op: Fused, target: Target, threads: int) -> list[set[Value]]:
    """Sets of operands and result that the kernel can address if all of a set are partitioned, or none."""
    if op.alias:
        _, blocks, height, *_ = op.out.shape
        aligned = height % threads == 0 and op.out.type.nbytes // (blocks * threads) % ALIGN == 0
        return [{*op.args, op.out}] if aligned else []
    template = template_named(op.template, Fusion(op).anchor)
    outer = dict(zip(op.body.inputs, op.args)) | {op.body.outputs[0]: op.out}
    return [{outer[v] for v in group} for group in template.row_partitioned(Fusion(op), target, op.params)]


def _against(op: Fused, groups: list[set[Value]], chosen: set[Value]) -> set[Value]:
    """Chosen values that this kernel cannot address when partitioned."""
    whole = {v for group in groups if group <= chosen for v in group}
    # one operand may be in two sets
    broken = {v for group in groups if not group <= chosen for v in group}
    return {v for v in (*op.args, op.out) if v in chosen} - (whole - broken)
