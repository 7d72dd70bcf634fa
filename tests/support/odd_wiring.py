"""Odd wiring of convolutions and pools."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd import odd
from torch import nn

from tersor.bench.models import conv_bn

T = torch.Tensor


@odd((1, 3, 24, 24))
class CrossStagePartial(nn.Module):
    """Half of the channels skip the stage and are concatenated after it (1911.11929)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 20, 3, 2, act=lambda: nn.LeakyReLU(0.1, inplace=True))
        self.left = conv_bn(20, 10, 1, act=nn.Mish)
        self.right = conv_bn(20, 10, 1, act=nn.Mish)
        self.body = nn.Sequential(conv_bn(10, 10, 1), conv_bn(10, 10, 3))
        self.merge = conv_bn(20, 20, 1)

    def forward(self, x: T) -> T:
        x = self.stem(x)
        y = self.right(x)
        y = y + self.body(y)
        return self.merge(torch.cat([y, self.left(x)], 1))


@odd((1, 7, 9, 9))
class OddDense(nn.Module):
    """Dense concatenations of 7, 5, 3 and 1 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([conv_bn(7, 5), conv_bn(12, 3), conv_bn(15, 1)])

    def forward(self, x: T) -> T:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


@odd((1, 12, 10, 10))
class SplitShuffle(nn.Module):
    """Channel split, halves swapped, shuffle by view and transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv_bn(6, 6, 3, groups=3)

    def forward(self, x: T) -> T:
        a, b = torch.split(x, [6, 6], dim=1)
        y = torch.cat((self.conv(b), a), dim=1)
        n, c, h, w = y.size()
        return y.view(n, 3, c // 3, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


@odd((1, 5, 11, 11))
class DepthwiseMultiplier(nn.Module):
    """Depthwise with three results per channel, dilated and strided, then pointwise without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = nn.Conv2d(5, 15, 3, 2, padding=2, dilation=2, groups=5)
        self.point = nn.Conv2d(15, 4, 1, bias=False)

    def forward(self, x: T) -> T:
        return self.point(F.hardswish(self.depth(x)))


@odd((1, 3, 15, 17))
class AsymmetricPadding(nn.Module):
    """ZeroPad2d as TensorFlow's "same" at stride 2, a constant pad, a crop by negative pads, and padding="same" with an even kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))
        self.conv = nn.Conv2d(3, 8, 3, 2)
        self.same = nn.Conv2d(8, 8, (2, 4), padding="same")
        self.last = nn.Conv2d(8, 8, 3)

    def forward(self, x: T) -> T:
        x = self.same(F.relu(self.conv(self.pad(x))))
        x = F.pad(x, (2, 0, 1, 1), value=0.5)
        x = F.pad(x, (-1, -1, 0, -1))
        return self.last(x)


@odd((1, 3, 16, 16))
class FocusSlice(nn.Module):
    """YOLO's first layer: four interleaved slices side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv_bn(12, 16, 3, act=nn.SiLU)

    def forward(self, x: T) -> T:
        parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
        return self.conv(torch.cat(parts, 1))


@odd((1, 16, 13, 13))
class SpatialPyramid(nn.Module):
    """YOLO's SPP: pools of three sizes at stride 1 next to the map."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = conv_bn(16, 6, 1)
        self.pools = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in (5, 9, 13))

    def forward(self, x: T) -> T:
        x = self.squeeze(x)
        return torch.cat([x, *(pool(x) for pool in self.pools)], 1)


@odd((1, 12, 8, 8))
class RepVgg(nn.Module):
    """3x3, 1x1 and identity branches, each with its own batch norm, summed (2101.03697)."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small, self.identity = conv_bn(12, 12, 3, act=None), conv_bn(12, 12, 1, act=None), nn.BatchNorm2d(12)

    def forward(self, x: T) -> T:
        return F.relu(self.large(x) + self.small(x) + self.identity(x))


@odd((1, 10, 9, 9))
class PreActivation(nn.Module):
    """Batch norm and relu before each convolution; the sum is left without either (1603.05027)."""

    def __init__(self) -> None:
        super().__init__()
        half = [nn.Sequential(nn.BatchNorm2d(10), nn.ReLU(), nn.Conv2d(10, 10, 3, padding=1)) for _ in range(2)]
        self.body = nn.Sequential(*half)

    def forward(self, x: T) -> T:
        return self.body(x) + x


@odd((1, 2, 50))
class OneDimensional(nn.Module):
    """1-d convolutions, dilated, strided, pooled and transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn = nn.Conv1d(2, 12, 7, 2, 3), nn.BatchNorm1d(12)
        self.conv2 = nn.Conv1d(12, 12, 3, padding=4, dilation=4, groups=12)
        self.up = nn.ConvTranspose1d(12, 5, 4, 2, 1)

    def forward(self, x: T) -> T:
        y = F.max_pool1d(F.relu(self.bn(self.conv1(x))), 3, 2)
        y = self.up(F.leaky_relu(self.conv2(y), 0.2))
        return F.avg_pool1d(y, 2)


@odd((1, 9, 8, 8))
class Separable(nn.Module):
    """1x7 and 7x1, stride (2, 1), max pooling with ceil_mode, average pooling that does not count padding."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(9, 11, (1, 7), padding=(0, 3)), nn.Conv2d(11, 9, (7, 1), (2, 1), padding=(3, 0))

    def forward(self, x: T) -> T:
        y = F.avg_pool2d(self.b(self.a(x)), 3, 2, 1, ceil_mode=True, count_include_pad=False)
        return y + F.max_pool2d(self.b(self.a(x)), 3, 2, 1, ceil_mode=True)


@odd((1, 3, 17, 13))
class Coordinates(nn.Module):
    """CoordConv: two channels of positions appended (1807.03247)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv_bn(5, 7)

    def forward(self, x: T) -> T:
        n, _, h, w = x.shape
        ys = torch.linspace(-1, 1, h, dtype=x.dtype).view(1, 1, h, 1).expand(n, 1, h, w)
        xs = torch.linspace(-1, 1, w, dtype=x.dtype).view(1, 1, 1, w).expand(n, 1, h, w)
        return self.conv(torch.cat([x, ys, xs], 1))


@odd((1, 16, 6, 6))
class Ghost(nn.Module):
    """Half of the channels by convolution, the rest by cheap depthwise ones; the surplus is sliced off (1911.11907)."""

    def __init__(self) -> None:
        super().__init__()
        self.primary, self.cheap = conv_bn(16, 10, 1), conv_bn(10, 10, 3, groups=10)

    def forward(self, x: T) -> T:
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], dim=1)[:, :19, :, :]


@odd((1, 24, 8, 8))
class Res2(nn.Module):
    """Scales within one block: each part is convolved with the sum of the one before (1904.01169)."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv_bn(6, 6) for _ in range(3))

    def forward(self, x: T) -> T:
        parts = torch.chunk(x, 4, 1)
        out = [parts[0]]
        for part, conv in zip(parts[1:], self.convs):
            out.append(conv(part + out[-1] if len(out) > 1 else part))
        return torch.cat(out, 1) + x


@odd((1, 4, 8, 8, 3))
class FiveAxes(nn.Module):
    """Maps of a video, time last: folded into the batch and back."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x: T) -> T:
        n, c, h, w, t = x.shape
        y = self.conv(x.permute(0, 4, 1, 2, 3).reshape(n * t, c, h, w))
        return y.reshape(n, t, 6, h, w).mean(1).flatten(1)


@odd((1, 6, 9, 9))
class PaddingModes(nn.Module):
    """Convolutions that pad by reflection, replication and around the edge."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1, padding_mode=m) for m in ("reflect", "replicate", "circular"))

    def forward(self, x: T) -> T:
        for conv in self.convs:
            x = F.relu(conv(x))
        return x


@odd((1, 4, 10, 10))
class Unfolded(nn.Module):
    """A convolution by unfold and a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(36, 8))

    def forward(self, x: T) -> T:
        y = F.unfold(x, 3, padding=1, stride=2)
        return (y.transpose(1, 2) @ self.w).transpose(1, 2).reshape(x.shape[0], 8, 5, 5)


@odd((1, 6, 8, 8))
class Wavelet(nn.Module):
    """The Haar transform as a constant depthwise convolution, and its inverse."""

    def __init__(self) -> None:
        super().__init__()
        k = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[1.0, -1.0], [1.0, -1.0]], [[1.0, 1.0], [-1.0, -1.0]], [[1.0, -1.0], [-1.0, 1.0]]]) / 2
        self.register_buffer("k", k[:, None].repeat(6, 1, 1, 1))

    def forward(self, x: T) -> tuple[T, T]:
        y = F.conv2d(x, self.k, stride=2, groups=6)
        return y, F.conv_transpose2d(F.softshrink(y, 0.2), self.k, stride=2, groups=6)
