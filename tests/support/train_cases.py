"""A small network and coloured shapes to train it on."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

import tersor
from tersor.ir import Const, Graph

CLASSES = 4

torch.set_num_threads(1)


def eager(norm: bool = True, seed: int = 0) -> nn.Module:
    """Two convolutions, batch norms if wanted, a linear layer: 12x12 grey images to four classes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for cin, cout in ((1, 8), (8, 16)):
            layers += [nn.Conv2d(cin, cout, 3, padding=1, bias=not norm), *([nn.BatchNorm2d(cout)] if norm else []), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 9, CLASSES)).eval()


@cache
def graph(norm: bool = True, seed: int = 0) -> Graph:
    """The traced network; transform it, but do not change it."""
    return tersor.trace(eager(norm, seed), (torch.zeros(1, 1, 12, 12),))


@cache
def shapes(count: int = 256, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of a bright box, noisy, and labels: whether it is tall, whether it is wide."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=random)
    images = 0.5 * torch.randn(count, 1, 12, 12, generator=random)
    for image, label in zip(images, labels):
        image[0, : 10 if label // 2 else 4, : 10 if label % 2 else 4] += 1
    return images, labels


def accuracy(g: Graph) -> float:
    """The share of other images that a graph gets right."""
    x, y = shapes(200, seed=1)
    return float((g(x).argmax(1) == y).float().mean())


def weights(g: Graph) -> dict[str, torch.Tensor]:
    """All constants of a graph by name."""
    return {op.out.name: torch.from_numpy(op.array.copy()) for op in g if isinstance(op, Const)}


def same(a: Graph, b: Graph) -> bool:
    """Whether two graphs of one kind have the same weights, bit for bit."""
    x, y = weights(a), weights(b)
    return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)
