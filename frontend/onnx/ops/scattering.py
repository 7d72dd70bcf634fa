"""Gathers and scatters at indices of several coordinates, and max unpooling, by flat indices that are computed or constant."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....ir.op import Value
from ....ir.ops import Add, IndexSelect, Mul, Pad, Scatter, Slice
from ..node import Node
from ..registry import Ints, onnx_converter
from ..sizes import Dim
from .geometry import spread
from .indexing import positive

#: ONNX's reductions and the scatter's modes.
MODES = {"none": "set", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def _mode(node: Node, reduction: str) -> str:
    if reduction not in MODES:
        raise node.unsupported(f"reduction {reduction!r}; valid: {', '.join(MODES)}")
    return MODES[reduction]


def _shape(node: Node, x: Value) -> tuple[int, ...]:
    """Sizes that must not depend on the batch."""
    return tuple(node.static(x, axis) for axis in range(x.type.rank))


def _rows(node: Node, index: Value, sizes: Sequence[int]) -> Value:
    """Coordinates (..., k) as row-major flat indices (...)."""
    dims = node.dims(index)
    total: Value | None = None
    for i, size in enumerate(sizes):
        one = node.reshape(Slice(index, index.type.rank - 1, i, i + 1).out if len(sizes) > 1 else index, dims[:-1])
        step = math.prod(sizes[i + 1 :])
        place = positive(node, one, size)
        place = Mul(place, node.const(step, "i64")).out if step != 1 else place
        total = place if total is None else Add(total, place).out
    assert total is not None
    return total


@onnx_converter("GatherND")
def gather_nd(node: Node, x: Value, index: Value, *, batch_dims: int = 0) -> Value:
    """y[i, ...] = x[index[i, 0], index[i, 1], ..., ...]"""
    dims, depth = node.dims(index), index.shape[-1]
    shape = tuple(node.static(x, a) for a in range(batch_dims + depth))
    rest: tuple[Dim, ...] = node.dims(x)[batch_dims + depth :]
    rows = _rows(node, index, shape[batch_dims:])
    if batch_dims:
        lead = np.arange(math.prod(shape[:batch_dims])).reshape(*shape[:batch_dims], *[1] * (len(dims) - 1 - batch_dims))
        rows = Add(rows, node.const(lead * math.prod(shape[batch_dims:]), "i64")).out
    table = node.reshape(x, (math.prod(shape), *rest))
    picked = IndexSelect(table, node.reshape(rows, (math.prod(dims[:-1], start=1),)), 0)
    return node.reshape(picked, (*dims[:-1], *rest))


@onnx_converter("ScatterElements", "Scatter")
def scatter_elements(node: Node, x: Value, index: Value, updates: Value, *, axis: int = 0, reduction: str = "none") -> Value:
    """x with y[index[i, j], j] = updates[i, j] for axis 0"""
    shape, places = _shape(node, x), _shape(node, index)
    along = node.axis(axis, len(shape))
    strides = [math.prod(shape[a + 1 :]) for a in range(len(shape))]
    grid = np.indices(places)
    others = sum((grid[a] * strides[a] for a in range(len(shape)) if a != along), np.zeros(places, np.int64))
    flat = Add(Mul(positive(node, index, shape[along]), node.const(strides[along], "i64")), node.const(others, "i64"))
    count = math.prod(places)
    y = Scatter(node.reshape(x, (x.type.size,)), node.reshape(flat, (count,)), node.reshape(updates, (count,)), _mode(node, reduction))
    return node.reshape(y, shape)


@onnx_converter("ScatterND")
def scatter_nd(node: Node, x: Value, index: Value, updates: Value, *, reduction: str = "none") -> Value:
    """x with y[index[i, 0], ..., ...] = updates[i, ...]"""
    shape, depth = _shape(node, x), index.shape[-1]
    rows, rest = math.prod(shape[:depth]), shape[depth:]
    count = math.prod(_shape(node, index)[:-1])
    places = node.reshape(_rows(node, index, shape[:depth]), (count,))
    y = Scatter(node.reshape(x, (rows, *rest)), places, node.reshape(updates, (count, *rest)), _mode(node, reduction))
    return node.reshape(y, shape)


@onnx_converter("MaxUnpool")
def max_unpool(
    node: Node,
    x: Value,
    index: Value,
    output_shape: Ints | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Value:
    """Zeros with x at the flat places that a max pooling gave; a larger output_shape adds zeros at the end."""
    shape, space = _shape(node, x), len(kernel_shape)
    stride, sides = spread(node, strides, space, "strides"), tuple(pads or (0,) * 2 * space)
    if len(shape) != space + 2 or len(sides) != 2 * space:
        raise node.unsupported(
            f"kernel_shape {list(kernel_shape)} and pads {list(sides)} for x {list(shape)}; valid: a number for each dimension of space"
        )
    sizes = [(shape[2 + i] - 1) * stride[i] + kernel_shape[i] - sides[i] - sides[space + i] for i in range(space)]
    whole = (*shape[:2], *sizes)
    zeros = node.const(np.zeros(math.prod(whole)), str(x.type.elem))
    y = node.reshape(Scatter(zeros, node.reshape(node.cast(index, "i64"), (x.type.size,)), node.reshape(x, (x.type.size,))), whole)
    if output_shape is None or tuple(output_shape) == whole:
        return y
    if len(output_shape) != len(whole) or any(a < b for a, b in zip(output_shape, whole)):
        raise node.unsupported(f"output_shape {list(output_shape)}; valid: at least {list(whole)}")
    return Pad(y, tuple(p for a, b in zip(output_shape, whole) for p in (0, a - b))).out
