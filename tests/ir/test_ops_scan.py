"""Scans, sorting, gathers and scatters against torch, numpy and plain loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from op_cases import check, constant, ints, rand, refuses, value_of

from tersor.ir import Graph, Tensor, TersorError
from tersor.ir import ops as o

SCANS: list[tuple[Any, Callable[[torch.Tensor, int], torch.Tensor]]] = [
    (o.CumSum, torch.cumsum),
    (o.CumProd, torch.cumprod),
    (o.CumMax, lambda x, axis: torch.cummax(x, axis).values),
    (o.CumMin, lambda x, axis: torch.cummin(x, axis).values),
    (o.LogCumSumExp, torch.logcumsumexp),
]


@pytest.mark.parametrize(("kind", "oracle"), SCANS, ids=lambda p: getattr(p, "name", None))
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scans(kind: Any, oracle: Any, axis: int) -> None:
    check(kind, [rand(3, 4, 5)], lambda x: oracle(x, axis), axis=axis)


def test_scans_of_integers_and_bools_add_up_in_i64() -> None:
    x = ints(3, 9, dtype="int8", low=-100, high=100)
    for kind, oracle in SCANS[:2]:
        assert check(kind, [x], lambda v, oracle=oracle: oracle(v, 1), axis=1).out.type.elem == "i64"
    check(o.CumSum, [ints(3, 9, dtype="bool", low=0, high=2)], lambda v: v.cumsum(1), axis=1)
    check(o.CumMax, [x], lambda v: v.cummax(1).values, axis=1)
    refuses("x must hold f16 or", o.LogCumSumExp, value_of((3,), "i64"), 0)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_arg_sort_keeps_the_order_of_equals(axis: int, descending: bool) -> None:
    """Against Python's sort, which is stable; few values, many of them equal."""
    x = ints(3, 7, 5, low=-2, high=3).astype(np.float64)
    x[1, 2, 3] = np.nan
    lines = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])

    def key(line: np.ndarray, i: int) -> tuple[bool, float]:
        number = 0.0 if np.isnan(line[i]) else float(line[i])
        return (bool(np.isnan(line[i])) != descending, -number if descending else number)

    wanted = [sorted(range(len(line)), key=lambda i, line=line: key(line, i)) for line in lines]
    places = np.moveaxis(np.array(wanted).reshape(np.moveaxis(x, axis, -1).shape), -1, axis)
    check(o.ArgSort, [x], lambda v: torch.from_numpy(places)[: len(v)], axis=axis, descending=descending, gradients=False, batched=axis > 0)


def test_gather() -> None:
    x, index = rand(3, 4, 5), ints(3, 6, 2, low=0, high=4, dtype="int64")
    wanted = np.empty(index.shape)
    for i, j, k in np.ndindex(index.shape):
        wanted[i, j, k] = x[i, index[i, j, k], k]
    check(o.Gather, [x, index], lambda v, i: torch.gather(v, 1, i), batched=False, axis=1)
    graph = Graph()
    graph.set_outputs([graph.add(o.Gather(graph.add_input(Tensor(x.shape, "f64"), "x"), graph.add_input(Tensor(index.shape, "i64"), "i"), 1))])
    np.testing.assert_array_equal(graph(x, index), wanted)


def scattered(x: np.ndarray, index: np.ndarray, updates: np.ndarray, mode: str) -> np.ndarray:
    y = x.copy()
    for place, row in zip(index, updates):
        joined = {"set": lambda a, b: b, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[mode]
        y[place] = joined(y[place], row)
    return y


@pytest.mark.parametrize("mode", ["set", "add", "mul", "max", "min"])
@pytest.mark.parametrize("rest", [(), (4,), (2, 3)])
def test_scatter_in_order(mode: str, rest: tuple[int, ...]) -> None:
    """Places repeat; the last of those that set counts."""
    x, index, updates = rand(6, *rest), np.array([5, 0, 5, 2, 0, 5, 1]), rand(7, *rest, seed=1)
    wanted = scattered(x, index, updates, mode)
    check(o.Scatter, [x, index, updates], lambda *xs: torch.from_numpy(wanted), batched=False, gradients=False, mode=mode)


def test_what_gather_and_scatter_refuse() -> None:
    x, i = value_of((4, 3)), value_of((4, 3), "i64")
    refuses(r"axis must be from 0 to 1, got 2", o.Gather, x, i, 2)
    refuses(r"index must hold i64", o.Gather, x, x, 1)
    refuses(r"index must be at most \[4, 3\] but for axis 1, got shape \[5, 3\]", o.Gather, x, value_of((5, 3), "i64"), 1)
    refuses(r"index must lie within 0 to 2, got 0 to 3", o.Gather, value_of((3,)), constant(0, 3), 0)
    refuses(r"mode must be one of set, add, mul, max, min, got 'mean'", o.Scatter, x, value_of((2,), "i64"), value_of((2, 3)), "mean")
    refuses(r"updates must have shape \[2, 3\], got \[3, 3\]", o.Scatter, x, value_of((2,), "i64"), value_of((3, 3)))
    refuses(r"index must lie within 0 to 3, got -1 to 2", o.Scatter, x, constant(-1, 2), value_of((2, 3)))


def test_an_index_out_of_range_is_an_error() -> None:
    graph = Graph()
    x, i, u = graph.add_input(Tensor((4,)), "x"), graph.add_input(Tensor((2,), "i64"), "i"), graph.add_input(Tensor((2,)), "u")
    graph.set_outputs([graph.add(o.Gather(x, i, 0)), graph.add(o.Scatter(x, i, u))])
    graph(np.zeros(4, np.float32), np.array([3, 0]), np.ones(2, np.float32))
    for wrong in (4, -1):
        with pytest.raises(TersorError, match=f"input 'i' holds {wrong}, expected 0 to 3, for nn.gather"):
            graph(np.zeros(4, np.float32), np.array([0, wrong]), np.ones(2, np.float32))
