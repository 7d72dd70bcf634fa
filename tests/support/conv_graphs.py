"""Graphs of one convolution."""

from __future__ import annotations

import numpy as np

from tersor.ir.graph import Graph
from tersor.ir.op import Const
from tersor.ir.ops import Add, Conv2d, Relu
from tersor.ir.types import Tensor


def conv_graph(
    n: int, c: int, o: int, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), padding: tuple[int, ...] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1), groups: int = 1, bias: bool = True, residual: bool = False,
) -> Graph:  # fmt: skip
    rng = np.random.default_rng(0)
    graph = Graph()
    x = graph.add_input(Tensor((n, c, *size)), "x", True)
    w = rng.standard_normal((o, c // groups, *kernel)).astype(np.float32)
    b = Const(rng.standard_normal(o).astype(np.float32)) if bias else None
    y = graph.add(Conv2d(x, Const(w), b, stride=stride, padding=padding, dilation=dilation, groups=groups))  # type: ignore[arg-type]
    if residual:
        y = graph.add(Add(y, graph.add_input(y.type, "z", True)))
    graph.set_outputs([graph.add(Relu(y))])
    return graph
