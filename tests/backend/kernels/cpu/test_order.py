"""Scans, sorts, gathers and scatters as kernels: axes, types, lengths about the vector's, ties, NaN, and indexes out of range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from backend_run import TARGETS, Compiled, check, graph_of
from sampling import some

import tersor
from tersor.ir.ops import ArgSort, CumMax, CumMin, CumProd, CumSum, Gather, LogCumSumExp, Scatter
from tersor.ir.types import Tensor

SHAPES = [((17,), 0), ((3, 1000), 1), ((30, 100), 0), ((3, 20, 7), 1), ((1, 1), 0)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("shape", "axis"), some(SHAPES, 2))
def test_scans(shape: tuple[int, ...], axis: int, target: str) -> None:
    x = np.random.default_rng(0).uniform(0.9, 1.1, shape).astype(np.float32)
    kinds: list[Any] = [CumSum, CumProd, CumMax, CumMin, LogCumSumExp]
    check(graph_of(lambda v: [kind(v, axis) for kind in kinds], shape), target=target, inputs=[x], legal=False, tolerance=1e-6)


@pytest.mark.parametrize("elem", ["f64", "i8", "i32", "u8"])
def test_scans_of_other_types(elem: str) -> None:
    kinds: list[Any] = [CumSum, CumProd, CumMax, CumMin, *([LogCumSumExp] if elem == "f64" else [])]
    x = np.random.default_rng(0).integers(0, 3, (3, 20, 7)).astype(Tensor((), elem).dtype)
    check(graph_of(lambda v: [kind(v, 1) for kind in kinds], Tensor(x.shape, elem)), inputs=[x], legal=False, tolerance=1e-12)


def test_scans_at_special_values() -> None:
    nan, inf = np.nan, np.inf
    rows = [[1, 2, nan, 3], [-inf, -inf, 1, inf], [inf, 1, -inf, 2], [-inf, 1e30, -1e30, 1e38], [88, 89, 90, 1000], [0.0, -0.0, -1, nan]]
    x = torch.tensor(rows)
    graph = graph_of(lambda v: [CumMax(v, 1), CumMin(v, 1), LogCumSumExp(v, 1)], (6, 4))
    wanted = [x.cummax(1).values, x.cummin(1).values, x.logcumsumexp(1)]
    for got in (Compiled(graph, legal=False)(x.numpy()), graph(x.numpy())):
        for g, w in zip(got, wanted):
            np.testing.assert_allclose(g, w.numpy(), rtol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("shape", "axis"), [((1,), 0), ((2,), 0), ((1000,), 0), ((3, 7), 1), ((5, 33), 0), ((3, 64, 5), 1)], ids=str)
def test_sorts(shape: tuple[int, ...], axis: int, threads: int) -> None:
    """Few values, so that most lines hold equals, and NaN among them."""
    x = np.random.default_rng(1).integers(-3, 4, shape).astype(np.float32)
    x.flat[:: max(2, x.size // 3)] = np.nan
    graph = graph_of(lambda v: [ArgSort(v, axis), ArgSort(v, axis, True)], shape)
    for got, descending in zip(Compiled(graph, threads=threads, legal=False)(x), (False, True)):
        np.testing.assert_array_equal(got, torch.from_numpy(x).sort(dim=axis, descending=descending, stable=True).indices.numpy())


@pytest.mark.parametrize("elem", ["i8", "u8", "i64", "f64"])
def test_sorts_of_other_types(elem: str) -> None:
    limits = np.iinfo(Tensor((), elem).dtype) if elem != "f64" else np.iinfo(np.int8)
    x = np.random.default_rng(1).integers(limits.min, limits.max, (4, 37), endpoint=True, dtype=limits.dtype).astype(Tensor((), elem).dtype)
    got = Compiled(graph_of(lambda v: [ArgSort(v, 1), ArgSort(v, 1, True)], Tensor(x.shape, elem)), legal=False)(x)
    np.testing.assert_array_equal(got[0], np.argsort(x, 1, kind="stable"))
    np.testing.assert_array_equal(got[1], torch.from_numpy(x).sort(dim=1, descending=True, stable=True).indices.numpy())


@pytest.mark.parametrize(
    ("shape", "places", "axis"), [((9,), (20,), 0), ((4, 5), (4, 7), 1), ((6, 3, 5), (8, 2, 5), 0), ((3, 4, 2), (3, 9, 2), 1)], ids=str
)
def test_gathers(shape: tuple[int, ...], places: tuple[int, ...], axis: int) -> None:
    rng = np.random.default_rng(0)
    graph = graph_of(lambda x, i: Gather(x, i, axis), shape, Tensor(places, "i64"))
    check(graph, inputs=[rng.standard_normal(shape).astype(np.float32), rng.integers(0, shape[axis], places)], legal=False)


@pytest.mark.parametrize("mode", ["set", "add", "mul", "max", "min"])
@pytest.mark.parametrize("elem", ["f32", "f64", "i32", "u8"])
def test_scatters_in_order(elem: str, mode: str) -> None:
    """Rows shorter and longer than a vector; places repeat."""
    rng = np.random.default_rng(0)

    def build(*xs: Any) -> list[Any]:
        return [Scatter(x, i, u, mode) for x, i, u in (xs[:3], xs[3:])]

    types = [Tensor(s, e) for s, e in (((7,), elem), ((40,), "i64"), ((40,), elem), ((5, 3, 11), elem), ((9,), "i64"), ((9, 3, 11), elem))]
    inputs = [rng.integers(0, 4 if t.elem != "i64" else (7 if t.shape == (40,) else 5), t.shape).astype(t.dtype) for t in types]
    check(graph_of(build, *types), inputs=inputs, legal=False)


def test_scatter_of_bools() -> None:
    graph = graph_of(lambda x, i, u: Scatter(x, i, u), Tensor((9,), "bool"), Tensor((3,), "i64"), Tensor((3,), "bool"))
    check(graph, inputs=[np.arange(9) % 2 == 0, np.array([1, 0, 1]), np.array([True, False, False])], legal=False)


def test_an_index_out_of_range_is_an_error_of_compiled_code() -> None:
    graph = graph_of(lambda x, i, u: [Gather(x, i, 0), Scatter(x, i, u, "add")], (4,), Tensor((2,), "i64"), (2,))
    exe = tersor.compile(graph)
    x, u = np.arange(4, dtype=np.float32), np.ones(2, np.float32)
    taken, added = exe(x, np.array([3, 3]), u)
    assert taken.tolist() == [3, 3] and added.tolist() == [0, 1, 2, 5]
    for wrong in (4, -1):
        with pytest.raises(tersor.TersorError, match=f"input 'x1' holds {wrong}, expected 0 to 3"):
            exe(x, np.array([0, wrong]), u)
