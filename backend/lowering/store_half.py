"""store-half: keep feature maps and weights in memory as f16, for targets whose `elem` is f16. Kernels compute in f32 and round what they store.

What stays f32: inputs and outputs of the graph, which are in the caller's memory, and constants that are not weights (biases, scales, slopes).
Results that are not f32 keep their types.
"""

from __future__ import annotations

from ...ir.graph import Graph
from ...ir.op import Const, Value
from ..target import Target
from ..tile.fusion import Fusion, root
from ..tile.ops import Fused


def store_half(graph: Graph, target: Target) -> Graph:
    """Write `half` on every fusion, in place."""
    if target.elem != "f16":
        return graph
    outputs = {root(v) for v in graph.outputs}
    kernels = [op for op in graph.ops if isinstance(op, Fused)]
    stored = {op.out for op in kernels if op.out.type.elem == "f32" and op.out not in outputs}
    for op in kernels:
        numbers = [i for i, v in enumerate(op.args) if root(v) in stored or _weights(op, v, op.body.inputs[i])]
        op.half = (*numbers, *[-1] * (op.out in stored))
    return graph


def _weights(op: Fused, v: Value, inner: Value) -> bool:
    """Whether an argument holds the constant f32 weights of a convolution or matrix product."""
    anchor = Fusion(op).anchor
    return anchor.contraction and inner in anchor.operands and v.type.rank >= 2 and isinstance(v.op, Const) and v.type.elem == "f32"
