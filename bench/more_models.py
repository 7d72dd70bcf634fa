"""Further architectures of our own definition: between them they use every kind of operator that CNNs use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .models import Classifier, InvertedResidual, Residual, conv_bn, scaled
from .odd_models import ODD

Activation = Callable[[], nn.Module]


class SqueezeExcite(nn.Module):
    """x * gate(expand(act(reduce(mean of x)))) (1709.01507)"""

    def __init__(self, channels: int, reduced: int, act: Activation, gate: Activation):
        super().__init__()
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.act = act()
        self.expand = nn.Conv2d(reduced, channels, 1)
        self.gate = gate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = x.mean((2, 3), keepdim=True)
        y: torch.Tensor = x * self.gate(self.expand(self.act(self.reduce(s))))
        return y


class DenseLayer(nn.Module):
    """concat(x, conv(relu(bn(conv(relu(bn(x)))))))"""

    def __init__(self, cin: int, growth: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(cin)
        self.conv1 = nn.Conv2d(cin, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.relu(self.norm1(x), inplace=True))
        return torch.cat([x, self.conv2(F.relu(self.norm2(y), inplace=True))], 1)


def densenet121(growth: int = 32, blocks: Sequence[int] = (6, 12, 24, 16), classes: int = 1000) -> nn.Module:
    """Huang et al., 1608.06993"""
    c = 2 * growth
    layers: list[nn.Module] = [conv_bn(3, c, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for i, count in enumerate(blocks):
        for _ in range(count):
            layers.append(DenseLayer(c, growth))
            c += growth
        layers += [nn.BatchNorm2d(c), nn.ReLU(inplace=True)]
        if i < len(blocks) - 1:
            layers += [nn.Conv2d(c, c // 2, 1, bias=False), nn.AvgPool2d(2, 2)]
            c //= 2
    return Classifier(nn.Sequential(*layers), c, classes)


def _mbconv(cin: int, mid: int, cout: int, kernel: int, stride: int, act: Activation, se: nn.Module | None) -> nn.Module:
    layers: list[nn.Module] = [] if mid == cin else [conv_bn(cin, mid, 1, act=act)]
    layers.append(conv_bn(mid, mid, kernel, stride, groups=mid, act=act))
    if se is not None:
        layers.append(se)
    layers.append(conv_bn(mid, cout, 1, act=None))
    return InvertedResidual(nn.Sequential(*layers), stride == 1 and cin == cout)


def efficientnet_b0(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """Tan and Le, 1905.11946"""

    def silu() -> nn.Module:
        return nn.SiLU(inplace=True)

    return _efficientnet(width, classes, silu, lambda cin, mid: SqueezeExcite(mid, max(1, cin // 4), silu, nn.Sigmoid))


def efficientnet_lite0(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """EfficientNet-B0 with ReLU6 and without squeeze and excitation."""
    return _efficientnet(width, classes, lambda: nn.ReLU6(inplace=True), lambda cin, mid: None)


def _efficientnet(width: float, classes: int, act: Callable[[], nn.Module], excite: Callable[[int, int], nn.Module | None]) -> nn.Module:
    """excite: of the channels of a block's input and of its middle."""
    cin = scaled(32, width)
    layers: list[nn.Module] = [conv_bn(3, cin, 3, 2, act=act)]
    plan = [(1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)]
    for expansion, channels, count, stride, kernel in plan:
        cout = scaled(channels, width)
        for i in range(count):
            mid = cin * expansion
            layers.append(_mbconv(cin, mid, cout, kernel, stride if i == 0 else 1, act, excite(cin, mid)))
            cin = cout
    last = scaled(1280, width)
    layers += [conv_bn(cin, last, 1, act=act)]
    return Classifier(nn.Sequential(*layers), last, classes)


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of (N, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """x + gamma * linear(gelu(linear(layer_norm(depthwise 7x7))))"""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.widen = nn.Linear(channels, 4 * channels)
        self.narrow = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 0.3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.narrow(F.gelu(self.widen(self.norm(y)))) * self.gamma
        z: torch.Tensor = x + y.permute(0, 3, 1, 2)
        return z


class ConvNeXt(nn.Module):
    """Liu et al., 2201.03545"""

    def __init__(self, width: float = 1.0, depths: Sequence[int] = (3, 3, 9, 3), classes: int = 1000):
        super().__init__()
        sizes = [scaled(96 << i, width) for i in range(4)]
        layers: list[nn.Module] = [nn.Conv2d(3, sizes[0], 4, 4), LayerNorm2d(sizes[0], eps=1e-6)]
        for i, (channels, depth) in enumerate(zip(sizes, depths)):
            if i:
                layers += [LayerNorm2d(sizes[i - 1], eps=1e-6), nn.Conv2d(sizes[i - 1], channels, 2, 2)]
            layers += [ConvNeXtBlock(channels) for _ in range(depth)]
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(sizes[-1], eps=1e-6)
        self.head = nn.Linear(sizes[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.norm(self.features(x).mean((-2, -1))))
        return y


class MobileNetV3(nn.Module):
    """MobileNetV3-Large (Howard et al., 1905.02244)."""

    PLAN = (
        (3, 16, 16, False, "relu", 1),
        (3, 64, 24, False, "relu", 2),
        (3, 72, 24, False, "relu", 1),
        (5, 72, 40, True, "relu", 2),
        (5, 120, 40, True, "relu", 1),
        (5, 120, 40, True, "relu", 1),
        (3, 240, 80, False, "hswish", 2),
        (3, 200, 80, False, "hswish", 1),
        (3, 184, 80, False, "hswish", 1),
        (3, 184, 80, False, "hswish", 1),
        (3, 480, 112, True, "hswish", 1),
        (3, 672, 112, True, "hswish", 1),
        (5, 672, 160, True, "hswish", 2),
        (5, 960, 160, True, "hswish", 1),
        (5, 960, 160, True, "hswish", 1),
    )

    def __init__(self, width: float = 1.0, classes: int = 1000):
        super().__init__()

        def relu() -> nn.Module:
            return nn.ReLU(inplace=True)

        def hswish() -> nn.Module:
            return nn.Hardswish(inplace=True)

        cin = scaled(16, width)
        layers: list[nn.Module] = [conv_bn(3, cin, 3, 2, act=hswish)]
        for kernel, expanded, channels, squeeze, act, stride in self.PLAN:
            mid, cout = scaled(expanded, width), scaled(channels, width)
            se = SqueezeExcite(mid, scaled(mid // 4, 1), relu, nn.Hardsigmoid) if squeeze else None
            layers.append(_mbconv(cin, mid, cout, kernel, stride, relu if act == "relu" else hswish, se))
            cin = cout
        last, hidden = scaled(960, width), scaled(1280, width)
        layers.append(conv_bn(cin, last, 1, act=hswish))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(last, hidden), nn.Hardswish(inplace=True), nn.Dropout(0.2), nn.Linear(hidden, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.classifier(torch.flatten(self.pool(self.features(x)), 1))
        return y


def regnet_y_400mf(width: float = 1.0, depths: Sequence[int] = (1, 3, 6, 6), classes: int = 1000) -> nn.Module:
    """RegNetY-400MF: grouped 3x3 convolutions of 8 channels a group, with squeeze and excitation (Radosavovic et al., 2003.13678)."""

    def relu() -> nn.Module:
        return nn.ReLU(inplace=True)

    cin = 32
    layers: list[nn.Module] = [conv_bn(3, cin, 3, 2)]
    for channels, depth in zip((48, 104, 208, 440), depths):
        cout = scaled(channels, width)
        for i in range(depth):
            stride = 2 if i == 0 else 1
            se = SqueezeExcite(cout, cin // 4, relu, nn.Sigmoid)
            body = nn.Sequential(conv_bn(cin, cout, 1), conv_bn(cout, cout, 3, stride, groups=cout // 8), se, conv_bn(cout, cout, 1, act=None))
            layers.append(Residual(body, nn.Identity() if i else conv_bn(cin, cout, 1, stride, act=None)))
            cin = cout
    return Classifier(nn.Sequential(*layers), cin, classes)


class UNet(nn.Module):
    """U-Net (Ronneberger et al., 1505.04597): the deeper half of the decoder upsamples bilinearly, the rest by transposed convolution."""

    def __init__(self, width: int = 32, depth: int = 4, classes: int = 2):
        super().__init__()
        sizes = [width << i for i in range(depth + 1)]
        self.down = nn.ModuleList(nn.Sequential(conv_bn(a, b), conv_bn(b, b)) for a, b in zip([3, *sizes], sizes))
        self.pool = nn.MaxPool2d(2)
        pairs = list(zip(sizes[:0:-1], sizes[-2::-1]))
        self.up = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=i == 0), nn.Conv2d(a, b, 1))
            if i < depth // 2
            else nn.ConvTranspose2d(a, b, 2, 2)
            for i, (a, b) in enumerate(pairs)
        )
        self.merge = nn.ModuleList(nn.Sequential(conv_bn(2 * b, b), conv_bn(b, b)) for _, b in pairs)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else self.pool(x))
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge):
            x = up(x)
            x = merge(torch.cat([skips.pop(), x], 1))
        y: torch.Tensor = self.head(x)
        return y


class Branches(nn.Module):
    """The same input through several modules, concatenated over channels."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def inception_v3(width: float = 1.0, classes: int = 1000) -> nn.Module:
    """Inception-v3 without its auxiliary head (Szegedy et al., 1512.00567): 1x7 and 7x1 convolutions, unequal branches."""

    def cb(cin: int, cout: int, kernel: int | tuple[int, int], stride: int = 1, padding: int | tuple[int, int] | None = None) -> nn.Module:
        return conv_bn(cin, cout, kernel, stride, padding=padding, eps=1e-3)

    def w(channels: int) -> int:
        return scaled(channels, width)

    def pooled(cin: int, cout: int) -> nn.Module:
        return nn.Sequential(nn.AvgPool2d(3, 1, 1), cb(cin, cout, 1))

    def a(cin: int, pool: int) -> nn.Module:
        five = nn.Sequential(cb(cin, w(48), 1), cb(w(48), w(64), 5))
        three = nn.Sequential(cb(cin, w(64), 1), cb(w(64), w(96), 3), cb(w(96), w(96), 3))
        return Branches(cb(cin, w(64), 1), five, three, pooled(cin, w(pool)))

    def b(cin: int) -> nn.Module:
        double = nn.Sequential(cb(cin, w(64), 1), cb(w(64), w(96), 3), cb(w(96), w(96), 3, 2, 0))
        return Branches(cb(cin, w(384), 3, 2, 0), double, nn.MaxPool2d(3, 2))

    def c(cin: int, mid: int) -> nn.Module:
        m = w(mid)
        seven = nn.Sequential(cb(cin, m, 1), cb(m, m, (1, 7)), cb(m, w(192), (7, 1)))
        double = nn.Sequential(cb(cin, m, 1), cb(m, m, (7, 1)), cb(m, m, (1, 7)), cb(m, m, (7, 1)), cb(m, w(192), (1, 7)))
        return Branches(cb(cin, w(192), 1), seven, double, pooled(cin, w(192)))

    def d(cin: int) -> nn.Module:
        three = nn.Sequential(cb(cin, w(192), 1), cb(w(192), w(320), 3, 2, 0))
        seven = nn.Sequential(cb(cin, w(192), 1), cb(w(192), w(192), (1, 7)), cb(w(192), w(192), (7, 1)), cb(w(192), w(192), 3, 2, 0))
        return Branches(three, seven, nn.MaxPool2d(3, 2))

    def e(cin: int) -> nn.Module:
        split = nn.Sequential(cb(cin, w(384), 1), Branches(cb(w(384), w(384), (1, 3)), cb(w(384), w(384), (3, 1))))
        double = nn.Sequential(cb(cin, w(448), 1), cb(w(448), w(384), 3), Branches(cb(w(384), w(384), (1, 3)), cb(w(384), w(384), (3, 1))))
        return Branches(cb(cin, w(320), 1), split, double, pooled(cin, w(192)))

    stem = [cb(3, w(32), 3, 2, 0), cb(w(32), w(32), 3, 1, 0), cb(w(32), w(64), 3), nn.MaxPool2d(3, 2)]
    stem += [cb(w(64), w(80), 1), cb(w(80), w(192), 3, 1, 0), nn.MaxPool2d(3, 2)]
    c0 = w(192)
    c1, c2 = w(64) + w(64) + w(96) + w(32), w(64) + w(64) + w(96) + w(64)
    c3 = w(384) + w(96) + c2
    c4 = 4 * w(192)
    c5 = w(320) + w(192) + c4
    c6 = w(320) + 4 * w(384) + w(192)
    blocks = [a(c0, 32), a(c1, 64), a(c2, 64), b(c2), c(c3, 128), c(c4, 160), c(c4, 160), c(c4, 192), d(c4), e(c5), e(c6)]
    return Classifier(nn.Sequential(*stem, *blocks), c6, classes)


class TwoInput(nn.Module):
    """An image and a vector of facts about it, fused by scaling and by concatenation."""

    def __init__(self, width: int = 32, facts: int = 10, classes: int = 10):
        super().__init__()
        self.image = nn.Sequential(conv_bn(3, width, 3, 2), conv_bn(width, 2 * width, 3, 2))
        self.facts = nn.Sequential(nn.Linear(facts, 2 * width), nn.Tanh())
        self.head = nn.Linear(4 * width, classes)

    def forward(self, image: torch.Tensor, facts: torch.Tensor) -> torch.Tensor:
        v = self.facts(facts)
        y = (self.image(image) * v[:, :, None, None]).amax((2, 3))
        z: torch.Tensor = self.head(torch.cat([y, v], -1))
        return z


class Detector(nn.Module):
    """Features at two scales with a class and a box head each; returns a dict, one entry of it a list."""

    def __init__(self, width: int = 32, classes: int = 5):
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, width, 3, 2), conv_bn(width, width, 3, 2))
        self.deep = conv_bn(width, 2 * width, 3, 2)
        self.lateral = nn.Conv2d(2 * width, width, 1)
        self.classes = nn.Conv2d(width, classes, 3, padding=1)
        self.boxes = nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, object]:
        fine = self.stem(x)
        coarse = self.lateral(self.deep(fine))
        fine = fine + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")
        scores, boxes = [], []
        for level in (fine, coarse):
            scores.append(self.classes(level).flatten(2).transpose(1, 2))
            boxes.append(self.boxes(level).flatten(2).transpose(1, 2).exp())
        best, label = torch.cat(scores, 1).softmax(-1).max(-1)
        return {"scores": best, "labels": label, "boxes": torch.cat(boxes, 1), "features": [fine, coarse]}


def convnext_tiny(width: float = 1.0, depths: Sequence[int] = (3, 3, 9, 3), classes: int = 1000) -> nn.Module:
    return ConvNeXt(width, depths, classes)


def mobilenet_v3_large(width: float = 1.0, classes: int = 1000) -> nn.Module:
    return MobileNetV3(width, classes)


MORE: dict[str, Callable[[], nn.Module]] = {
    "densenet121": densenet121,
    "efficientnet_b0": efficientnet_b0,
    "convnext_tiny": convnext_tiny,
    "mobilenet_v3_large": mobilenet_v3_large,
    "regnet_y_400mf": regnet_y_400mf,
    "unet": UNet,
    "inception_v3": inception_v3,
    "two_input": TwoInput,
    "detector": Detector,
    **ODD,
}

#: Inputs of the networks that take something else than one image, batch 4.
NOT_IMAGES: dict[str, Callable[[torch.Generator], tuple[torch.Tensor, ...]]] = {
    "two_input": lambda g: (torch.randn(4, 3, 128, 128, generator=g), torch.randn(4, 10, generator=g)),
}
