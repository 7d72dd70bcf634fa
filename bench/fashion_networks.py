"""Small networks for 28x28 grey images: a ResNet-20, a wide ResNet-8, a VGG-like chain, a MobileNet; each also with fewer channels.

`build(name, macs)` narrows by one factor what channel pruning can narrow: in the ResNet the channels inside the residual branches (the
residual stream keeps its width), in the others all channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from .fashion import CLASSES
from .models import Classifier, conv_bn

#: Output channels and stride of the first block, and of each depthwise-separable block.
MOBILENET = ((32, 1), (64, 1), (64, 2), (128, 1), (128, 2), (256, 1))
#: Output channels of the 3x3 convolutions; 0 is a 2x2 max pooling.
VGG = (32, 32, 0, 64, 64, 0, 128, 128)


def narrowed(channels: int, width: float) -> int:
    return max(1, round(channels * width))


class Residual(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)) with `inner` channels between the convolutions (He et al., 1512.03385)."""

    def __init__(self, cin: int, inner: int, cout: int, stride: int):
        super().__init__()
        self.a = conv_bn(cin, inner, stride=stride)
        self.b = conv_bn(inner, cout, act=None)
        self.shortcut = conv_bn(cin, cout, kernel=1, stride=stride, act=None) if stride > 1 or cin != cout else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.b(self.a(x)) + self.shortcut(x))


def resnet20(width: float = 1.0) -> nn.Module:
    """16, 32 and 64 channels, three blocks of two convolutions each; `width` is that of the branches' inner channels."""
    return resnet(conv_bn(1, 16), ((16, 1), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1)), width)


def resnet8(width: float = 1.0) -> nn.Module:
    """Blocks of 64, 64 and 96 channels after a 5x5 convolution of stride 2: nearly as many parameters as the ResNet-20, in fewer and wider layers,
    and an epoch of training in a third of its time."""
    return resnet(conv_bn(1, 64, kernel=5, stride=2), ((64, 2), (64, 1), (96, 2)), width)


def resnet(stem: nn.Module, blocks: Sequence[tuple[int, int]], width: float) -> nn.Module:
    """Residual blocks of (channels, stride) after a `stem` of as many channels as the first has."""
    cin = blocks[0][0]
    layers: list[nn.Module] = [stem]
    for cout, stride in blocks:
        layers.append(Residual(cin, narrowed(cout, width), cout, stride))
        cin = cout
    return Classifier(nn.Sequential(*layers), cin, CLASSES)


def vgg(width: float = 1.0) -> nn.Module:
    """Six 3x3 convolutions with batch norm in three stages."""
    layers: list[nn.Module] = []
    cin = 1
    for cout in VGG:
        layers.append(conv_bn(cin, narrowed(cout, width)) if cout else nn.MaxPool2d(2))
        cin = narrowed(cout, width) if cout else cin
    return Classifier(nn.Sequential(*layers), cin, CLASSES)


def mobilenet(width: float = 1.0) -> nn.Module:
    """Depthwise-separable convolutions (Howard et al., 1704.04861)."""
    (stem, stride), *blocks = [(narrowed(c, width), s) for c, s in MOBILENET]
    layers: list[nn.Module] = [conv_bn(1, stem, stride=stride)]
    cin = stem
    for cout, stride in blocks:
        layers += [conv_bn(cin, cin, stride=stride, groups=cin), conv_bn(cin, cout, kernel=1)]
        cin = cout
    return Classifier(nn.Sequential(*layers), cin, CLASSES)


NETWORKS: dict[str, Callable[[float], nn.Module]] = {"resnet20": resnet20, "resnet8": resnet8, "vgg": vgg, "mobilenet": mobilenet}


def build(name: str, macs: float = 1.0, seed: int = 0) -> nn.Module:
    """The network with at most the share `macs` of its multiply-accumulates, and as near to it as one width factor comes; seeded weights."""
    if name not in NETWORKS:
        raise SystemExit(f"unknown network {name!r}; known: {', '.join(NETWORKS)}")
    make = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(1.0 if macs == 1 else fitting_width(make, macs))


#: Widths to choose from, the largest first.
WIDTHS = tuple(i / 128 for i in range(128, 0, -1))


def fitting_width(make: Callable[[float], nn.Module], macs: float, widths: Sequence[float] = WIDTHS) -> float:
    """The largest width whose network stays within the share of MACs."""
    budget = macs * count_macs(make(1.0))
    for width in widths:
        if count_macs(make(width)) <= budget:
            return width
    raise SystemExit(f"no width of the network leaves {macs:.0%} of its multiply-accumulates")


def count_macs(module: nn.Module) -> int:
    """Multiply-accumulates of convolutions and linear layers for one image, as the shapes of a run say."""
    total = 0

    def count(layer: nn.Module, _: object, y: torch.Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        total += weight.numel() * (y.shape[2] * y.shape[3] if y.dim() == 4 else 1)

    hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    training = module.training
    with torch.no_grad():
        module.eval()(torch.zeros(1, 1, 28, 28))
    module.train(training)
    for hook in hooks:
        hook.remove()
    return total
