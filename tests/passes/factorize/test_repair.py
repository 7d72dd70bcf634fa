"""The least-squares repair, against numpy's lstsq on patches written out one by one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from factorize_cases import conv_graph, im2col, ridged

import tersor
from tersor.ir import Graph
from tersor.ir.evaluate import to_torch
from tersor.passes.factorize.fire import FireDesign
from tersor.passes.factorize.low_rank import SpatialDesign, TuckerDesign
from tersor.passes.factorize.response import RIDGE, Response
from tersor.passes.factorize.separable import Separable, refit, refit_depthwise, refit_pointwise, split
from tersor.passes.reconstruct import Moments

RNG = np.random.default_rng(2)
N, C = 7, 4
W, B = RNG.standard_normal((N, C, 3, 3)), RNG.standard_normal(N)
GEOMETRY: dict[str, Any] = {"stride": (2, 1), "padding": (1, 1, 0, 2)}
#: Every pixel is a row.
ALL = 10_000


def images(n: int = 20) -> np.ndarray:
    """Correlated channels and pixels, not centred."""
    x = RNG.standard_normal((n, 3, 9, 8))
    x = np.einsum("cd,ndij->ncij", RNG.standard_normal((C, 3)), np.cumsum(x, axis=2) * 0.5) + RNG.standard_normal((n, C, 9, 8)) * 0.3 + 1
    return x.astype(np.float32)


def data() -> tuple[np.ndarray, np.ndarray, Response]:
    x = RNG.standard_normal((400, C * 9)) @ (np.eye(C * 9) + 0.2 * RNG.standard_normal((C * 9, C * 9))) + 1
    y = x @ W.reshape(N, -1).T + B
    moments = Moments(C * 9, N)
    moments.add(x, y)
    return x, y, Response.of_moments(moments)


def features(x: np.ndarray, depthwise: np.ndarray) -> np.ndarray:
    """Depthwise results (rows, C*r), channel by channel."""
    patches = x.reshape(len(x), depthwise.shape[0], -1)
    return np.hstack([patches[:, m] @ d.reshape(len(d), -1).T for m, d in enumerate(depthwise)])


@pytest.mark.parametrize("rank", [1, 2])
def test_pointwise_weights_and_bias_are_the_least_squares_solution(rank: int) -> None:
    """Read back from the graph that the pass makes."""
    x = images()
    graph = conv_graph(W, B, **GEOMETRY)
    text = f"to-depthwise-separable{{rank={rank} sweeps=0 positions={ALL}}}"
    small = tersor.transform(graph, text, calibration=[x[:8], x[8:]])
    depthwise, pointwise = small.find("nn.conv2d")
    rows = im2col(x, (3, 3), **GEOMETRY)
    y = rows @ W.reshape(N, -1).T.astype(np.float32) + B.astype(np.float32)
    start = split(W, rank)
    w, b = ridged(features(rows, start.depthwise), y, start.pointwise.reshape(N, -1).T, RIDGE)
    np.testing.assert_allclose(depthwise.w.op.array.ravel(), start.depthwise.ravel(), atol=1e-6)
    np.testing.assert_allclose(pointwise.w.op.array.reshape(N, -1).T, w, atol=2e-4)
    np.testing.assert_allclose(pointwise.b.op.array, b, atol=2e-4)
    # the reported errors are those of the responses
    (row,) = small.report["to-depthwise-separable"].layers
    spread = np.linalg.norm(y - y.mean(0))
    before = rows @ start.kernel().reshape(N, -1).T + B
    after = features(rows, start.depthwise) @ w + b
    assert row.measured
    assert row.before == pytest.approx(np.linalg.norm(y - before) / spread, rel=1e-3)
    assert row.after == pytest.approx(np.linalg.norm(y - after) / spread, rel=1e-3)
    assert row.after < row.before


@pytest.mark.parametrize("rank", [1, 3])
def test_depthwise_weights_are_the_least_squares_solution_for_given_pointwise_ones(rank: int) -> None:
    x, y, response = data()
    start = split(W, rank)
    # one column per depthwise weight: what it adds to all responses
    patches = x.reshape(len(x), C, 9)
    columns = [np.outer(patches[:, m, t], start.pointwise[:, m, a]).ravel() for m, a, t in itertools.product(range(C), range(rank), range(9))]
    design = np.stack(columns, axis=1).reshape(len(x), N, -1)
    design -= design.mean(0)
    flat = design.reshape(len(x) * N, -1)
    target = (y - y.mean(0)).ravel()
    scale = (flat**2).sum(0)
    r = np.sqrt(RIDGE * (scale + 1e-3 * scale.mean()))
    expected = np.linalg.lstsq(np.vstack([flat, np.diag(r)]), np.r_[target, r * start.depthwise.ravel()], rcond=None)[0]
    got = refit_depthwise(start, response)
    np.testing.assert_allclose(got.depthwise.ravel(), expected, atol=1e-8)
    np.testing.assert_array_equal(got.pointwise, start.pointwise)


def test_every_sweep_lowers_the_error() -> None:
    _, _, response = data()
    errors = [response.error(split(W, 1).kernel())] + [response.error(refit(split(W, 1), response, n).kernel()) for n in range(6)]
    assert all(a > b for a, b in itertools.pairwise(errors))
    for f in (refit_pointwise, refit_depthwise):
        assert isinstance(f(split(W, 2), response), Separable)


def test_error_is_that_of_the_rows() -> None:
    x, y, response = data()
    kernel = RNG.standard_normal(W.shape)
    flat = x @ kernel.reshape(N, -1).T
    spread = np.linalg.norm(y - y.mean(0))
    assert response.error(kernel, B) == pytest.approx(np.linalg.norm(y - flat - B) / spread)
    assert response.error(kernel) == pytest.approx(np.linalg.norm(y - flat - (y - flat).mean(0)) / spread)
    np.testing.assert_allclose(response.bias(kernel), (y - flat).mean(0))
    assert Response.of_weights(W).error(kernel) == pytest.approx(np.linalg.norm(kernel - W) / np.linalg.norm(W))


def test_mixed_moments_are_those_of_mixed_patches() -> None:
    x, y, response = data()
    u = RNG.standard_normal((6, C))
    mixed = np.einsum("jc,rct->rjt", u, x.reshape(-1, C, 9)).reshape(len(x), -1)
    expected = Moments(54, N)
    expected.add(mixed, y)
    got = response.mixed(u)
    np.testing.assert_allclose(got.gram, expected.covariance(), atol=1e-8)
    np.testing.assert_allclose(got.cross, expected.cross(), atol=1e-8)
    np.testing.assert_allclose(got.mean_x, mixed.mean(0), atol=1e-12)


def test_spatial_svd_refits_the_second_convolution() -> None:
    x, y, response = data()
    got = SpatialDesign(3).fit(W, response)
    # results of the vertical kernels at every column of the patch
    f = np.einsum("rcp,ncpq->nrq", got.vertical, x.reshape(-1, C, 3, 3)).reshape(len(x), -1)
    prior = SpatialDesign(3)._cut(W, response.covariance(0, (C * 3, 3))).horizontal.transpose(1, 2, 0).reshape(-1, N)
    expected, _ = ridged(f, y, prior, RIDGE)
    np.testing.assert_allclose(got.horizontal.transpose(1, 2, 0).reshape(-1, N), expected, atol=1e-8)


def test_tucker_is_the_best_map_of_its_rank_behind_its_inner_kernel() -> None:
    """Reduced-rank regression: lstsq, then the SVD of the fitted responses."""
    x, y, response = data()
    got = TuckerDesign(2).fit(W, response)
    f = np.einsum("sc,nct->nst", got.inner, x.reshape(-1, C, 9)).reshape(len(x), -1)
    f, y = f - f.mean(0), y - y.mean(0)
    fitted = f @ np.linalg.lstsq(f, y, rcond=None)[0]
    u, s, vt = np.linalg.svd(fitted, full_matrices=False)
    expected = np.linalg.norm(y - (u[:, :2] * s[:2]) @ vt[:2]) / np.linalg.norm(y)
    # the ridge lifts it a little
    assert expected <= response.error(got.kernel()) <= expected * (1 + 1e-3)
    assert response.error(got.kernel()) < response.error(TuckerDesign(2).start(W).kernel())


def test_fire_chooses_1x1_where_least_squares_loses_the_least() -> None:
    x, y, response = data()
    got = FireDesign(3 / 7, 0.5, False).fit(W, response)
    f = np.einsum("sc,nct->nst", got.squeeze, x.reshape(-1, C, 9))
    prior = np.zeros((27, N))
    wide, wb = ridged(f.reshape(len(x), -1), y, prior, 1e-8)
    point, pb = ridged(f[:, :, 4], y, prior[:3], 1e-8)
    loss = ((y - f[:, :, 4] @ point - pb) ** 2).sum(0) - ((y - f.reshape(len(x), -1) @ wide - wb) ** 2).sum(0)
    small = np.argsort(loss)[:3]
    assert sorted(got.outputs[:3]) == sorted(small)
    np.testing.assert_allclose(got.point, point[:, np.sort(small)].T, atol=0.02)


@pytest.mark.parametrize("design", [FireDesign(3 / 7, 1.0, False), SpatialDesign(9)], ids=str)
def test_data_weigh_the_directions(design: Any) -> None:
    """A channel that hardly varies costs nothing to leave out, however large its weights: three of four are enough."""
    w = W.copy()
    w[:, 2] *= 10
    x = RNG.standard_normal((400, C, 9))
    x[:, 2] *= 1e-4
    moments = Moments(C * 9, N)
    moments.add(x.reshape(400, -1), x.reshape(400, -1) @ w.reshape(N, -1).T)
    response = Response.of_moments(moments)
    assert response.error(design.fit(w, response).kernel()) < 0.02
    assert response.error(design.start(w).kernel()) > 0.2


def chain(seed: int = 0) -> Graph:
    torch.manual_seed(seed)
    block = lambda i, o: [torch.nn.Conv2d(i, o, 3, padding=1), torch.nn.ReLU()]  # noqa: E731
    return tersor.trace(torch.nn.Sequential(*block(C, 8), *block(8, 8), *block(8, 8)).eval(), (torch.randn(1, C, 9, 8),))


@pytest.mark.parametrize(
    "text",
    ["to-depthwise-separable", "low-rank", "low-rank{method=tucker rank=0.5}", "to-fire{squeeze_ratio=0.5}", "to-inverted-residual{expansion=0.75}"],
)
def test_repair_brings_a_network_nearer(text: str) -> None:
    graph, x = chain(), torch.from_numpy(images(40))
    y = graph(x[30:])

    def loss(options: str) -> float:
        name, _, rest = text.rstrip("}").partition("{")
        small = tersor.transform(graph, f"{name}{{{rest} {options}}}", calibration=[x[:30]])
        assert all(r.done and r.measured for r in small.report[name].layers)
        return float((small(x[30:]) - y).norm() / y.norm())

    assert loss("") < 0.7 * loss("reconstruct=false")


def test_layers_are_fitted_to_the_network_as_it_was_on_what_they_are_given_now() -> None:
    """The second layer's pointwise weights against lstsq: inputs of the new network, targets of the old one."""
    graph, x = chain(), images()
    small = tersor.transform(graph, f"to-depthwise-separable{{sweeps=0 positions={ALL}}}", calibration=[x])
    old, new = graph.find("nn.conv2d"), small.find("nn.conv2d")

    def conv(values: np.ndarray, op: Any) -> np.ndarray:
        w, b = to_torch(op.w.op.array), None if op.b is None else to_torch(op.b.op.array)
        return torch.nn.functional.conv2d(torch.from_numpy(values), w, b, padding=op.padding[:1] * 2, groups=op.groups).numpy()

    then = conv(np.maximum(conv(x, old[0]), 0), old[1]).transpose(0, 2, 3, 1).reshape(-1, 8)
    now = im2col(np.maximum(conv(conv(x, new[0]), new[1]), 0), (3, 3), padding=(1, 1, 1, 1))
    start = split(old[1].w.op.array.astype(np.float64), 1)
    w, b = ridged(features(now, start.depthwise), then.astype(np.float64), start.pointwise.reshape(8, -1).T, RIDGE)
    np.testing.assert_allclose(new[3].w.op.array.reshape(8, -1).T, w, atol=1e-4)
    np.testing.assert_allclose(new[3].b.op.array, b, atol=1e-4)


def test_fewer_responses_than_unknowns_are_said_and_held_by_the_ridge() -> None:
    x = images(1)[:, :, :5, :4]
    graph = conv_graph(W, B, size=(5, 4), **GEOMETRY)
    with pytest.warns(UserWarning, match=r"no more responses.*layer at net.py:3\] \(36 unknowns, 12 responses\)"):
        small = tersor.transform(graph, "to-depthwise-separable", calibration=[x])
    assert all(np.abs(c.w.op.array).max() < 10 for c in small.find("nn.conv2d"))


@pytest.mark.parametrize("text", ["to-depthwise-separable{rank=[1, 2] macs=0.5}", "to-fire{activation=true}"])
def test_the_same_seed_gives_the_same_bits(text: str) -> None:
    graph, x = chain(), images()
    one, same, other = (tersor.transform(graph, text, calibration=[x], seed=s) for s in (3, 3, 4))
    arrays = [[op.array for op in g.find("nn.constant")] for g in (one, same, other)]
    assert all(np.array_equal(a, b) for a, b in zip(arrays[0], arrays[1]))
    assert not all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(arrays[0], arrays[2]))
