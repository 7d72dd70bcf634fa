"""The bytes that the weights of a network take after each stage of Deep Compression (1510.00149)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Const
from ...ir.ops import Masked, Shared
from .freeze import freeze


@dataclass(frozen=True)
class Sizes:
    """Bytes of all constants. dense: as they are computed with. pruned: without zeros, plus a bit for each weight that says where they are.
    shared: weights as indices of equal length into the shared values. times: how many times smaller than dense."""

    dense: int
    pruned: int
    shared: int

    def times(self, nbytes: int) -> float:
        return self.dense / max(nbytes, 1)


def sizes(graph: Graph) -> Sizes:
    """The sizes of a graph whose weights may be masked, shared, or plain constants of few values."""
    plain = graph.clone()
    for op in plain.find(Masked):
        assert isinstance(op, Masked)
        plain.replace(op, op.rebuilt(sparsity=0.0))
    freeze(plain)
    few = {v.name for op in graph.find(Shared) for v in op.operands}
    dense = pruned = shared = 0
    for op in plain.find(Const):
        assert isinstance(op, Const)
        array = op.array
        there = int((array != 0).sum())
        left = min(array.nbytes, (array.size + 7) // 8 + there * array.itemsize)
        dense, pruned = dense + array.nbytes, pruned + left
        if op.out.name in few:
            values = len(np.unique(array[array != 0]))
            bits = max(1, math.ceil(math.log2(max(values, 2))))
            numbers = (array.size + 7) // 8 if there < array.size else 0
            left = min(left, numbers + (there * bits + 7) // 8 + values * array.itemsize)
        shared += left
    return Sizes(dense, pruned, shared)
