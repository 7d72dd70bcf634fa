"""Reductions over any axes, arg-reductions and running sums."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from backend_run import TARGETS, Compiled, arrays_for, check, graph_of

from tersor.ir.ops import Add, ArgMax, ArgMin, CumSum, Mean, Mul, Prod, ReduceMax, ReduceMin, Relu, Sum
from tersor.ir.types import Tensor

SHAPES = [(1,), (17,), (3, 1000), (1, 7, 1), (3, 17, 33), (3, 5, 7, 9), (2, 3, 1, 5, 7), (2, 3, 2, 3, 2, 5)]


def subsets(rank: int) -> list[tuple[int, ...]]:
    return [axes for n in range(1, rank + 1) for axes in itertools.combinations(range(rank), n)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_axes(shape: tuple[int, ...], target: str) -> None:
    """Every set of axes (up to a dozen of them), as outputs of one graph."""
    chosen = subsets(len(shape))
    chosen = chosen[:: max(1, len(chosen) // 12)]
    kinds = [Mean, Sum, ReduceMax, ReduceMin]
    graph = graph_of(lambda x: [kinds[i % 4](x, axes, bool(i % 3)) for i, axes in enumerate(chosen)], shape)
    check(graph, target=target, legal=False, tolerance=3e-7)


@pytest.mark.parametrize(
    "shape, axes",
    [((100_000,), (0,)), ((4, 300, 300), (1, 2)), ((3, 30_001), (1,)), ((700, 120), (0,)), ((2, 200, 170), (1,)), ((6, 70, 3, 90), (1, 3))],
    ids=str,
)
def test_two_threads(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    check(graph_of(lambda x: [Mean(x, axes), ReduceMax(x, axes)], shape), threads=2, legal=False, tolerance=3e-7)


def test_long_sums_stay_accurate() -> None:
    """A chain of f32 additions would be off by about 1e-5."""
    x = np.random.default_rng(0).uniform(1, 2, (2, 50_000)).astype(np.float32)
    for axes in ((1,), (0, 1)):
        (got,) = Compiled(graph_of(lambda v, axes=axes: Mean(v, axes), x.shape), legal=False)(x)
        np.testing.assert_allclose(got, x.astype(np.float64).mean(axes), rtol=7e-8)
    (got,) = Compiled(graph_of(lambda v: Sum(v, (0,)), (50_000, 2)), legal=False)(x.T.copy())
    np.testing.assert_allclose(got, x.astype(np.float64).sum(1), rtol=7e-8)


@pytest.mark.parametrize("elem", ["bool", "i8", "u8", "i32", "i64", "f16", "f64"])
def test_element_types(elem: str) -> None:
    def build(x: Any) -> list[Any]:
        outs: list[Any] = [Sum(x, (1,)), ReduceMax(x, (1,)), ReduceMin(x, (0,)), ReduceMax(x, (0, 2)), Sum(x, (0,))]
        return outs if elem == "bool" else [*outs, ArgMax(x, 1), ArgMin(x, 2)]

    compiled = check(graph_of(build, Tensor((3, 19, 7), elem)), legal=False, tolerance=1e-3 if elem == "f16" else 1e-15)
    assert compiled.graph.outputs[0].type.elem == (elem if elem.startswith("f") else "i64")


def test_products() -> None:
    x = np.random.default_rng(0).uniform(0.8, 1.25, (3, 70)).astype(np.float32)
    check(graph_of(lambda v: [Prod(v, (1,)), Prod(v, (0,)), Prod(v, (0, 1), True)], (3, 70)), inputs=[x], legal=False, tolerance=3e-7)
    whole = np.random.default_rng(0).integers(1, 4, (3, 30)).astype(np.int32)
    check(graph_of(lambda v: [Prod(v, (1,)), Prod(v, (0,))], Tensor((3, 30), "i32")), inputs=[whole], legal=False)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "shape, axis",
    [((1000,), 0), ((3, 7), 1), ((3, 100), 1), ((3, 100), 0), ((3, 17, 33), 1), ((2, 1, 5), 1), ((1, 21, 9, 9), 1), ((3, 4, 5, 6), 3)],
    ids=str,
)
def test_first_extreme_along_an_axis(shape: tuple[int, ...], axis: int, target: str) -> None:
    # few distinct values: most rows hold their extreme several times
    x = np.random.default_rng(1).integers(-3, 4, shape).astype(np.float32)
    for keepdim in (False, True):
        graph = graph_of(lambda v, keepdim=keepdim: [ArgMax(v, axis, keepdim), ArgMin(v, axis, keepdim)], shape)
        largest, smallest = Compiled(graph, target, legal=False)(x)
        wanted = [np.expand_dims(f(x, axis), axis) if keepdim else f(x, axis) for f in (np.argmax, np.argmin)]
        np.testing.assert_array_equal(largest, wanted[0])
        np.testing.assert_array_equal(smallest, wanted[1])


@pytest.mark.parametrize("axis", [0, 1])
def test_nan_is_the_extreme(axis: int) -> None:
    x = np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32)
    x[3, 17] = x[30, 17] = x[3, 44] = np.nan
    x[5, 9] = np.inf
    graph = graph_of(lambda v: [ReduceMax(v, (axis,)), ReduceMin(v, (axis,)), ArgMax(v, axis), ArgMin(v, axis)], x.shape)
    v = torch.from_numpy(x)
    for got, wanted in zip(Compiled(graph, legal=False)(x), (v.amax(axis), v.amin(axis), v.argmax(axis), v.argmin(axis))):
        np.testing.assert_array_equal(got, wanted.numpy())


@pytest.mark.parametrize("elem", ["f32", "f64", "i32", "bool"])
@pytest.mark.parametrize("shape, axis", [((17,), 0), ((3, 1000), 1), ((30, 100), 0), ((3, 20, 7), 1), ((1, 1), 0)], ids=str)
def test_running_sums(shape: tuple[int, ...], axis: int, elem: str) -> None:
    check(graph_of(lambda x: CumSum(x, axis), Tensor(shape, elem)), legal=False, tolerance=3e-7)


def test_running_sums_with_two_threads() -> None:
    check(graph_of(lambda x: [CumSum(x, 1), CumSum(x, 2)], (3, 200, 170)), threads=2, legal=False, tolerance=3e-7)


@pytest.mark.parametrize("shape, axes, extra", [
    ((8, 30, 70), (1,), (70,)),
    ((8, 30, 70), (2,), (30,)),
    ((8, 3, 30, 70), (1,), (70,)),
    ((8, 30, 70), (0, 1, 2), (1,)),
    ((8, 30), (1,), (8,)),
], ids=str)  # fmt: skip
def test_tails(shape: tuple[int, ...], axes: tuple[int, ...], extra: tuple[int, ...]) -> None:
    """One kernel, also where the lanes do not run along the axis of the epilogue's operand."""
    compiled = check(graph_of(lambda x, y: Relu(Mul(Add(Sum(x, axes), y), y)), shape, extra), legal=False, tolerance=1e-6)
    assert compiled.templates == (["reduce"] if extra != (1,) else ["reduce", "elementwise"])


def test_no_reduced_axis() -> None:
    graph = graph_of(lambda x: [Sum(x, ()), ReduceMax(x, ()), Sum(x, (1,))], Tensor((3, 1, 5), "i32"))
    check(graph, inputs=arrays_for(graph), legal=False)
