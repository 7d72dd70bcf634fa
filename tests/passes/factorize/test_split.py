"""Where the factors of weights alone come from, against SVDs written out here."""

from __future__ import annotations

import numpy as np
import pytest
from factorize_cases import conv_graph

import tersor
from tersor.passes.factorize.fire import FireDesign
from tersor.passes.factorize.inverted_residual import InvertedDesign
from tersor.passes.factorize.low_rank import SpatialDesign, TuckerDesign
from tersor.passes.factorize.separable import split

RNG = np.random.default_rng(1)
W = RNG.standard_normal((7, 5, 3, 3))


def relative(kernel: np.ndarray) -> float:
    return float(np.linalg.norm(kernel - W) / np.linalg.norm(W))


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_each_input_channel_is_split_by_its_own_svd(rank: int) -> None:
    expected = np.zeros_like(W)
    for m in range(5):
        u, s, vt = np.linalg.svd(W[:, m].reshape(7, 9))
        for a in range(rank):
            expected[:, m] += s[a] * np.outer(u[:, a], vt[a]).reshape(7, 3, 3)
    got = split(W, rank)
    assert got.depthwise.shape == (5, rank, 3, 3) and got.pointwise.shape == (7, 5, rank)
    np.testing.assert_allclose(got.kernel(), expected, atol=1e-12)


def test_the_graph_holds_the_split() -> None:
    """Rank 1, read back from the pass's own ops: w[n,m] = p[n,m] d[m]."""
    graph = conv_graph(W, padding=(1, 1, 1, 1))
    depthwise, pointwise = tersor.transform(graph, "to-depthwise-separable").find("nn.conv2d")
    assert depthwise.groups == 5 and depthwise.w.shape == (5, 1, 3, 3) and pointwise.w.shape == (7, 5, 1, 1)
    for m in range(5):
        u, s, vt = np.linalg.svd(W[:, m].reshape(7, 9))
        got = np.outer(pointwise.w.op.array[:, m, 0, 0], depthwise.w.op.array[m].ravel())
        np.testing.assert_allclose(got, s[0] * np.outer(u[:, 0], vt[0]), atol=1e-5)


@pytest.mark.parametrize("rank", [1, 4, 11])
def test_spatial_svd_leaves_the_smallest_singular_values(rank: int) -> None:
    matrix = np.stack([W[:, c, p, :].ravel() for c in range(5) for p in range(3)])
    s = np.linalg.svd(matrix, compute_uv=False)
    assert relative(SpatialDesign(rank).start(W).kernel()) == pytest.approx(np.sqrt((s[rank:] ** 2).sum()) / np.linalg.norm(W))


def test_tucker_projects_on_the_principal_directions_of_both_sides() -> None:
    o = np.linalg.svd(W.reshape(7, -1))[0][:, :3]
    i = np.linalg.svd(np.moveaxis(W, 1, 0).reshape(5, -1))[0][:, :3]
    expected = np.einsum("mn,ncpq,cd->mdpq", o @ o.T, W, i @ i.T)
    np.testing.assert_allclose(TuckerDesign(3).start(W).kernel(), expected, atol=1e-12)


@pytest.mark.parametrize(("rank", "size"), [(0.5, 8), (1.0, 15), (1, 1), (100, 15), (0.001, 1)])
def test_a_float_is_a_share_of_the_full_rank_and_an_int_the_rank(rank: float, size: int) -> None:
    assert len(SpatialDesign(rank).start(W).vertical) == size


def test_fire_gives_1x1_to_the_outputs_that_lose_the_least() -> None:
    squeeze = np.linalg.svd(np.moveaxis(W, 1, 0).reshape(5, -1))[0][:, :4]
    squeezed = np.einsum("ncpq,cs->nspq", W, squeeze)
    outside = (squeezed**2).sum((1, 2, 3)) - (squeezed[:, :, 1, 1] ** 2).sum(1)
    fire = FireDesign(4 / 7, 0.5, False).start(W)
    assert sorted(fire.outputs[: len(fire.point)]) == sorted(np.argsort(outside)[:3])
    for n in range(7):
        expected = squeezed[n].copy()
        if n in fire.outputs[:3]:
            expected[:, np.arange(9).reshape(3, 3) != 4] = 0
        np.testing.assert_allclose(fire.kernel()[n], np.einsum("spq,cs->cpq", expected, squeeze), atol=1e-12)


@pytest.mark.parametrize("hidden", [3, 8, 20])
def test_inverted_residual_keeps_the_largest_terms_of_the_better_basis(hidden: int) -> None:
    directions = np.linalg.svd(np.moveaxis(W, 1, 0).reshape(5, -1))[0]
    best = []
    for basis in (directions, np.eye(5)):
        slices = np.einsum("ncpq,cd->dnpq", W, basis).reshape(5, 7, 9)
        s = np.concatenate([np.linalg.svd(x, compute_uv=False) for x in slices])
        best.append(np.sqrt((np.sort(s)[::-1][hidden:] ** 2).sum()) / np.linalg.norm(W))
    factors = InvertedDesign(hidden / 5, 0, False).start(W)
    assert len(factors.up) == hidden
    assert relative(factors.kernel()) == pytest.approx(min(best))
