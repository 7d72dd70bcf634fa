"""Helpers of the frontend's tests: a module from a function, and the comparison of a graph with the eager module in float64."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import zoo
from torch import nn

from tersor.frontend import trace
from tersor.ir.evaluate import evaluate
from tersor.ir.graph import Graph

TOLERANCE = 1e-6


class Calls(nn.Module):
    """A module that calls a function."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.function = function

    def forward(self, *args: torch.Tensor) -> Any:
        return self.function(*args)


def error(y: torch.Tensor, oracle: torch.Tensor) -> float:
    """max|y - oracle| / max|oracle|; places that are inf or nan in the oracle must be the same in y."""
    assert y.shape == oracle.shape, f"{tuple(y.shape)} is not {tuple(oracle.shape)}"
    y, oracle = y.double(), oracle.double()
    finite = oracle.isfinite()
    assert torch.equal(y[~finite].nan_to_num(), oracle[~finite].nan_to_num()), "inf or nan differ"
    if not finite.any():
        return 0.0
    return float((y[finite] - oracle[finite]).abs().max() / oracle[finite].abs().max().clamp_min(1e-30))


def agrees(module: nn.Module | Callable[..., Any], inputs: Sequence[torch.Tensor], batches: Sequence[int] = (1, 3), static: bool = False) -> Graph:
    """Trace without a warning (unless the batch is expected to be static) and compare with the eager module in float64; returns the graph."""
    if not isinstance(module, nn.Module):
        module = Calls(module)
    module = module.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if static else "error")
        graph = trace(module, tuple(inputs))
    assert bool(graph.batched) != static, f"batched inputs: {graph.batched}"
    compare(graph, module, inputs, inputs[0].shape[:1] if static else batches)
    return graph


def compare(graph: Graph, module: nn.Module, inputs: Sequence[torch.Tensor], batches: Sequence[int]) -> None:
    """Every output of the graph equals the eager module's in float64, at every batch; 0-d and unbatched inputs are the same at each."""
    oracle = copy.deepcopy(module).double()
    for batch in batches:
        fresh = zoo.with_batch(tuple(inputs), batch, seed=batch)
        xs = [f if v.name in graph.batched else x for f, x, v in zip(fresh, inputs, graph.inputs)]
        xs = [x.double() if x.is_floating_point() else x for x in xs]
        version = graph.at(batch) if graph.batched else graph
        with torch.no_grad():
            expected = zoo.leaves(oracle(*[x.clone() for x in xs]))
            got = evaluate(version, xs, dtype=torch.float64)
        assert len(got) == len(expected)
        for value, y, e in zip(version.outputs, got, expected):
            assert tuple(y.shape) == value.shape, "a result must have the inferred shape"
            assert error(y, e) <= TOLERANCE
