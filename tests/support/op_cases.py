"""A graph of one operator, checked against torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tersor.ir import Const, Graph, Op, Tensor, VerifyError
from tersor.ir.evaluate import evaluate
from tersor.ir.ops import torch_dtype
from tersor.ir.types import elem_of

Operand = np.ndarray | list[np.ndarray] | None


def rand(*shape: int, seed: int = 0, low: float = -3.0, high: float = 3.0) -> np.ndarray:
    """float64 values that float32 holds exactly, so that both precisions see the same numbers."""
    return np.random.default_rng(seed + 31 * len(shape) + sum(shape)).uniform(low, high, shape).astype(np.float32).astype(np.float64)


def ints(*shape: int, low: int = -5, high: int = 6, dtype: str = "int32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def value_of(shape: Sequence[int], elem: Any = "f32") -> Any:
    """A graph input, for ops that are only inferred."""
    return Graph().add_input(Tensor(tuple(shape), elem), "x")


def constant(*values: Any, dtype: str = "int64") -> Any:
    return Const(np.array(values, dtype)).out


def graph_of(kind: type[Op], operands: Sequence[Operand], batch: int | None = None, **attrs: Any) -> Graph:
    """`kind` over inputs of these arrays' types (float64 as f32); `batch` replaces dimension 0 of the first operand and makes it the batch."""
    graph = Graph()

    def add(array: np.ndarray, name: str, batched: bool = False) -> Any:
        dtype = np.dtype(np.float32) if array.dtype == np.float64 else array.dtype
        shape = (batch, *array.shape[1:]) if batched and batch is not None else array.shape
        return graph.add_input(Tensor(shape, elem_of(dtype)), name, batched and batch is not None)

    values: list[Any] = []
    for i, a in enumerate(operands):
        if isinstance(a, list):
            values.append([add(x, f"x{i}_{j}", i == 0) for j, x in enumerate(a)])
        else:
            values.append(None if a is None else add(a, f"x{i}", i == 0))
    graph.set_outputs([graph.add(kind(*values, **attrs))])
    return graph


def check(
    kind: type[Op],
    operands: Sequence[Operand],
    oracle: Callable[..., torch.Tensor],
    *,
    batched: bool = True,
    gradients: bool = True,
    tolerance: float = 1e-12,
    gradient_tolerance: float = 1e-9,
    **attrs: Any,
) -> Op:
    """Value, gradients, dtype and inferred shape of `kind(*operands, **attrs)` against `oracle` in float64.

    `batched`: dimension 0 of the first operand is the batch (3 of them); the op is built at batch 1 and checked there and at 3.
    Returns the op as built.
    """
    first = operands[0][0] if isinstance(operands[0], list) else operands[0]
    assert first is not None and (not batched or first.shape[0] == 3)
    built = graph_of(kind, operands, 1 if batched else None, **attrs)
    for n in (1, 3) if batched else (None,):
        graph = built.at(n) if n is not None else built
        arrays = [[a[:n] for a in x] if isinstance(x, list) else x[:n] if x is not None else None for x in operands[:1]] + list(operands[1:])
        mine, theirs = _tensors(arrays, gradients), _tensors(arrays, gradients)
        expected = oracle(*theirs)
        (got,) = evaluate(graph, _flat(mine), dtype=torch.float64)
        type_ = graph.outputs[0].type
        assert type_.shape == tuple(got.shape) == tuple(expected.shape)
        assert got.dtype == expected.dtype == (torch.float64 if type_.is_float else torch_dtype(str(type_.elem)))
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
        leaves = [(a, b) for a, b in zip(_flat(mine), _flat(theirs)) if a.requires_grad]
        if gradients and expected.requires_grad:
            seed = torch.from_numpy(rand(*expected.shape, seed=7))
            ours = torch.autograd.grad(got, [a for a, _ in leaves], seed)
            for g, e in zip(ours, torch.autograd.grad(expected, [b for _, b in leaves], seed)):
                torch.testing.assert_close(g, e, rtol=gradient_tolerance, atol=gradient_tolerance)
        own = [x.detach().float() if x.is_floating_point() else x for x in _flat(mine)]
        (single,) = evaluate(graph, own)
        assert single.dtype == torch_dtype(str(type_.elem)) and tuple(single.shape) == type_.shape
        if type_.is_float:
            torch.testing.assert_close(single.double(), expected.detach(), rtol=1e-4, atol=1e-4, equal_nan=True)
    return built.ops[-1]


def refuses(message: str, kind: type[Op], *operands: Any, **attrs: Any) -> None:
    """Building the op must fail with `message` (a regular expression) after the op's name."""
    with pytest.raises(VerifyError, match=f"^{kind.name}: .*{message}"):
        kind(*operands, **attrs)


def _tensors(arrays: Sequence[Operand], gradients: bool) -> list[Any]:
    def one(a: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(a.copy()).requires_grad_(gradients and a.dtype == np.float64)

    return [[one(x) for x in a] if isinstance(a, list) else None if a is None else one(a) for a in arrays]


def _flat(tensors: Sequence[Any]) -> list[torch.Tensor]:
    return [t for x in tensors if x is not None for t in (x if isinstance(x, list) else [x])]
