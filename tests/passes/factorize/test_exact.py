"""Convolutions that have the form a pass looks for are reproduced, whatever their geometry, and any convolution is at full rank."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from factorize_cases import GEOMETRIES, UNPADDED, conv_graph, error
from pass_cases import graph_of, names

import tersor
from tersor.ir import Const, Graph, Tensor
from tersor.ir import ops as nn
from tersor.passes.core.pipeline import Pipeline

RNG = np.random.default_rng(0)
C, N = 6, 8


def separable(rank: int) -> np.ndarray:
    p, d = RNG.standard_normal((N, C, rank)), RNG.standard_normal((C, rank, 3, 3))
    return np.einsum("nma,mapq->nmpq", p, d)


def spatial(rank: int) -> np.ndarray:
    return np.einsum("nrq,rcp->ncpq", RNG.standard_normal((N, rank, 3)), RNG.standard_normal((rank, C, 3)))


def tucker(rank: int) -> np.ndarray:
    o, g, i = RNG.standard_normal((N, rank)), RNG.standard_normal((rank, rank, 3, 3)), RNG.standard_normal((rank, C))
    return np.einsum("nt,tspq,sc->ncpq", o, g, i)


def fire(squeeze: int) -> np.ndarray:
    """Outputs 0, 3, 4, 6 are 1x1."""
    s, e = RNG.standard_normal((squeeze, C)), RNG.standard_normal((N, squeeze, 3, 3))
    middle = e[[0, 3, 4, 6], :, 1, 1].copy()
    e[[0, 3, 4, 6]] = 0
    e[[0, 3, 4, 6], :, 1, 1] = middle
    return np.einsum("nspq,sc->ncpq", e, s)


def inverted(hidden: int) -> np.ndarray:
    """Orthogonal directions of their own sizes, so that the slices of the principal directions are one term each."""
    u = np.linalg.qr(RNG.standard_normal((C, hidden)))[0].T
    p = np.linalg.qr(RNG.standard_normal((N, hidden)))[0] * np.arange(1, hidden + 1)
    return np.einsum("nj,jpq,jc->ncpq", p, RNG.standard_normal((hidden, 3, 3)), u)


CASES: dict[str, Any] = {
    "to-depthwise-separable": lambda: separable(1),
    "to-depthwise-separable{rank=2}": lambda: separable(2),
    "low-rank{rank=3}": lambda: spatial(3),
    "low-rank{method=tucker rank=4}": lambda: tucker(4),
    "to-fire{squeeze_ratio=0.25}": lambda: fire(2),
    "to-inverted-residual{expansion=0.5}": lambda: inverted(3),
}
WITH_RELUS = ["to-fire{squeeze_ratio=0.25 activation=true}", "to-inverted-residual{expansion=0.5 activation=true}"]
#: Sizes at which any 3x3 convolution is reproduced; it then costs more, so the split is tested without the pass's own refusal.
FULL = {
    "to-depthwise-separable{rank=9}": N,
    "low-rank{rank=1.0}": N,
    "low-rank{method=tucker rank=1.0}": N,
    "to-fire{squeeze_ratio=1.0 pct_3x3=1.0}": N,
    "to-inverted-residual{expansion=9.0}": N,
}


def pairs(texts: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
    """Every pass with every geometry; a fire module needs padding."""
    return [(t, g) for t in texts for g in [*GEOMETRIES, *([] if "fire" in t else [UNPADDED])]]


def calibration(graph: Graph, images: int = 12) -> list[torch.Tensor]:
    return [torch.randn(images, *graph.inputs[0].shape[1:], generator=torch.Generator().manual_seed(7))]


@pytest.mark.parametrize("repaired", [False, True], ids=["weights", "repaired"])
@pytest.mark.parametrize(("text", "geometry"), pairs(CASES), ids=str)
def test_what_has_the_form_is_reproduced(text: str, geometry: dict[str, Any], repaired: bool) -> None:
    graph = conv_graph(CASES[text](), RNG.standard_normal(N), **geometry)
    small = tersor.transform(graph, text, calibration=calibration(graph) if repaired else None)
    (row,) = small.report[text.partition("{")[0]].layers
    assert row.done and row.before == pytest.approx(0, abs=1e-4)
    assert small.macs() < graph.macs()
    for batch in (1, 3):
        assert error(graph, small, batch) < 1e-5


@pytest.mark.parametrize(("text", "geometry"), pairs(WITH_RELUS), ids=str)
def test_relus_stay_open_on_the_calibration_images(text: str, geometry: dict[str, Any]) -> None:
    """Borders included: they hold what the ReLU gives for zeros."""
    graph = conv_graph(fire(2) if "fire" in text else inverted(3), RNG.standard_normal(N), **geometry)
    (images,) = calibration(graph)
    small = tersor.transform(graph, text, calibration=[images])
    assert names(small).count("relu") == (2 if "fire" in text else 3)
    y = graph(images)
    assert float((small(images) - y).abs().max() / y.abs().max()) < 1e-5
    # far from those images they do close
    assert float((small(10 * images) - graph(10 * images)).abs().max()) > 0.1


@pytest.mark.parametrize("text", FULL)
def test_any_convolution_is_reproduced_at_full_rank(text: str) -> None:
    (options,) = Pipeline.parse(text)
    (design,) = options.designs()  # type: ignore[attr-defined]
    w = RNG.standard_normal((N, C, 3, 3))
    np.testing.assert_allclose(design.start(w).kernel(), w, atol=1e-12)


def test_a_convolution_without_bias_gets_none_by_weights_alone() -> None:
    graph = conv_graph(separable(1), padding=(1, 1, 1, 1))
    small = tersor.transform(graph, "to-depthwise-separable")
    assert all(conv.b is None for conv in small.find("nn.conv2d"))
    assert len(small.find(Const)) == 2


def test_half_precision_weights_stay_half() -> None:
    w = Const(separable(1).astype(np.float16))
    graph = graph_of(lambda x: nn.Conv2d(x, w, padding=(1, 1, 1, 1)), Tensor((2, C, 9, 8), "f16"))
    small = tersor.transform(graph, "to-depthwise-separable")
    assert {c.array.dtype for c in small.find(Const)} == {np.dtype(np.float16)}
