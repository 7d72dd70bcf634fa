"""Small graphs for the tests of passes, and comparisons against eager torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tersor.ir import Const, Graph, Op, Tensor, Value
from tersor.ir.evaluate import evaluate, to_numpy, to_torch
from tersor.ir.rewrite import Rewrite, Trace, greedy

# the machine is shared: threads that wait for each other cost more time than they save
torch.set_num_threads(1)

#: Values on which identities go wrong: signed zeros, infinities, nan, subnormals, ties, large numbers.
AWKWARD = [-0.0, 0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 6.0, 7.0, -7.0, 1e-42, -1e-42, 3e38, -3e38, np.inf, -np.inf, np.nan]


def c(*values: float, dtype: str = "float32", shape: Sequence[int] | None = None) -> Value:
    """A constant; one value alone is 0-d."""
    array = np.array(values if len(values) != 1 or shape is not None else values[0], dtype)
    return Const(array if shape is None else np.broadcast_to(array, shape).copy()).out


def graph_of(build: Callable[..., Op | Value | list[Any]], *types: Tensor | Sequence[int], batched: bool = True) -> Graph:
    """The graph of `build(*inputs)`; inputs are f32 of the given shapes, or of the given types, dimension 0 the batch."""
    graph = Graph()
    inputs = [graph.add_input(t if isinstance(t, Tensor) else Tensor(tuple(t)), f"x{i}" if i else "x", batched) for i, t in enumerate(types)]
    results = build(*inputs)
    values = [graph.add(r) if isinstance(r, Op) else r for r in (results if isinstance(results, list) else [results])]
    for v in values:
        if v.op is not None and v.op.graph is None:
            graph.add(v.op)
    graph.set_outputs(values)
    return graph.verify()


def awkward(type: Tensor, seed: int = 0) -> torch.Tensor:
    """Numbers of the type, awkward ones first."""
    rng = np.random.default_rng(seed)
    if type.elem == "bool":
        return to_torch(rng.integers(0, 2, type.shape).astype(bool))
    if not type.is_float:
        return to_torch(rng.integers(0, 100, type.shape).astype(type.dtype))
    values = np.concatenate([AWKWARD, rng.standard_normal(max(0, type.size - len(AWKWARD))) * 4])[: type.size]
    with np.errstate(over="ignore"):
        return to_torch(rng.permutation(values).reshape(type.shape).astype(type.dtype))


def run(graph: Graph, inputs: Sequence[torch.Tensor], dtype: torch.dtype | None = None) -> list[np.ndarray]:
    with torch.no_grad():
        return [to_numpy(y) for y in evaluate(graph, inputs, dtype=dtype)]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal dtype, shape and bits; nan equals nan."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    bits = a.view(f"u{a.itemsize}") == b.view(f"u{b.itemsize}")
    return bool((bits | (np.isnan(a) & np.isnan(b)) if a.dtype.kind == "f" else bits).all())


def error64(eager: Callable[..., torch.Tensor], graph: Graph, inputs: Sequence[torch.Tensor]) -> float:
    """max|y - y'| / max|y| of the graph against eager torch, both in float64."""
    y = eager(*(x.double() if x.is_floating_point() else x for x in inputs)).detach().numpy()
    (got,) = run(graph, inputs, torch.float64)
    assert y.shape == got.shape
    return float(np.abs(y - got).max() / np.abs(y).max())


def names(graph: Graph) -> list[str]:
    """Op names without constants and without the dialect."""
    return [op.name.removeprefix("nn.") for op in graph if not isinstance(op, Const)]


def body(graph: Graph) -> str:
    """The lines of the ops in the printed graph."""
    return "\n".join(line for line in str(graph).splitlines() if line.startswith("  "))


@dataclass(frozen=True)
class Identity:
    """A pattern, a graph it applies to, the same computation in eager torch, and the ops that must be left."""

    pattern: Rewrite
    build: Callable[..., Any]
    eager: Callable[..., Any]
    left: list[str]
    types: Sequence[Tensor | Sequence[int]] = field(default=((2, 3, 4, 5),))
    exact: bool = True


def check_identity(case: Identity) -> str:
    """Apply the pattern alone; compare bits with eager torch and with the graph before; returns the before/after text."""
    graph = graph_of(case.build, *case.types)
    after = graph.clone()
    counts = greedy(after, case.pattern)
    after.verify()
    assert counts[case.pattern.name] >= 1
    assert names(after) == case.left
    for seed in (0, 1):
        inputs = [awkward(v.type, seed) for v in graph.inputs]
        (before_y,), (after_y,) = run(graph, inputs), run(after, inputs)
        eager_y = to_numpy(case.eager(*inputs))
        if case.exact:
            assert same_bits(before_y, after_y)
            # x + 0 has no -0.0: torch's own relu and maximum differ in the sign of relu(-0.0)
            assert same_bits(eager_y + 0, after_y + 0) if any(op in case.left for op in ("relu", "clip")) else same_bits(eager_y, after_y)
        else:
            finite = np.isfinite(eager_y) & (np.abs(eager_y) > 1e-30) & (np.abs(eager_y) < 1e30)
            assert finite.any()
            np.testing.assert_allclose(after_y[finite], eager_y[finite], rtol=1e-6)
    return f"// {case.pattern.name}: {case.pattern.equation}\n{body(graph)}\n// ->\n{body(after)}\n"


def refusal(pattern: Rewrite, build: Callable[..., Any], *types: Tensor | Sequence[int]) -> str:
    """Check that the graph does not change; returns the refusal's reason, empty where the pattern did not match."""
    graph = graph_of(build, *(types or ((2, 3, 4, 5),)))
    text = str(graph)
    why = Trace()
    assert not greedy(graph, pattern, why=why)
    assert str(graph) == text
    return "; ".join(reason for _, _, reason in why.refused)
