"""Binary networks for ImageNet's size, with random weights: Bi-Real-18 and QuickNet. Written in floats; `binarize` makes them binary.

Both keep a residual stream of floats: a binary convolution reads the signs of the stream, and its batch norm adds to it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

import tersor
from tersor.ir import Graph

from .models import Classifier, conv_bn

#: What makes the residual branches of these networks binary. The scale of the inputs, which XNOR-Net has, is in neither.
BINARIZE = 'binarize{activations=true input_scale=false insert_norm=false exclude=["*.keep.*"]}'


class Branch(nn.Module):
    """shortcut(x) + bn(act(conv(sign(x)))) once binary."""

    def __init__(self, cin: int, cout: int, stride: int, act: nn.Module, shortcut: nn.Module):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), act, nn.BatchNorm2d(cout))
        self.keep = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.keep(x) + self.body(x)
        return y


class Kept(nn.Module):
    """Layers that stay in floats."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.keep = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.keep(x)
        return y


def bi_real18() -> nn.Module:
    """ResNet-18 with a shortcut around every 3x3 convolution; an average pool and a 1x1 convolution where it halves the map (1808.00278)."""
    layers: list[nn.Module] = [Kept(conv_bn(3, 64, kernel=7, stride=2, act=None), nn.MaxPool2d(3, 2, 1))]
    cin = 64
    for cout in (64, 128, 256, 512):
        for _ in range(4):
            stride = 2 if cin != cout else 1
            half = nn.Sequential(nn.AvgPool2d(2), conv_bn(cin, cout, kernel=1, act=None))
            layers.append(Branch(cin, cout, stride, nn.Identity(), half if stride > 1 else nn.Identity()))
            cin = cout
    return Classifier(nn.Sequential(*layers), cin, 1000)


def quicknet() -> nn.Module:
    """Four sections of four binary convolutions; between them a max pool, a depthwise convolution of stride 2 and a 1x1 one (2011.09398)."""
    depthwise = conv_bn(16, 16, stride=2, groups=16, act=None)
    layers: list[nn.Module] = [Kept(conv_bn(3, 16, stride=2), depthwise, conv_bn(16, 64, kernel=1, act=None))]
    cin = 64
    for cout in (64, 128, 256, 512):
        if cin != cout:
            blur = nn.Conv2d(cin, cin, 3, 2, 1, groups=cin, bias=False)
            layers.append(Kept(nn.ReLU(), nn.MaxPool2d(2, 1), blur, conv_bn(cin, cout, kernel=1, act=None)))
        layers += [Branch(cout, cout, 1, nn.ReLU(), nn.Identity()) for _ in range(4)]
        cin = cout
    return Classifier(nn.Sequential(*layers, nn.ReLU()), cin, 1000)


NETWORKS: dict[str, Callable[[], nn.Module]] = {"Bi-Real-18": bi_real18, "QuickNet": quicknet}


def network(name: str) -> tuple[Graph, Graph]:
    """The float graph of a network at 224 pixels, and its packed binary form. Weights and statistics of batch norms are random."""
    torch.manual_seed(0)
    module = NETWORKS[name]().eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.2)
    graph = tersor.trace(module, (torch.zeros(1, 3, 224, 224),))
    return graph, tersor.transform(graph, f"{BINARIZE},to-bits")
