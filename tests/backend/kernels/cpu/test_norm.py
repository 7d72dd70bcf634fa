"""Softmax, log-softmax, layer norm and group norm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from backend_run import TARGETS, Compiled, check, graph_of

from tersor.ir.ops import Add, GroupNorm, LayerNorm, LogSoftmax, Mul, Relu, Softmax
from tersor.ir.types import Tensor

AXES = [((1,), 0), ((7,), 0), ((3, 1000), 1), ((3, 10), 0), ((3, 17, 33), 1), ((1, 21, 9, 7), 1), ((2, 3, 4, 50), 3), ((2, 1, 3, 2, 5, 3), 4)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape, axis", AXES, ids=str)
def test_softmax(shape: tuple[int, ...], axis: int, target: str) -> None:
    check(graph_of(lambda x: [Softmax(x, axis), LogSoftmax(x, axis)], shape), target=target, legal=False, tolerance=5e-7)


@pytest.mark.parametrize("shape, axis", [((300, 200), 1), ((1, 21, 60, 60), 1), ((1, 50_000), 1)], ids=str)
def test_softmax_with_two_threads(shape: tuple[int, ...], axis: int) -> None:
    check(graph_of(lambda x: [Softmax(x, axis), LogSoftmax(x, axis)], shape), threads=2, legal=False, tolerance=5e-7)


def test_softmax_is_relatively_accurate() -> None:
    x = np.random.default_rng(0).uniform(-60, 20, (50, 300)).astype(np.float32)
    (got,) = Compiled(graph_of(lambda v: Softmax(v, 1), x.shape), legal=False)(x)
    wanted = torch.from_numpy(x.astype(np.float64)).softmax(1).numpy()
    # x - max rounds to half an ulp of 80
    np.testing.assert_allclose(got, wanted, rtol=4.2e-6)
    np.testing.assert_allclose(got.sum(1, dtype=np.float64), 1, rtol=1e-6)


def test_softmax_of_special_values() -> None:
    inf, nan = np.inf, np.nan
    x = np.array([[0, -inf, 1, -inf], [-inf] * 4, [1, nan, 2, 3], [3e38, -3e38, 3e38, 0], [inf, 0, 1, 2], [-200, -100, -300, -400]], np.float32)
    for axis, v in ((1, x), (0, x.T.copy())):
        graph = graph_of(lambda v, axis=axis: [Softmax(v, axis), LogSoftmax(v, axis)], v.shape)
        wanted = torch.from_numpy(v)
        for got, w in zip(Compiled(graph, legal=False)(v), (wanted.softmax(axis), wanted.log_softmax(axis))):
            np.testing.assert_allclose(got, w.numpy(), rtol=3e-7, atol=1e-37)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "shape, axes", [((1, 1), 1), ((3, 7), 1), ((3, 50, 96), 1), ((3, 1000), 1), ((3, 5, 7, 9), 3), ((17,), 1), ((2, 3, 4, 17), 2)], ids=str
)
def test_layer_norm(shape: tuple[int, ...], axes: int, target: str) -> None:
    inner = shape[-axes:]

    def build(x: Any, gamma: Any, beta: Any) -> list[Any]:
        return [LayerNorm(x, gamma, beta, axes), LayerNorm(x, None, None, axes, 1e-3), LayerNorm(x, gamma, None, axes)]

    check(graph_of(build, shape, inner, inner), target=target, legal=False, tolerance=1e-6)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "shape, groups", [((3, 16, 7, 9), 4), ((1, 6, 5), 6), ((3, 32), 4), ((1, 5, 10, 11), 5), ((2, 12, 2, 3, 4), 1), ((3, 8, 1, 1), 2)], ids=str
)
def test_group_norm(shape: tuple[int, ...], groups: int, target: str) -> None:
    def build(x: Any, gamma: Any, beta: Any) -> list[Any]:
        return [GroupNorm(x, gamma, beta, groups), GroupNorm(x, None, None, groups, 1e-2)]

    check(graph_of(build, shape, shape[1:2], shape[1:2]), target=target, legal=False, tolerance=1e-6)


def test_variance_about_a_large_mean() -> None:
    """E[x^2] - E[x]^2 in f32 would lose everything here."""
    x = (np.random.default_rng(0).standard_normal((4, 1000)) + 5000).astype(np.float32)
    wanted = torch.nn.functional.layer_norm(torch.from_numpy(x.astype(np.float64)), (1000,)).numpy()
    (got,) = Compiled(graph_of(lambda v: LayerNorm(v), x.shape), legal=False)(x)
    np.testing.assert_allclose(got, wanted, atol=3e-4)


@pytest.mark.parametrize("elem, tolerance", [("f16", 3e-3), ("f64", 1e-13)])
def test_other_floats(elem: str, tolerance: float) -> None:
    def build(x: Any, p: Any) -> list[Any]:
        return [Softmax(x, 2), LogSoftmax(x, 1), LayerNorm(x, p, p), GroupNorm(x, groups=3), Softmax(x, 0)]

    check(graph_of(build, Tensor((4, 6, 33), elem), Tensor((33,), elem)), legal=False, tolerance=tolerance)


def test_two_threads() -> None:
    check(graph_of(lambda x: [LayerNorm(x), GroupNorm(x, groups=5)], (3, 50, 300)), threads=2, legal=False, tolerance=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_tails(target: str) -> None:
    def build(x: Any, row: Any, same: Any) -> list[Any]:
        normal = [Softmax(x, 1), Softmax(x, 2), LayerNorm(x), LayerNorm(x, None, None, 2), GroupNorm(x, groups=2)]
        return [Relu(Add(Mul(y, row), same)) for y in normal]

    compiled = check(graph_of(build, (3, 8, 50), (50,), (3, 8, 50)), target=target, legal=False, tolerance=1e-6)
    assert len(compiled.steps) == 5, "each epilogue is part of its kernel"
