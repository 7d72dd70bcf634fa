"""The memory plan, executed on paper: every byte that a kernel reads must have been written last by the kernel it expects."""

from __future__ import annotations

import random

import numpy as np
import pytest
from backend_run import check, graph_of, lowered
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import execute
from zoo import traced

from tersor.backend.kernels.template import template_named
from tersor.backend.lowering.plan_memory import ALIGN, SLACK
from tersor.backend.target import resolve
from tersor.backend.tile.fusion import Fusion
from tersor.backend.tile.ops import Fused
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Value
from tersor.ir.ops import Add, Concat, Conv2d, Mul, Relu, Reshape, Transpose
from tersor.ir.types import Tensor


def random_graph(seed: int) -> Graph:
    """Maps that are convolved, added, joined, reshaped and transposed, each read by any later op."""
    rng = random.Random(seed)
    graph = Graph()
    maps = [graph.add_input(t, f"x{i}") for i, t in enumerate([graph_type(), graph_type()])]
    for _ in range(rng.randint(3, 14)):
        a, b = rng.choice(maps), rng.choice(maps)
        kind = rng.randrange(5)
        if kind == 0:
            new: Value = graph.add(Conv2d(a, Const(np.full((8, 8, 1, 1), 0.1, np.float32))))
        elif kind == 1:
            new = graph.add(Add(a, b))
        elif kind == 2:
            half = graph.add(Conv2d(a, Const(np.full((4, 8, 3, 3), 0.01, np.float32)), padding=(1, 1, 1, 1)))
            new = graph.add(Concat([half, graph.add(Relu(half))], axis=1))
        elif kind == 3:
            flat = graph.add(Reshape(a, (1, 8, 24)))
            new = graph.add(Reshape(graph.add(Mul(flat, flat)), (1, 8, 4, 6)))
        else:
            new = graph.add(Transpose(graph.add(Transpose(a, (0, 1, 3, 2))), (0, 1, 3, 2)))
        maps.append(new)
    graph.set_outputs([maps[-1], graph.add(Relu(rng.choice(maps)))])
    return graph


def graph_type() -> Tensor:
    return Tensor((1, 8, 4, 6))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_nothing_is_read_after_it_was_overwritten(seed: int) -> None:
    execute(lowered(random_graph(seed)))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2", "squeezenet1_1", "shufflenetv2", "densenet121", "unet", "inception_v3"])
@pytest.mark.parametrize("threads", [1, 2])
def test_networks(name: str, threads: int) -> None:
    graph, target = lowered(traced(name), threads=threads), resolve("cpu")
    fusions = [op for op in graph.ops if isinstance(op, Fused)]
    results = sum(op.out.type.nbytes for op in fusions if op.offset >= 0)
    scratch = sum(template_named(op.template, Fusion(op).anchor).scratch(Fusion(op), target, op.params, threads) for op in fusions)
    assert execute(graph, threads) < results + scratch * (threads > 1), "dead buffers are used again"


def test_a_chain_needs_two_buffers() -> None:
    weights = [Const(np.full((16, 16, 1, 1), 0.1, np.float32)) for _ in range(6)]

    def chain(x: Value) -> Value:
        for w in weights:
            x = Conv2d(x, w).out
        return x

    graph = lowered(graph_of(chain, (1, 16, 32, 32)))
    assert execute(graph) <= 2 * (16 * 32 * 32 * 4 + SLACK) + ALIGN


@pytest.mark.parametrize("seed", range(4))
def test_planned_graphs_run(seed: int) -> None:
    check(random_graph(seed))
