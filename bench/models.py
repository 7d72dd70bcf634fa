"""Networks of our own definition, with random weights: the seven that latency is measured on, and more for the correctness matrix.

`build(name, seed)` gives the full-size module in evaluation mode; the constructors take a width factor for small copies.
The seven have the multiply-accumulates of the published models at 224x224 (`GMACS`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

GMACS = {
    "resnet18": 1.814,
    "resnet50": 3.858,
    "mobilenet_v1": 0.569,
    "mobilenetv2": 0.314,
    "squeezenet1_1": 0.349,
    "shufflenetv2": 0.145,
    "vgg16": 15.470,
}


def scaled(channels: int, width: float, divisor: int = 8) -> int:
    """channels * width, rounded to a multiple of `divisor` and never by more than 10 % down (MobileNet's rule)."""
    rounded = max(divisor, int(channels * width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels * width else rounded


def conv_bn(
    cin: int,
    cout: int,
    kernel: int | tuple[int, int] = 3,
    stride: int = 1,
    groups: int = 1,
    act: Callable[[], nn.Module] | None = lambda: nn.ReLU(inplace=True),
    padding: int | tuple[int, int] | None = None,
    eps: float = 1e-5,
) -> nn.Sequential:
    """conv2d without bias + batch norm (+ activation), padded to keep the size at stride 1."""
    if padding is None:
        padding = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
    layers: list[nn.Module] = [nn.Conv2d(cin, cout, kernel, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(cout, eps=eps)]
    return nn.Sequential(*layers, act()) if act else nn.Sequential(*layers)


class Classifier(nn.Module):
    """features -> global average pool -> linear."""

    def __init__(self, features: nn.Module, channels: int, classes: int):
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(torch.flatten(self.pool(self.features(x)), 1))
        return y


class Residual(nn.Module):
    """relu(body(x) + shortcut(x))"""

    def __init__(self, body: nn.Module, shortcut: nn.Module):
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.relu(self.body(x) + self.shortcut(x))
        return y


def resnet(blocks: Sequence[int], bottleneck: bool, width: float = 1.0, classes: int = 1000) -> nn.Module:
    """He et al., 1512.03385; the stride of a bottleneck lies in its first 1x1 convolution, as published."""
    cin = scaled(64, width)
    layers: list[nn.Module] = [conv_bn(3, cin, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for stage, count in enumerate(blocks):
        mid = scaled(64 << stage, width)
        cout = mid * 4 if bottleneck else mid
        for i in range(count):
            stride = 2 if i == 0 and stage > 0 else 1
            if bottleneck:
                body = nn.Sequential(conv_bn(cin, mid, 1, stride), conv_bn(mid, mid), conv_bn(mid, cout, 1, act=None))
            else:
                body = nn.Sequential(conv_bn(cin, mid, 3, stride), conv_bn(mid, cout, act=None))
            same = stride == 1 and cin == cout
            layers.append(Residual(body, nn.Identity() if same else conv_bn(cin, cout, 1, stride, act=None)))
            cin = cout
    return Classifier(nn.Sequential(*layers), cin, classes)


def resnet18(width: float = 1.0, classes: int = 1000) -> nn.Module:
    return resnet((2, 2, 2, 2), False, width, classes)


def resnet50(width: float = 1.0, classes: int = 1000) -> nn.Module:
    return resnet((3, 4, 6, 3), True, width, classes)


def mobilenet_v1(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """Howard et al., 1704.04861"""
    cin = scaled(32, width)
    layers: list[nn.Module] = [conv_bn(3, cin, 3, 2)]
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for channels, stride in plan:
        cout = scaled(channels, width)
        layers += [conv_bn(cin, cin, 3, stride, groups=cin), conv_bn(cin, cout, 1)]
        cin = cout
    return Classifier(nn.Sequential(*layers), cin, classes)


class InvertedResidual(nn.Module):
    """1x1 expand -> depthwise -> (squeeze and excitation) -> 1x1 project, added to x when the shapes agree (1801.04381)."""

    def __init__(self, body: nn.Module, residual: bool):
        super().__init__()
        self.body = body
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(x)
        return x + y if self.residual else y


def mobilenetv2(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """Sandler et al., 1801.04381; the first block keeps its 1x1 convolution at expansion 1."""

    def relu6() -> nn.Module:
        return nn.ReLU6(inplace=True)

    cin = scaled(32, width)
    layers: list[nn.Module] = [conv_bn(3, cin, 3, 2, act=relu6)]
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, channels, count, stride in plan:
        cout = scaled(channels, width)
        for i in range(count):
            mid, s = cin * expansion, stride if i == 0 else 1
            body = nn.Sequential(conv_bn(cin, mid, 1, act=relu6), conv_bn(mid, mid, 3, s, groups=mid, act=relu6), conv_bn(mid, cout, 1, act=None))
            layers.append(InvertedResidual(body, s == 1 and cin == cout))
            cin = cout
    last = scaled(1280, width)
    layers.append(conv_bn(cin, last, 1, act=relu6))
    return Classifier(nn.Sequential(*layers), last, classes)


class Fire(nn.Module):
    """1x1 squeeze -> concat of 1x1 and 3x3 expands (1602.07360)."""

    def __init__(self, cin: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(cin, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1 (Iandola et al., 1602.07360)."""

    def __init__(self, width: float = 1.0, classes: int = 1000):
        super().__init__()
        cin = scaled(64, width)
        layers: list[nn.Module] = [nn.Conv2d(3, cin, 3, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True)]
        for i, (squeeze, expand) in enumerate([(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]):
            layers.append(Fire(cin, scaled(squeeze, width), scaled(expand, width)))
            cin = 2 * scaled(expand, width)
            if i in (1, 3):
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(cin, classes, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)


class ShuffleUnit(nn.Module):
    """Half of the channels pass through, half are convolved; then the halves are shuffled (1807.11164)."""

    def __init__(self, cin: int, cout: int, stride: int):
        super().__init__()
        self.stride = stride
        half = cout // 2
        source = cin if stride > 1 else half
        self.main = nn.Sequential(conv_bn(source, half, 1), conv_bn(half, half, 3, stride, groups=half, act=None), conv_bn(half, half, 1))
        self.side = nn.Sequential(conv_bn(cin, cin, 3, stride, groups=cin, act=None), conv_bn(cin, half, 1)) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride > 1:
            y = torch.cat([self.side(x), self.main(x)], 1)
        else:
            kept, changed = x.chunk(2, 1)
            y = torch.cat([kept, self.main(changed)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shufflenetv2(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """ShuffleNetV2 1.0x (Ma et al., 1807.11164)."""
    cin = 24
    layers: list[nn.Module] = [conv_bn(3, cin, 3, 2), nn.MaxPool2d(3, 2, 1)]
    for channels, count in [(116, 4), (232, 8), (464, 4)]:
        cout = scaled(channels, width, 4)
        layers += [ShuffleUnit(cin if i == 0 else cout, cout, 2 if i == 0 else 1) for i in range(count)]
        cin = cout
    last = scaled(1024, width)
    layers.append(conv_bn(cin, last, 1))
    return Classifier(nn.Sequential(*layers), last, classes)


class VGG(nn.Module):
    """VGG-16 (Simonyan and Zisserman, 1409.1556)."""

    def __init__(self, width: float = 1.0, classes: int = 1000, hidden: int = 4096):
        super().__init__()
        layers: list[nn.Module] = []
        cin = 3
        for channels, count in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]:
            for _ in range(count):
                cout = scaled(channels, width)
                layers += [nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU(inplace=True)]
                cin = cout
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(cin * 49, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.classifier(torch.flatten(self.pool(self.features(x)), 1))
        return y


def vgg16(width: float = 1.0, classes: int = 1000, hidden: int = 4096) -> nn.Module:
    return VGG(width, classes, hidden)


def squeezenet1_1(width: float = 1.0, classes: int = 1000) -> nn.Module:
    return SqueezeNet(width, classes)


SEVEN: dict[str, Callable[[], nn.Module]] = {
    "resnet18": resnet18,
    "resnet50": resnet50,
    "mobilenet_v1": mobilenet_v1,
    "mobilenetv2": mobilenetv2,
    "squeezenet1_1": squeezenet1_1,
    "shufflenetv2": shufflenetv2,
    "vgg16": vgg16,
}


def randomize(module: nn.Module, sample: Sequence[torch.Tensor], seed: int = 0, gain: float = 1.0) -> nn.Module:
    """Random weights and batch norm statistics under which activations keep their scale from input to output; evaluation mode.

    Kaiming's normal weights (1502.01852), small biases; batch norms take their statistics from a forward pass over `sample`,
    then these are disturbed, so that no batch norm is close to an identity. gain: mean of the batch norms' factors.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(t: torch.Tensor, std: float) -> torch.Tensor:
        return torch.randn(t.shape, generator=generator, dtype=t.dtype) * std

    def uniform(t: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(t.shape, generator=generator, dtype=t.dtype) * (high - low) + low

    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                taps = m.weight.shape[0] / m.stride[0] ** 2 if isinstance(m, nn.ConvTranspose2d) else m.weight.shape[1]
                fan_in = taps * m.weight[0, 0].numel()
                m.weight.copy_(normal(m.weight, (2.0 / fan_in) ** 0.5))
                if m.bias is not None:
                    m.bias.copy_(normal(m.bias, 0.05))
            elif isinstance(m, nn.modules.batchnorm._BatchNorm):
                m.weight.copy_(uniform(m.weight, 0.5, 1.5) * gain)
                m.bias.copy_(normal(m.bias, 0.2) * gain)
                m.momentum = None
        module.eval()
        for norm in norms:
            norm.train()
        if norms:
            module(*sample)
        for norm in norms:
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.add_(normal(norm.running_mean, 0.1) * norm.running_var.sqrt())
            norm.running_var.mul_(uniform(norm.running_var, 0.8, 1.25))
            norm.momentum = 0.1
    return module.eval()


def build(name: str, seed: int = 0) -> nn.Module:
    """A full-size network in evaluation mode with random weights; the same seed gives the same weights."""
    from .more_models import MORE, NOT_IMAGES

    known = SEVEN | MORE
    if name not in known:
        raise ValueError(f"unknown network {name!r}; known: {', '.join(known)}")
    generator = torch.Generator().manual_seed(seed + 1)
    sample = NOT_IMAGES[name](generator) if name in NOT_IMAGES else (torch.randn(8, 3, 224, 224, generator=generator),)
    return randomize(known[name](), sample, seed)
