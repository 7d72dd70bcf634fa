"""Factorizing passes in pipelines, on whole networks, and down to kernels; what the graphs look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pass_cases import body, graph_of, names

import tersor
from tersor.ir import Const, Graph
from tersor.ir import ops as nn
from tersor.passes.factorize.permute import sink_permutations

PASSES = [
    "to-depthwise-separable",
    "low-rank{rank=0.25}",
    "low-rank{method=tucker rank=0.5}",
    "to-fire{squeeze_ratio=0.5}",
    "to-fire{squeeze_ratio=0.5 activation=true}",
    "to-inverted-residual{expansion=1.0}",
    "to-inverted-residual{expansion=1.0 activation=true}",
]


class Block(torch.nn.Module):
    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(i, o, 3, stride, 1, bias=False), torch.nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.na, self.nb = torch.nn.BatchNorm2d(o), torch.nn.BatchNorm2d(o)
        self.short = torch.nn.Identity() if stride == 1 else torch.nn.Conv2d(i, o, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.nb(self.b(F.relu(self.na(self.a(x))))) + self.short(x))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Smooth, so that pixels are not all that there is to learn."""
    return F.interpolate(torch.randn(56, 3, 4, 4, generator=torch.Generator().manual_seed(1)), size=(12, 12), mode="bilinear")


@pytest.fixture(scope="module")
def residual(images: torch.Tensor) -> Graph:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 12, 3, padding=1), torch.nn.ReLU(), Block(12, 12, 1), Block(12, 16, 2), torch.nn.AdaptiveAvgPool2d(1)
    )
    net = torch.nn.Sequential(*net, torch.nn.Flatten(), torch.nn.Linear(16, 5)).train()
    net(images)
    return tersor.trace(net.eval(), (images[:1],))


def loss(small: Graph, graph: Graph, x: torch.Tensor) -> float:
    y = graph(x)
    return float((small(x) - y).norm() / (y - y.mean(0)).norm())


@pytest.mark.parametrize("text", PASSES)
def test_after_fold_bn_at_any_batch(text: str, residual: Graph, images: torch.Tensor) -> None:
    small = tersor.transform(residual, f"fold-bn,{text}", calibration=[images[:24], images[24:48]])
    assert small.macs() < residual.macs()
    y = small(images[48:51])
    for i in range(3):
        torch.testing.assert_close(small.at(1)(images[48 + i : 49 + i]), y[i : i + 1], atol=1e-5, rtol=1e-4)
    assert loss(small, residual, images[48:]) < 0.8
    again = tersor.transform(small, "canonicalize")
    assert len(again) <= len(small)


def test_before_fold_bn_too(residual: Graph, images: torch.Tensor) -> None:
    """Responses are then those in front of the norm, which folds into the last convolution afterwards."""
    small = tersor.transform(residual, "to-depthwise-separable{rank=3},fold-bn", calibration=[images[:48]])
    assert not small.find(nn.BatchNorm)
    assert loss(small, residual, images[48:]) < 0.5


@pytest.mark.parametrize(
    "last",
    [
        "to-depthwise-separable{rank=[1, 2, 3] macs=0.6}",
        "low-rank{rank=[0.25, 0.5, 0.75] macs=0.6}",
        "to-fire{squeeze_ratio=[0.25, 0.5] macs=0.6}",
        "to-inverted-residual{expansion=[0.5, 1.0] macs=0.6}",
    ],
)
def test_pruned_then_factorized_is_one_pipeline_with_its_ledger(last: str, residual: Graph, images: torch.Tensor) -> None:
    text = str(residual)
    small = tersor.transform(residual, f"fold-bn,prune-channels{{macs=0.7}},{last}", calibration=[images[:48]], check=True)
    assert [row.name.partition("{")[0] for row in small.report] == ["input", "fold-bn", "prune-channels", last.partition("{")[0]]
    before, folded, pruned, factorized = small.report
    assert before.macs == folded.macs and pruned.macs <= 0.7 * before.macs and factorized.macs <= 0.6 * pruned.macs
    assert factorized.macs == small.macs() and factorized.nbytes == small.nbytes() < pruned.nbytes < folded.nbytes < before.nbytes
    assert folded.error is not None and folded.error < 1e-5
    assert pruned.sqnr is not None and factorized.sqnr is not None and pruned.sqnr > factorized.sqnr > 0
    assert factorized.layers and not folded.layers
    assert loss(small, residual, images[48:]) < 1
    assert str(residual) == text
    y = small(images[48:51]).numpy()
    np.testing.assert_allclose(tersor.compile(small, batch=3)(images[48:51].numpy()), y, atol=1e-5 * np.abs(y).max())


@pytest.mark.parametrize("batch", [1, 3])
def test_compiles_to_kernels(batch: int) -> None:
    """Each kind of piece once: padded 1x1, crops, gathers and strides."""
    graph = graph_of(lambda x: nn.Relu(nn.Conv2d(x, weights(12, 8, 3, 3), weights(12), (2, 2), (1, 1, 1, 1))), (1, 8, 10, 10))
    images = torch.randn(40, 8, 10, 10, generator=torch.Generator().manual_seed(0))
    for text in ("low-rank{rank=0.5}", "to-fire{squeeze_ratio=0.5 activation=true}", "to-inverted-residual{expansion=1.0 activation=true}"):
        small = tersor.transform(graph, text, calibration=[images])
        y = small(images[:batch]).numpy()
        np.testing.assert_allclose(tersor.compile(small, batch=batch)(images[:batch].numpy()), y, atol=1e-5 * np.abs(y).max())


def test_one_conv_of_shared_weights_may_change_alone() -> None:
    """Weights that another layer reads too stay as they are for it."""
    w = Const(np.random.default_rng(0).standard_normal((6, 6, 3, 3)).astype(np.float32))

    def build(x: Any) -> Any:
        return nn.Conv2d(nn.Conv2d(x, w, padding=(1, 1, 1, 1), loc=tersor.ir.Loc("one")), w, padding=(1, 1, 1, 1), loc=tersor.ir.Loc("two"))

    graph = graph_of(build, (2, 6, 7, 7))
    small = tersor.transform(graph, 'to-depthwise-separable{exclude=["two"]}')
    assert names(small) == ["conv2d"] * 3
    assert small.find("nn.conv2d")[2].w.op.array is graph.find("nn.conv2d")[1].w.op.array


def test_text(golden: Callable[[str, str], None]) -> None:
    rng = np.random.default_rng(5)
    w, b = (Const(rng.standard_normal(s).astype(np.float32), loc=tersor.ir.Loc("layer", "net.py", 3)) for s in ((8, 6, 3, 3), (8,)))
    last = Const(rng.standard_normal((2, 8, 1, 1)).astype(np.float32))

    def build(x: Any) -> Any:
        return nn.Conv2d(nn.Relu(nn.Conv2d(x, w, b, (2, 2), (1, 1, 1, 1), loc=tersor.ir.Loc("layer", "net.py", 3))), last)

    graph = graph_of(build, (1, 6, 8, 8))
    parts = [f"// input\n{body(graph)}\n"]
    x = torch.randn(40, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    for text in PASSES:
        small = tersor.transform(graph, text, calibration=[x])
        parts.append(f"// {text}\n{body(small)}\n")
    golden("passes/factorize.mlir", "\n".join(parts))


# -- permutations of channels ------------------------------------------------------------------

INDEX = np.array([2, 0, 3, 1])


def permuted(x: Any) -> nn.IndexSelect:
    return nn.IndexSelect(x, Const(INDEX), 1)


def weights(*shape: int) -> Const:
    return Const(np.random.default_rng(6).standard_normal(shape).astype(np.float32))


def norm(x: Any) -> nn.BatchNorm:
    return nn.BatchNorm(x, weights(4), weights(4), weights(4), Const(np.abs(weights(4).array)))


@pytest.mark.parametrize(
    ("between", "left"),
    [
        (lambda x: x, ["conv2d"]),
        (nn.Relu, ["relu", "conv2d"]),
        (norm, ["batch_norm", "conv2d"]),
        (lambda x: nn.MaxPool2d(nn.HardSwish(x), (2, 2), (2, 2)), ["hard_swish", "max_pool2d", "conv2d"]),
        (lambda x: nn.Conv2d(x, weights(4, 1, 3, 3), weights(4), groups=4), ["conv2d", "conv2d"]),
    ],
)
def test_a_permutation_ends_in_the_weights_of_the_next_convolution(between: Callable[[Any], Any], left: list[str]) -> None:
    graph = graph_of(lambda x: nn.Conv2d(between(permuted(x)), weights(3, 4, 3, 3)), (2, 4, 8, 8))
    after = graph.clone()
    sink_permutations(after)
    assert names(after.verify()) == left
    x = torch.randn(3, 4, 8, 8)
    torch.testing.assert_close(after(x), graph(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: nn.Conv2d(nn.IndexSelect(x, Const(np.array([0, 0, 1, 2])), 1), weights(3, 4, 3, 3)),
        lambda x: nn.Conv2d(nn.IndexSelect(x, Const(np.arange(8)[::-1].copy()), 2), weights(3, 4, 3, 3)),
        lambda x: nn.Conv2d(permuted(x), weights(4, 2, 3, 3), groups=2),
        lambda x: nn.Add(x, permuted(x)),
        lambda x: (lambda y: [nn.Relu(y), y])(permuted(x)),
    ],
    ids=["not a permutation", "of rows", "grouped", "a sum", "read twice"],
)
def test_it_stays_where_it_must(build: Callable[[Any], Any]) -> None:
    graph = graph_of(build, (2, 4, 8, 8))
    text = str(graph)
    assert not sink_permutations(graph)
    assert str(graph) == text


def test_fire_in_front_of_a_sum_keeps_its_gather() -> None:
    graph = graph_of(lambda x: nn.Add(x, nn.Conv2d(x, weights(4, 4, 3, 3), padding=(1, 1, 1, 1))), (2, 4, 8, 8))
    small = tersor.transform(graph, "to-fire{squeeze_ratio=1.0}")
    order = small.find(nn.IndexSelect)
    assert len(order) == 1 and names(small) == ["conv2d"] * 3 + ["concat", "index_select", "add"]
