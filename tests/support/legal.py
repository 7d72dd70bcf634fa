"""Helpers of the tests of the legalize stage: a graph, legalized, and the expected result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from backend_run import arrays_for, assert_close, graph_of, reference

from tersor.backend.lowering.legalize import legalize
from tersor.backend.target import resolve
from tersor.backend.tile.ops import ChannelGather
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Op, Value
from tersor.ir.ops import Conv2d, ConvTranspose2d
from tersor.ir.types import Tensor

RNG = np.random.default_rng(5)
BATCHES = (1, 3)


def const(*shape: int, dtype: str = "f") -> Const:
    return Const((RNG.standard_normal(shape) * 0.3).astype(dtype))


def conv(x: Op | Value, channels: int, k: int = 1) -> Op:
    """A convolution, whose result is a feature map."""
    x = x.out if isinstance(x, Op) else x
    return Conv2d(x, const(channels, x.shape[1], k, k), const(channels))


def legal(graph: Graph, target: str = "cpu:x86-64-v4") -> Graph:
    """The legalized graph, which verifies and has the same outputs in float64."""
    result = legalize(graph.clone(), resolve(target)).verify()
    inputs = arrays_for(graph)
    assert [v.type for v in result.outputs] == [v.type for v in graph.outputs]
    for got, wanted in zip(reference(result, inputs), reference(graph, inputs), strict=True):
        assert_close(got, wanted, 1e-6)
    return result


def names(graph: Graph) -> list[str]:
    return [op.name.partition(".")[2] for op in graph.ops if not isinstance(op, Const)]


def becomes(build: Callable[..., Any], expected: str, *inputs: tuple[int, ...] | Tensor, target: str = "cpu:x86-64-v4") -> Graph:
    """The ops that legalize leaves, at batch 1 and 3 (dimension 0 of every input), and their values."""
    for n in BATCHES:
        sized = [i if isinstance(i, Tensor) else (n, *i[1:]) for i in inputs]
        result = legal(graph_of(build, *sized), target)
        assert " ".join(names(result)) == expected
    return result


def stays(build: Callable[..., Any], *inputs: tuple[int, ...] | Tensor) -> None:
    """Check that legalize changes nothing."""
    graph = graph_of(build, *inputs)
    assert names(legal(graph)) == names(graph)


def transposed(x: Value, o: int, k: tuple[int, int], **attrs: Any) -> Op:
    groups = attrs.get("groups", 1)
    return ConvTranspose2d(x, const(x.shape[1], o // groups, *k), const(o), **attrs)


def gathers(graph: Graph) -> list[tuple[int, tuple[int, ...]]]:
    return [(len(op.xs), op.channels) for op in graph.ops if isinstance(op, ChannelGather)]
