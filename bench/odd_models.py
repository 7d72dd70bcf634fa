"""Networks with geometries that no other network of bench/ has: dilated 3x3 convolutions, and channel counts that no vector divides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from .models import Classifier, Residual, conv_bn


def dilated_resnet18(classes: int = 1000) -> nn.Module:
    """ResNet-18 whose last two stages keep 1/8 of the input's size and dilate by 2 and 4 instead (Yu et al., 1705.09914, DRN-A)."""
    return _resnet((64, 128, 256, 512), (1, 2, 1, 1), (1, 1, 2, 4), classes)


def odd_resnet18(classes: int = 1000) -> nn.Module:
    """ResNet-18 with about 0.7 of its channels, each count odd, as channel pruning leaves them."""
    return _resnet((45, 91, 181, 361), (1, 2, 2, 2), (1, 1, 1, 1), classes)


def _resnet(channels: Sequence[int], strides: Sequence[int], dilations: Sequence[int], classes: int) -> nn.Module:
    """Two basic blocks a stage."""

    def conv3x3_bn(cin: int, cout: int, stride: int, dilation: int) -> list[nn.Module]:
        return [nn.Conv2d(cin, cout, 3, stride, padding=dilation, dilation=dilation, bias=False), nn.BatchNorm2d(cout)]

    cin = channels[0]
    layers: list[nn.Module] = [conv_bn(3, cin, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for cout, first, dilation in zip(channels, strides, dilations):
        for stride in (first, 1):
            body = nn.Sequential(*conv3x3_bn(cin, cout, stride, dilation), nn.ReLU(inplace=True), *conv3x3_bn(cout, cout, 1, dilation))
            same = stride == 1 and cin == cout
            layers.append(Residual(body, nn.Identity() if same else conv_bn(cin, cout, 1, stride, act=None)))
            cin = cout
    return Classifier(nn.Sequential(*layers), cin, classes)


ODD: dict[str, Callable[[], nn.Module]] = {"dilated_resnet18": dilated_resnet18, "odd_resnet18": odd_resnet18}
