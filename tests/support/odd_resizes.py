"""Odd resizes: pyramids, hourglasses, transposed convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd import odd
from torch import nn

from tersor.bench.models import conv_bn

T = torch.Tensor


@odd((1, 6, 16, 20))
class Hourglass(nn.Module):
    """Recursive pooling and upsampling with skips (1603.06937)."""

    def __init__(self) -> None:
        super().__init__()
        self.skip = nn.ModuleList(conv_bn(6, 6) for _ in range(3))
        self.low = nn.ModuleList(conv_bn(6, 6) for _ in range(3))

    def forward(self, x: T) -> T:
        return self.level(x, 2)

    def level(self, x: T, depth: int) -> T:
        up = self.skip[depth](x)
        low = self.low[depth](F.max_pool2d(x, 2))
        if depth:
            low = self.level(low, depth - 1) if min(low.shape[2:]) > 3 else low
        return up + F.interpolate(low, size=up.shape[2:], mode="nearest")


@odd((1, 8, 7, 6))
class TransposedGroups(nn.Module):
    """Transposed convolutions with groups, output padding, dilation and an odd stride."""

    def __init__(self) -> None:
        super().__init__()
        self.up1 = nn.ConvTranspose2d(8, 12, 3, stride=2, padding=1, output_padding=1, groups=4)
        self.up2 = nn.ConvTranspose2d(12, 6, (2, 4), stride=(3, 1), dilation=(1, 2), bias=False)
        self.up3 = nn.ConvTranspose2d(6, 6, 4, 2, 1, groups=6)

    def forward(self, x: T) -> T:
        return self.up3(F.elu(self.up2(F.relu(self.up1(x)))))


@odd((1, 3, 9, 8))
class PixelShuffleNet(nn.Module):
    """Super-resolution by 3 with a global bicubic-free residual (1609.05158)."""

    def __init__(self) -> None:
        super().__init__()
        convs = [nn.Conv2d(3, 16, 5, padding=2), nn.Conv2d(16, 10, 3, padding=1), nn.Conv2d(10, 27, 3, padding=1)]
        self.body = nn.Sequential(convs[0], nn.Tanh(), convs[1], nn.Tanh(), convs[2])
        self.shuffle = nn.PixelShuffle(3)

    def forward(self, x: T) -> T:
        y = self.shuffle(self.body(x))
        return torch.clamp(y + F.interpolate(x, scale_factor=3, mode="bilinear", align_corners=False), -1.0, 1.0)


@odd((1, 6, 14, 15))
class Aspp(nn.Module):
    """Atrous spatial pyramid: dilated branches and a pooled one, upsampled (1706.05587)."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv_bn(6, 5, 1), *(self.dilated(d) for d in (2, 3, 6))])
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 5, 1), nn.ReLU())
        self.project = conv_bn(25, 7, 1)

    def dilated(self, d: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(6, 5, 3, padding=d, dilation=d, bias=False), nn.BatchNorm2d(5), nn.ReLU())

    def forward(self, x: T) -> T:
        size = x.shape[-2:]
        parts = [b(x) for b in self.branches]
        parts.append(F.interpolate(self.pool(x), size=size, mode="bilinear", align_corners=False))
        y = self.project(torch.cat(parts, dim=1))
        return F.interpolate(y, size=(28, 30), mode="bilinear", align_corners=True)


@odd((1, 4, 12, 12))
class PyramidPooling(nn.Module):
    """Adaptive pools of sizes that do not divide the map, upsampled and concatenated (1612.01105)."""

    def forward(self, x: T) -> T:
        parts = [F.interpolate(F.adaptive_avg_pool2d(x, s), x.shape[2:], mode="bilinear", align_corners=True) for s in (1, 2, 5, 7)]
        return torch.cat([x, *parts, F.interpolate(F.adaptive_max_pool2d(x, (3, 5)), x.shape[2:])], 1)


@odd((1, 3, 20, 20))
class HighResolution(nn.Module):
    """Two resolutions that exchange maps by strided convolution and upsampling (HRNet, 1908.07919)."""

    def __init__(self) -> None:
        super().__init__()
        self.high, self.low = conv_bn(3, 9, 3), conv_bn(3, 18, 3, 2)
        self.down = conv_bn(9, 18, 3, 2, act=None)
        self.up = nn.Sequential(conv_bn(18, 9, 1, act=None), nn.Upsample(scale_factor=2, mode="nearest"))

    def forward(self, x: T) -> tuple[T, T]:
        high, low = self.high(x), self.low(x)
        return F.relu(high + self.up(low)), F.relu(low + self.down(high))


@odd((1, 5, 7, 8))
class Bicubic(nn.Module):
    """Bicubic up and area down."""

    def forward(self, x: T) -> tuple[T, T]:
        return F.interpolate(x, size=(14, 11), mode="bicubic", align_corners=False), F.interpolate(x, size=(3, 4), mode="area")


@odd((1, 6, 8, 8))
class Flips(nn.Module):
    """Test-time augmentation inside of the model: mirrored and turned."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: T) -> T:
        turned = torch.rot90(self.conv(torch.rot90(x, 1, (2, 3))), -1, (2, 3))
        return (self.conv(x) + self.conv(x.flip(-1)).flip(-1) + turned) / 3
