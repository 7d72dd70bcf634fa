"""Sampling grids."""

from __future__ import annotations

import numpy as np

from ....ir.op import Value
from ....ir.ops import Matmul, Transpose
from ..node import Node
from ..registry import Ints, onnx_converter


@onnx_converter("AffineGrid")
def affine_grid(node: Node, theta: Value, size: Ints, *, align_corners: int = 0) -> Value:
    """grid[n, y, x] = theta[n] @ (x, y, 1), coordinates from -1 to 1 (1506.02025); in three dimensions (x, y, z, 1)."""
    space = tuple(size[2:])
    axes = [np.linspace(-1, 1, n) if align_corners else (np.arange(n) * 2 + 1) / n - 1 for n in space]
    # a single point lies in the middle of its axis
    axes = [np.zeros(1) if align_corners and n == 1 else a for a, n in zip(axes, space)]
    grid = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(space)], -1)
    points = node.const(grid.reshape(-1, len(space) + 1), str(theta.type.elem))
    moved = Matmul(points, Transpose(theta, (0, 2, 1)))
    return node.reshape(moved, (node.dims(theta)[0], *space, len(space)))
