"""What an error in a layer does to the outputs, against Jacobians and against errors that are made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import tersor
from tersor.ir.ops import Conv2d, Linear
from tersor.passes.prune.curvature import curvature


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor, more: torch.Tensor | None = None) -> torch.Tensor:
        y = self.a(x) if more is None else self.a(x) + more
        z: torch.Tensor = self.fc(torch.relu(self.b(torch.tanh(y))).mean((2, 3)))
        return z


def test_it_is_the_squared_jacobian() -> None:
    torch.manual_seed(0)
    module, x = Net().eval(), torch.randn(3, 2, 7, 7)
    graph = tersor.trace(module, (x[:1],))
    found = curvature(graph, [x], 3, np.random.default_rng(0), chunk=3)
    draws = [curvature(graph, [x], 3, np.random.default_rng(i), chunk=3) for i in range(400)]
    first, last = graph.find(Conv2d)[0], graph.find(Linear)[0]
    scale = float(module(x).detach().std())
    jacobian: torch.Tensor = torch.autograd.functional.jacobian(lambda more: module(x, more), torch.zeros(3, 3, 5, 5))  # type: ignore[no-untyped-call]
    expected = jacobian.square().sum((0, 1, 2, 4, 5)) / scale**2 / 3
    np.testing.assert_allclose(np.mean([d[first] for d in draws], axis=0), expected.numpy(), rtol=0.15)
    # signs squared are 1: exact where outputs do not mix
    np.testing.assert_allclose(found[last], np.full(5, 1 / scale**2), rtol=1e-5)


def test_it_says_how_much_the_output_errs() -> None:
    """Noise in one channel of one layer, small enough to be linear."""
    torch.manual_seed(1)
    module, x = Net().eval(), torch.randn(64, 2, 7, 7)
    graph = tersor.trace(module, (x[:1],))
    sensitivity = np.mean([curvature(graph, [x], 64, np.random.default_rng(i))[graph.find(Conv2d)[0]] for i in range(20)], axis=0)
    y = module(x).detach()
    for channel in range(3):
        noise = torch.zeros(64, 3, 5, 5)
        noise[:, channel] = 1e-3 * torch.randn(64, 5, 5)
        error = float((module(x, noise) - y).square().sum() / y.var() / 64)
        assert sensitivity[channel] * 1e-6 == pytest.approx(error, rel=0.3)


def test_several_outputs_and_whole_numbers() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.unread = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            return self.a(x) * 100, self.b(x), self.unread(x).argmax(1)

    torch.manual_seed(0)
    graph = tersor.trace(Two().eval(), (torch.randn(1, 2, 6, 6),))
    a, b, unread = (curvature(graph, [torch.randn(8, 2, 6, 6)], 8, np.random.default_rng(0))[c] for c in graph.find(Conv2d))
    assert not unread.any() and b.all()
    # each output counts relative to its own spread, so the factor 100 does not matter
    assert a.mean() == pytest.approx(b.mean(), rel=0.5)


def test_nothing_to_go_by() -> None:
    class Label(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(2, 3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x).argmax(1)  # type: ignore[no-any-return]

    graph = tersor.trace(Label().eval(), (torch.randn(1, 2, 6, 6),))
    with pytest.raises(tersor.TersorError, match="no output of the graph has a gradient"):
        curvature(graph, [torch.randn(2, 2, 6, 6)], 2, np.random.default_rng(0))
