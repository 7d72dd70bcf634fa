"""Blocks fitted whole to what they gave before."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from prune_cases import trained
from torch import nn

import tersor
from tersor.ir import Const, Graph
from tersor.ir.ops import Add, Conv2d, Relu
from tersor.passes.core.context import Context
from tersor.passes.reconstruct.blocks import Then, blocks_of, narrow_places, refit_blocks


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.a, self.b = (nn.Conv2d(width, width, 3, 1, 1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.b(F.relu(self.a(x))))


def residual() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1), Residual(8), Residual(8), Residual(8), Residual(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )


def chain() -> nn.Module:
    widths = [3, 8, 8, 12, 12, 16, 16]
    convs = [m for a, b in pairwise(widths) for m in (nn.Conv2d(a, b, 3, 1, 1), nn.ReLU())]
    return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


class TwoOutputs(nn.Module):
    """An early output, integers among the outputs, and a second input that is read late."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x: torch.Tensor, late: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = F.relu(self.a(x))
        z = self.c(F.relu(self.b(y)) + late)
        return y.mean((2, 3)), z, z.flatten(1).argmax(1)


@cache
def graph(make: str) -> Graph:
    return tersor.trace(trained({"residual": residual, "chain": chain}[make](), (16, 3, 12, 12)), (torch.randn(1, 3, 12, 12),))


@cache
def images(seed: int = 3, count: int = 512) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(F.interpolate(torch.randn(count, 3, 4, 4, generator=generator), size=(12, 12), mode="bilinear").split(32))


def error(small: Graph, g: Graph) -> float:
    """Relative error on images that no fit has seen."""
    x = torch.cat(images(9))
    y = g(x)
    return float((y - small(x)).square().sum() / (y - y.mean(0)).square().sum())


def itself(g: Graph, old: Graph) -> dict[object, Then]:
    """Pairs of a clone."""
    return {v: Then(w, {}) for a, b in zip(g.ops, old.ops, strict=True) for v, w in zip(a.outs, b.outs)}


@pytest.mark.parametrize("make, method", [("residual", "obs"), ("chain", "l1")])
def test_better_than_least_squares_alone(make: str, method: str) -> None:
    g = graph(make)
    before = [op.array.copy() for op in g if isinstance(op, Const)]
    plain, fitted = (
        tersor.transform(g, f"prune-channels{{macs=0.5 method={method} block_epochs={n}}}", calibration=images(), seed=1) for n in (0, 20)
    )
    assert [c.w.shape for c in plain.find(Conv2d)] == [c.w.shape for c in fitted.find(Conv2d)]
    assert error(fitted, g) < 0.9 * error(plain, g)
    assert fitted.report is not None and fitted.report.rows[-1].rewrites["blocks fitted"] >= 1
    assert all(np.array_equal(a, op.array) for a, op in zip(before, (op for op in g if isinstance(op, Const))))


def test_the_same_for_a_seed() -> None:
    one, two = (tersor.transform(graph("residual"), "prune-channels{macs=0.6 block_epochs=2}", calibration=images(), seed=5) for _ in range(2))
    assert all(np.array_equal(a.array, b.array) for a, b in zip(one.find(Const), two.find(Const), strict=True))


def test_cut_where_all_data_passes_through_one_value() -> None:
    g = graph("residual")
    ops = [op for op in g.ops if not isinstance(op, Const)]
    places = narrow_places(g, ops)
    inside = {op.out for op in ops if isinstance(op, Conv2d) and op.loc.path.endswith((".a", ".b"))}
    sums = {op.out for op in ops if isinstance(op, Relu) and isinstance(op.x.op, Add)}
    assert len(sums) == 4 and sums <= places.keys() and not inside & places.keys()
    assert all(ops[n - 1].out is v for v, n in places.items())


def test_blocks_have_the_depth_that_is_asked() -> None:
    g = graph("residual").clone()
    old = graph("residual")
    for depth, convs in ((1, [1, 2, 2, 2, 2, 0]), (2, [3, 2, 2, 2, 0]), (4, [5, 4, 0]), (100, [9])):
        blocks = list(blocks_of(g, old, itself(g, old), depth))
        assert [sum(isinstance(op, Conv2d) for op in b.current) for b in blocks] == convs
        assert [len(b.current) for b in blocks] == [len(b.original) for b in blocks]


def test_a_block_that_gets_worse_is_put_back() -> None:
    old = graph("chain")
    g = old.clone()
    for conv in g.find(Conv2d):
        g.replace(conv.w.op, Const(conv.w.op.array * np.float32(1.001), loc=conv.loc))
    worse = error(g, old)
    arrays = [op.array.copy() for op in g.find(Const)]
    fits = refit_blocks(g, old, itself(g, old), images(), Context(), "test", images=512, epochs=1, rate=30.0)
    assert len(fits) > 1 and all(f.after == f.before for f in fits)
    assert error(g, old) == worse and all(np.array_equal(a, op.array) for a, op in zip(arrays, g.find(Const), strict=True))


def test_outputs_of_several_kinds() -> None:
    g = tersor.trace(trained_two(), (torch.randn(1, 3, 12, 12), torch.randn(1, 8, 12, 12)))
    late = torch.randn(512, 8, 12, 12, generator=torch.Generator().manual_seed(4))
    calibration = [(x, y) for x, y in zip(images(), late.split(32))]
    plain, fitted = (tersor.transform(g, f"prune-channels{{ratio=0.4 block_epochs={n}}}", calibration=calibration, seed=1) for n in (0, 10))
    x = (torch.cat(images(9)), late)
    wanted = g(*x)[:2]
    errors = [sum(float(((a - b) ** 2).mean() / a.var()) for a, b in zip(wanted, s(*x)[:2])) for s in (fitted, plain)]
    assert errors[0] < errors[1]


def trained_two() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    module = TwoOutputs()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.5)
    return module.eval()


def test_epochs_below_zero() -> None:
    with pytest.raises(tersor.TersorError, match="block_epochs is the number of passes over the images, 0 for none; got -1"):
        tersor.transform(graph("chain"), "prune-channels{macs=0.5 block_epochs=-1}", calibration=images())
