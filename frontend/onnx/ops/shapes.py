"""Operators that give a tensor another shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import Concat, PixelShuffle, Transpose
from ....ir.types import elem_of
from ..node import Node
from ..registry import Ints, onnx_converter
from ..sizes import Dim, Size, same


def product(dims: Sequence[Dim]) -> Dim:
    """Number of elements, as a function of the batch."""
    return math.prod(dims, start=1)


@onnx_converter("Reshape")
def reshape(node: Node, x: Value, shape: Ints, *, allowzero: int = 0) -> Value:
    """0 keeps a dimension, -1 is inferred from the others."""
    dims = node.dims(x)
    given: list[Dim] = [dims[i] if not isinstance(n, Size) and n == 0 and not allowzero else n for i, n in enumerate(shape)]
    if any(not isinstance(n, Size) and n == 0 for n in given):
        raise node.unsupported("an empty tensor; every dimension must be at least 1")
    left = [i for i, n in enumerate(given) if not isinstance(n, Size) and n == -1]
    if left:
        others = [n for i, n in enumerate(given) if i != left[0]]
        given[left[0]] = product(dims) // product(others)
    return node.reshape(x, given)


@onnx_converter("Flatten")
def flatten(node: Node, x: Value, *, axis: int = 1) -> Value:
    dims = node.dims(x)
    first = axis + len(dims) if axis < 0 else axis
    return node.reshape(x, (product(dims[:first]), product(dims[first:])))


@onnx_converter("Squeeze")
def squeeze(node: Node, x: Value, axes: Ints | None = None) -> Value:
    dims = node.dims(x)
    if axes is None:
        gone = {i for i, n in enumerate(dims) if same(n, 1)}
    else:
        gone = set(node.axes(axes, len(dims)))
        if any(isinstance(dims[a], Size) for a in gone):
            raise node.needs_static("removes the batch dimension")
    return node.reshape(x, [n for i, n in enumerate(dims) if i not in gone])


@onnx_converter("Unsqueeze")
def unsqueeze(node: Node, x: Value, axes: Ints) -> Value:
    rank = x.type.rank + len(axes)
    new, dims = set(node.axes(axes, rank)), list(node.dims(x))
    return node.reshape(x, [1 if i in new else dims.pop(0) for i in range(rank)])


@onnx_converter("Transpose")
def transpose(node: Node, x: Value, *, perm: Sequence[int] | None = None) -> Value:
    order = tuple(range(x.type.rank))[::-1] if perm is None else tuple(perm)
    return x if order == tuple(range(x.type.rank)) else Transpose(x, order).out


@onnx_converter("Concat")
def concat(node: Node, *xs: Value, axis: int) -> Value:
    """Empty tensors add nothing."""
    values = [x for x in xs if x.type.size]
    if not values:
        return xs[0]
    return values[0] if len(values) == 1 else Concat(values, node.axis(axis, values[0].type.rank)).out


@onnx_converter("Expand")
def expand(node: Node, x: Value, shape: Ints) -> Value:
    """Broadcast x and the shape to each other."""
    dims = node.dims(x)
    rank = max(len(dims), len(shape))
    mine, wanted = (1,) * (rank - len(dims)) + dims, (1,) * (rank - len(shape)) + shape
    return node.expand(x, [a if same(b, 1) else b for a, b in zip(mine, wanted)])


@onnx_converter("Tile")
def tile(node: Node, x: Value, repeats: Ints) -> Value:
    """A dimension of size 1 is expanded, others are concatenated copies."""
    dims = node.dims(x)
    target = list(dims)
    for axis, (n, count) in enumerate(zip(dims, repeats)):
        if same(n, 1):
            target[axis] = count
        elif isinstance(count, Size):
            raise node.needs_static("repeats as often as the batch")
        elif count < 1:
            raise node.unsupported("an empty tensor; repeats must be at least 1")
        elif count > 1:
            x = Concat([x] * count, axis).out
            target[axis] = n * count
    return node.expand(x, target)


@onnx_converter("ConstantOfShape")
def constant_of_shape(node: Node, shape: Ints, *, value: np.ndarray | None = None) -> Value:
    """For a shape that holds the batch; all others are folded at load time."""
    filled = np.zeros(1, np.float32) if value is None else value
    return node.expand(node.const(filled.reshape(()), elem_of(filled.dtype)), shape)


@onnx_converter("DepthToSpace")
def depth_to_space(node: Node, x: Value, *, blocksize: int, mode: str = "DCR") -> Op | Value:
    """Blocks from channels: the block is the last axis of the channels (CRD, torch's pixel shuffle) or the first (DCR)."""
    if mode == "CRD":
        return PixelShuffle(x, blocksize)
    n, c, h, w = node.dims(x)
    parts = node.reshape(x, (n, blocksize, blocksize, c // blocksize**2, h, w))
    return node.reshape(Transpose(parts, (0, 3, 4, 1, 5, 2)), (n, c // blocksize**2, h * blocksize, w * blocksize))


@onnx_converter("SpaceToDepth")
def space_to_depth(node: Node, x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    n, c, h, w = node.dims(x)
    parts = node.reshape(x, (n, c, h // blocksize, blocksize, w // blocksize, blocksize))
    perm = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return node.reshape(Transpose(parts, perm), (n, c * blocksize**2, h // blocksize, w // blocksize))
