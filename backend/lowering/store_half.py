"""store-half: keep feature maps and weights in memory as f16 or bf16, for targets with this `elem`. Kernels compute in f32 and round what they store.

What stays f32: inputs and outputs of the graph, which are in the caller's memory, and constants that are not weights (biases, scales, slopes).
Results that are not f32 keep their types. For tf32 all stay f32 in memory, and tensor cores round what they multiply.
"""

from __future__ import annotations

from typing import Any

from ...ir.graph import Graph
from ...ir.op import Const, Value
from ...ir.ops import Conv2d, Linear, Matmul
from ..target import Target
from ..tile.fusion import Fusion, root
from ..tile.ops import Fused


def store_half(graph: Graph, target: Target) -> Graph:
    """Write `half` on every fusion, in place."""
    if target.elem == "f32":
        return graph
    if target.elem == "tf32":
        return _rounding(graph)
    outputs = {root(v) for v in graph.outputs}
    kernels = [op for op in graph.ops if isinstance(op, Fused)]
    stored = {op.out for op in kernels if op.out.type.elem == "f32" and op.out not in outputs}
    for op in kernels:
        numbers = [i for i, v in enumerate(op.args) if root(v) in stored or _weights(op, v, op.body.inputs[i])]
        op.half, op.half_elem = (*numbers, *[-1] * (op.out in stored)), target.elem
    return graph


def _rounding(graph: Graph) -> Graph:
    """Mark the operands that tensor cores round: of convolutions and dense layers with constant weights, and of matrix products, in f32."""
    for op in graph.ops:
        if isinstance(op, Fused):
            anchor: Any = Fusion(op).anchor
            weights = [i for i, v in enumerate(op.args) if _weights(op, v, op.body.inputs[i])]
            if isinstance(anchor, Matmul) and anchor.out.type.elem == "f32":
                op.half, op.half_elem = tuple(op.body.inputs.index(v) for v in anchor.operands), "tf32"
            elif weights and isinstance(anchor, (Conv2d, Linear)) and anchor.x in op.body.inputs:
                op.half, op.half_elem = (op.body.inputs.index(anchor.x), *weights), "tf32"
    return graph


def _weights(op: Fused, v: Value, inner: Value) -> bool:
    """Whether an argument holds the constant f32 weights of a convolution or matrix product."""
    anchor = Fusion(op).anchor
    return anchor.contraction and inner in anchor.operands and v.type.rank >= 2 and isinstance(v.op, Const) and v.type.elem == "f32"
