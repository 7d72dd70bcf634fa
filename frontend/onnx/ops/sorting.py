"""Sorting, and gathers of elements at computed indices."""

from __future__ import annotations

from ....ir.op import Value
from ....ir.ops import ArgSort, Gather, Slice
from ..node import Node
from ..registry import Ints, onnx_converter
from .indexing import positive


@onnx_converter("TopK")
def top_k(node: Node, x: Value, k: Ints, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> list[Value]:
    """The first k in order; of equals the first comes first."""
    along = node.axis(axis, x.type.rank)
    size = node.static(x, along)
    if not 1 <= k[0] <= size:
        raise node.unsupported(f"{k[0]} of {size} elements; valid: 1 to {size}")
    places = ArgSort(x, along, bool(largest)).out
    if k[0] < size:
        places = Slice(places, along, 0, k[0]).out
    return [Gather(x, places, along).out, places]


@onnx_converter("GatherElements")
def gather_elements(node: Node, x: Value, index: Value, *, axis: int = 0) -> Value:
    """y[i, j] = x[index[i, j], j] for axis 0"""
    along = node.axis(axis, x.type.rank)
    return Gather(x, positive(node, index, node.static(x, along)), along).out
