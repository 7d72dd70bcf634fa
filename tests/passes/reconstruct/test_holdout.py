"""Fits judged on images that were held out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import tersor
from tersor.ir.op import Const
from tersor.ir.ops import Linear
from tersor.passes.core.context import Context
from tersor.passes.reconstruct import Replay
from tersor.passes.reconstruct.holdout import RIDGES, Evidence
from tersor.passes.reconstruct.rows import HELD_OUT, Rows, draw

F64 = NDArray[np.float64]


def linear(inputs: int, outputs: int) -> tuple[Linear, np.ndarray]:
    torch.manual_seed(0)
    graph = tersor.trace(nn.Linear(inputs, outputs).eval(), (torch.randn(1, inputs),))
    (op,) = graph.find(Linear)
    assert isinstance(op, Linear) and isinstance(op.w.op, Const)
    return op, op.w.op.array


def rows(x: F64, y: F64) -> tuple[list[Rows], np.ndarray]:
    held = np.arange(len(x)) % HELD_OUT == HELD_OUT - 1
    half = len(x) // 2
    return [Rows([x[part]], [y[part]], held[part]) for part in (slice(0, half), slice(half, None))], held


def ridge_fit(x: F64, y: F64, prior: F64, ridge: float) -> tuple[F64, F64]:
    """Least squares by numpy, the ridge as more rows."""
    centred, target = x - x.mean(0), y - y.mean(0)
    scale = (centred**2).sum(0)
    root = np.sqrt(ridge * (scale + scale.mean() * 1e-3))
    w = np.linalg.lstsq(np.vstack([centred, np.diag(root)]), np.vstack([target, root[:, None] * prior]), rcond=None)[0]
    return w, y.mean(0) - x.mean(0) @ w


def problem(n: int, k: int, lost: int, noise: float) -> tuple[F64, F64, Linear, np.ndarray, np.ndarray]:
    """Responses of a layer to inputs that tell of each other, with noise; the last inputs are to be lost."""
    layer, w = linear(k, 3)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, k)) @ (np.eye(k) + 0.3 * rng.standard_normal((k, k)) / np.sqrt(k))
    y = x @ w.T.astype(np.float64) + noise * rng.standard_normal((n, 3))
    return x, y, layer, w, np.arange(k) < k - lost


@pytest.mark.parametrize("ridge", RIDGES)
def test_expected_error_is_that_on_the_rows_held_out(ridge: float) -> None:
    x, y, layer, w, kept = problem(120, 10, 3, 0.1)
    drawn, held = rows(x, y)
    fit_w, fit_b = ridge_fit(x[~held][:, kept], y[~held], w.T[kept].astype(np.float64), ridge)
    expected = ((y[held] - x[held][:, kept] @ fit_w - fit_b) ** 2).mean(0)
    np.testing.assert_allclose(Evidence.of(drawn).expected(layer, w, kept, ridge), expected, rtol=1e-8)


@pytest.mark.parametrize("ridge", RIDGES)
def test_where_few_go_nothing_is_fitted_anew(ridge: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes from the inverse of the whole, the same but for the thousandth of a mean in the ridge: of all columns here."""
    x, y, layer, w, kept = problem(120, 30, 2, 0.1)
    drawn, held = rows(x, y)
    fit_w, fit_b = ridge_fit(x[~held][:, kept], y[~held], w.T[kept].astype(np.float64), ridge)
    expected = ((y[held] - x[held][:, kept] @ fit_w - fit_b) ** 2).mean(0)
    monkeypatch.setattr("tersor.passes.reconstruct.holdout.refit", None)
    np.testing.assert_allclose(Evidence.of(drawn).expected(layer, w, kept, ridge), expected, rtol=1e-4)


def test_the_ridge_is_strong_where_rows_are_few_and_does_no_harm_where_they_are_many() -> None:
    x, y, layer, w, kept = problem(60, 60, 20, 0.3)
    few = Evidence.of(rows(x, y)[0])
    ridge = few.ridge(layer, w, kept)
    assert ridge > RIDGES[0]
    assert few.expected(layer, w, kept, ridge).sum() < 0.5 * few.expected(layer, w, kept, RIDGES[0]).sum()
    x, y, layer, w, kept = problem(20_000, 60, 20, 0.3)
    many = Evidence.of(rows(x, y)[0])
    ridge = many.ridge(layer, w, kept)
    assert many.expected(layer, w, kept, ridge).sum() < 1.01 * many.expected(layer, w, kept, 1e-9).sum()


def test_all_is_both() -> None:
    x, y, *_ = problem(40, 6, 0, 0.3)
    (both,) = Evidence.of(rows(x, y)[0]).all
    assert both.rows == 40
    np.testing.assert_allclose(both.covariance(), (x - x.mean(0)).T @ (x - x.mean(0)))
    np.testing.assert_allclose(both.cross(), (x - x.mean(0)).T @ (y - y.mean(0)))
    np.testing.assert_allclose(both.variances, ((y - y.mean(0)) ** 2).sum(0))


def test_with_nothing_held_out_a_response_counts_as_lost() -> None:
    x, y, layer, w, kept = problem(3, 6, 2, 0.3)
    evidence = Evidence.of([Rows([x], [y], np.zeros(3, np.bool_))])
    np.testing.assert_allclose(evidence.expected(layer, w, kept, 1e-3), y.var(0))


@pytest.mark.parametrize("images, chunks", [(9, (4, 5)), (2, (2,))])
def test_whole_images_are_held_out(images: int, chunks: tuple[int, ...]) -> None:
    """Every fourth, across chunks; of fewer images than four, every fourth row."""
    graph = tersor.trace(nn.Conv2d(1, 2, 1).eval(), (torch.randn(1, 1, 3, 3),))
    # the value of a pixel is the number of its image
    batches = list(torch.arange(float(images)).reshape(-1, 1, 1, 1).expand(-1, 1, 3, 3).split(chunks))
    for layer in (replay := Replay(graph, batches, Context(), "test")):
        drawn = list(draw(replay, layer, layer, np.random.default_rng(0), 5))  # type: ignore[arg-type]
    held = np.concatenate([r.x[0][r.held, 0] for r in drawn])
    assert set(held) == ({3, 7} if images >= HELD_OUT else {0, 1})
    assert len(held) == (2 * 5 if images >= HELD_OUT else 2)
