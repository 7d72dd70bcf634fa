"""From a torch module to native code and back: traced, printed and parsed, compiled, compared with the eager module in float64."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("TVM_NUM_THREADS", "2")

import torch
from torch import nn
from zoo import leaves, with_batch

import tersor
from tersor.backend.runtime.model import CompiledModel
from tersor.ir.equal import difference
from tersor.ir.graph import Graph
from tersor.ir.parse import parse_graph
from tersor.ir.text import format_with_weights

Inputs = tuple[torch.Tensor, ...]


def check(
    module: nn.Module,
    inputs: Inputs,
    *,
    batches: Sequence[int] = (1, 3),
    target: str = "cpu",
    threads: int = 1,
    limit: float = 1e-5,
    static: bool = False,
) -> CompiledModel:
    """Every output at every batch within `limit` of eager float64 (integers and bools equal), and every graph equal to its parsed text.

    static: the model is expected to warn that its batch is that of the example; it is compiled for that one.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        graph = tersor.trace(module, inputs)
    assert bool(said) == static == (not graph.batched), [str(w.message) for w in said]
    round_trip(graph)
    sizes = None if static else list(batches)
    exe = tersor.compile(
        graph, target=target, threads=threads, batch=sizes, observe=lambda stage, g: round_trip(g) if stage == "plan-memory" else None
    )
    exact = copy.deepcopy(module).double()
    for given in [inputs] if static else [with_batch(inputs, batch, seed=batch) for batch in batches]:
        compare(exe(*given), eager(exact, given), limit)
    return exe


def round_trip(graph: Graph) -> None:
    """The text of a graph parses back to an equal graph."""
    text, constants = format_with_weights(graph)
    assert difference(parse_graph(text, {name: c.array for name, c in constants.items()}), graph) is None


def eager(module: nn.Module, inputs: Inputs) -> Any:
    """The result of a float64 module."""
    with torch.no_grad():
        return module(*(x.double() if x.is_floating_point() else x for x in inputs))


def compare(got: Any, wanted: Any, limit: float) -> None:
    """Equal structure; max|y - y64| / max|y64| of each float tensor within the limit, all else equal."""
    assert shape_of(got) == shape_of(wanted)
    for y, y64 in zip(leaves(got), leaves(wanted), strict=True):
        if not y64.is_floating_point():
            assert torch.equal(y, y64)
            continue
        assert torch.isfinite(y).all()
        scale = float(y64.detach().abs().max()) or 1.0
        error = float((y.double() - y64.detach()).abs().max()) / scale
        assert error <= limit


def shape_of(result: Any) -> Any:
    """The structure of a result: keys, positions, and the shape and kind of its tensors."""
    if isinstance(result, torch.Tensor):
        return tuple(result.shape), "float" if result.is_floating_point() else str(result.dtype)
    if isinstance(result, dict):
        return {key: shape_of(part) for key, part in result.items()}
    return None if result is None else [shape_of(part) for part in result]
