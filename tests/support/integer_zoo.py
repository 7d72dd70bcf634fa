"""Published networks with few channels in int8, and their results on images by numpy loops over int64 (`integer_network`)."""

from __future__ import annotations

import functools
from collections.abc import Callable

import integer_network as oracle
import numpy as np
import torch
from torch import nn

import tersor
from tersor.bench import models, more_models
from tersor.ir.graph import Graph


def unet() -> nn.Module:
    """Resized by nearest neighbours where the published one resizes bilinearly, which stays float."""
    net = more_models.UNet(8, 3, 2)
    for module in net.modules():
        if isinstance(module, nn.Upsample):
            module.mode, module.align_corners = "nearest", None
    return net


#: By name: the network, and the height and width of its images.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "resnet18": (lambda: models.resnet18(0.25, 10), (40, 32)),
    "resnet50": (lambda: models.resnet50(0.125, 10), (40, 32)),
    "mobilenet_v1": (lambda: models.mobilenet_v1(0.25, 10), (40, 32)),
    "mobilenetv2": (lambda: models.mobilenetv2(0.25, 10), (40, 32)),
    "squeezenet1_1": (lambda: models.squeezenet1_1(0.25, 10), (47, 32)),
    "shufflenetv2": (lambda: models.shufflenetv2(0.25, 10), (40, 32)),
    # its adaptive pooling to 7x7 is an average of windows of one size at this resolution
    "vgg16": (lambda: models.vgg16(0.125, 10, 64), (224, 224)),
    "efficientnet_lite0": (lambda: more_models.efficientnet_lite0(0.25, 10), (40, 32)),
    "mobilenet_v3": (lambda: more_models.mobilenet_v3_large(0.25, 10), (40, 32)),
    "densenet121": (lambda: more_models.densenet121(8, (2, 3, 4, 2), 10), (40, 32)),
    "unet": (unet, (40, 32)),
    "inception_v3": (lambda: more_models.inception_v3(0.125, 10), (90, 77)),
}


def images(name: str, count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, *NETWORKS[name][1], generator=torch.Generator().manual_seed(seed)) + 0.2


@functools.cache
def integer(name: str) -> Graph:
    """The network after the preset `int8`."""
    build, _ = NETWORKS[name]
    torch.manual_seed(0)
    module = models.randomize(build(), (images(name, 8, 1),))
    return tersor.transform(tersor.trace(module, (images(name, 1, 0),)), "int8", calibration=[images(name, 4, 1)])


@functools.cache
def expected(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Three images, and the results of the loops."""
    x = images(name, 3, 2).numpy()
    (y,) = oracle.run(integer(name).at(3), x)
    assert not np.array_equal(y[0], y[1]), "the images have different results"
    return x, y
