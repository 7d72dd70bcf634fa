"""Small models for the whole suite: reduced copies of the networks of bench/, and small ones for single topologies.

`ZOO[name]()` gives (module in evaluation mode, example inputs at batch 1); `traced(name)` the graph, traced once a session:
clone it before you change it.
Weights and inputs are random and seeded; activations keep their scale.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tersor.bench import models, more_models
from tersor.frontend.torch.trace import trace
from tersor.ir.graph import Graph

Inputs = tuple[torch.Tensor, ...]
Model = tuple[nn.Module, Inputs]

ZOO: dict[str, Callable[[], Model]] = {}

#: Names of the reduced copies of published networks.
NETWORKS = (
    "resnet18",
    "resnet50",
    "mobilenet_v1",
    "mobilenetv2",
    "squeezenet1_1",
    "shufflenetv2",
    "vgg16",
    "densenet121",
    "efficientnet_b0",
    "convnext_tiny",
    "mobilenet_v3_large",
    "regnet_y_400mf",
    "unet",
    "inception_v3",
    "two_input",
    "detector",
)


def with_batch(inputs: Inputs, batch: int, seed: int = 1) -> Inputs:
    """Fresh random inputs of the same shapes and dtypes at another batch; integers stay within the range of the example."""
    generator = torch.Generator().manual_seed(seed)

    def fresh(x: torch.Tensor) -> torch.Tensor:
        shape = (batch, *x.shape[1:]) if x.dim() else x.shape
        if x.is_floating_point():
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(x.dtype)
        return torch.randint(int(x.min()), int(x.max()) + 1, shape, generator=generator, dtype=x.dtype)

    return tuple(fresh(x) for x in inputs)


@cache
def built(name: str) -> Model:
    """The module and its example inputs, made once a session; do not change them."""
    return ZOO[name]()


@cache
def traced(name: str) -> Graph:
    """The graph of a model of the zoo at batch 1."""
    module, inputs = built(name)
    return trace(module, inputs)


def _add(name: str, module: Callable[[], nn.Module], *shapes: tuple[int, ...], calibrate: int = 32) -> None:
    def make() -> Model:
        generator = torch.Generator().manual_seed(7)
        inputs = tuple(torch.randn(s, generator=generator) for s in shapes)
        return models.randomize(module(), with_batch(inputs, calibrate)), inputs

    ZOO[name] = make


_add("resnet18", lambda: models.resnet18(0.25, 10), (1, 3, 64, 64))
_add("resnet50", lambda: models.resnet50(0.125, 10), (1, 3, 64, 64))
_add("mobilenet_v1", lambda: models.mobilenet_v1(0.25, 10), (1, 3, 64, 64))
_add("mobilenetv2", lambda: models.mobilenetv2(0.25, 10), (1, 3, 64, 64))
_add("squeezenet1_1", lambda: models.squeezenet1_1(0.25, 10), (1, 3, 64, 64))
_add("shufflenetv2", lambda: models.shufflenetv2(0.25, 10), (1, 3, 64, 64))
_add("vgg16", lambda: models.vgg16(0.125, 10, 64), (1, 3, 64, 64))
_add("densenet121", lambda: more_models.densenet121(8, (2, 3, 4, 2), 10), (1, 3, 64, 64))
_add("efficientnet_b0", lambda: more_models.efficientnet_b0(0.25, 10), (1, 3, 64, 64))
_add("convnext_tiny", lambda: more_models.convnext_tiny(0.17, (1, 1, 2, 1), 10), (1, 3, 64, 64))
_add("mobilenet_v3_large", lambda: more_models.mobilenet_v3_large(0.25, 10), (1, 3, 64, 64))
_add("regnet_y_400mf", lambda: more_models.regnet_y_400mf(0.5, (1, 1, 2, 2), 10), (1, 3, 64, 64))
_add("unet", lambda: more_models.UNet(8, 4, 2), (1, 3, 64, 64))
_add("inception_v3", lambda: more_models.inception_v3(0.125, 10), (1, 3, 107, 107))
_add("two_input", lambda: more_models.TwoInput(8), (1, 3, 32, 32), (1, 10))
_add("detector", lambda: more_models.Detector(8), (1, 3, 32, 32))


class ConvAddRelu(nn.Module):
    """The smallest residual: relu(bn(conv(x)) + x), named so that the graph is easy to read after every stage."""

    def __init__(self, channels: int = 16):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(x)) + x)


class Attention(nn.Module):
    """A class token before the patches of an image, one transformer block, layer norms; the batch goes through expand and reshape."""

    def __init__(self, width: int = 16, heads: int = 2, patches: int = 16):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.place = nn.Parameter(torch.randn(1, patches + 1, width) * 0.2)
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(approximate="tanh"), nn.Linear(2 * width, width))
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.patch(x).flatten(2).transpose(1, 2)
        b, _, c = y.shape
        y = torch.cat([self.token.expand(b, -1, -1), y], 1) + self.place
        q, k, v = self.qkv(self.norm1(y)).reshape(b, -1, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = y + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, -1, c))
        z: torch.Tensor = (y + self.mlp(self.norm2(y)))[:, 0]
        return z


class Shared(nn.Module):
    """One convolution used twice, and a second module that holds the same weight."""

    def __init__(self, channels: int = 8):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.second(F.relu(self.first(F.relu(self.first(x)))))
        return y


class Text(nn.Module):
    """Token numbers -> embedding -> 1-d convolution -> maximum over time."""

    def __init__(self, words: int = 20, width: int = 12):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.conv = nn.Conv1d(width, 2 * width, 3, padding="same")
        self.head = nn.Linear(2 * width, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        y = F.elu(self.conv(self.embedding(tokens).transpose(1, 2)))
        z: torch.Tensor = self.head(y.amax(-1))
        return z


class SuperResolution(nn.Module):
    """prelu, pixel shuffle, reflection padding, instance norm and a residual from nearest upsampling."""

    def __init__(self, width: int = 12):
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(2), nn.Conv2d(3, width, 5), nn.PReLU(width), nn.InstanceNorm2d(width, affine=True), nn.Conv2d(width, 12, 3, padding=1)
        )
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shuffle(self.body(x)) + F.interpolate(x, scale_factor=2.0)


_add("conv_add_relu", ConvAddRelu, (1, 16, 12, 12))
_add("attention", Attention, (1, 3, 16, 16))
_add("shared", Shared, (1, 8, 10, 10))
_add("super_resolution", SuperResolution, (1, 3, 12, 12))


def _text() -> Model:
    torch.manual_seed(7)
    return models.randomize(Text(), ()), (torch.randint(0, 20, (1, 9)),)


ZOO["text"] = _text


def leaves(result: Any) -> list[torch.Tensor]:
    """Tensors of a nested result in order of its keys and positions; None counts as none."""
    if result is None or isinstance(result, torch.Tensor):
        return [] if result is None else [result]
    parts = result.values() if isinstance(result, dict) else result
    return [t for part in parts for t in leaves(part)]
