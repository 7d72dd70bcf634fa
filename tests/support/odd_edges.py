"""Odd sizes: maps of one row, column, channel or pixel, kernels larger than the map, hundreds of operands."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd import odd
from torch import nn

from tersor.bench.models import conv_bn

T = torch.Tensor


@odd((1, 3, 5, 3))
class TinyMaps(nn.Module):
    """Maps that shrink to one pixel, kernels larger than the map, a stride larger than the kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 5, 7, padding=3), nn.Conv2d(5, 6, 1, 3)
        self.c, self.d = nn.Conv2d(6, 7, (2, 1)), nn.Conv2d(7, 33, 3, padding=2, dilation=2)

    def forward(self, x: T) -> tuple[T, T, T]:
        y = self.d(F.relu(self.c(self.b(self.a(x)))))
        return F.max_pool2d(y, 1, 1), F.avg_pool2d(y, 3, 1, 1), F.max_pool2d(x, 5, 1, 2)


@odd((1, 20, 1, 33))
class OneRow(nn.Module):
    """Maps of one row, from 20 to 33 to 17 to one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(20, 33, (1, 5), (1, 2), (0, 2)), nn.Conv2d(33, 17, 3, padding=1), nn.Conv2d(17, 1, 1)

    def forward(self, x: T) -> T:
        return self.c(F.relu(self.b(F.relu(self.a(x)))))


@odd((1, 3, 33, 1))
class OneColumn(nn.Module):
    """Maps of one column, strided by 3 and 2."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 33, (5, 1), (3, 1), (2, 0)), nn.Conv2d(33, 17, 3, 2, padding=1)

    def forward(self, x: T) -> T:
        return self.b(F.relu(self.a(x))).mean(2)


@odd((1, 1, 12, 12))
class OneChannel(nn.Module):
    """One channel in, one between, two out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3, stride=2), nn.Conv2d(1, 2, 2)

    def forward(self, x: T) -> T:
        return self.c(torch.tanh(self.b(torch.sigmoid(self.a(x)))))


@odd(inputs=lambda: (torch.randn(3, 12, 12),), static=True)
class Unbatched(nn.Module):
    """An image without a batch dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 8, 3), nn.MaxPool2d(2)

    def forward(self, x: T) -> T:
        return self.pool(F.relu(self.conv(x)))


@odd((1, 24, 16, 16))
class LargeKernels(nn.Module):
    """31x31 depthwise beside 5x5 (2203.06717), and 13x13 in groups of two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small = nn.Conv2d(24, 24, 31, padding=15, groups=24), nn.Conv2d(24, 24, 5, padding=2, groups=24)
        self.pairs = nn.Conv2d(24, 24, 13, padding=6, groups=12)

    def forward(self, x: T) -> T:
        return self.pairs(self.large(x) + self.small(x))


@odd((1, 64, 10, 10))
class ResNext(nn.Module):
    """Groups of four channels (1611.05431), the shortcut pooled with ceil_mode before its convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(64, 32, 1), conv_bn(32, 32, 3, 2, groups=8), conv_bn(32, 48, 1, act=None))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(64, 48, 1))

    def forward(self, x: T) -> T:
        return F.relu(self.body(x) + self.shortcut(x))


@odd((1, 3, 6, 6))
class WideConcat(nn.Module):
    """Seventy maps of one to four channels side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 1 + i % 4, 1) for i in range(70))

    def forward(self, x: T) -> T:
        return torch.cat([conv(x) for conv in self.convs], 1)


@odd((1, 30, 20))
class ManyTerms(nn.Module):
    """A chain of sixty elementwise operators over slices, and a stack of ten of them."""

    def forward(self, x: T) -> T:
        parts = x.unbind(1)
        y = parts[0]
        for part in parts[1:]:
            y = torch.maximum(y * 0.9, part) + y
        return torch.stack(parts[::3], -1).sum(-1) + y / 100


@odd((1, 6, 7, 9), (1, 4))
class Modulated(nn.Module):
    """Weights and biases that are computed from a second input (1912.04958), in convolutions of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(8, 3, 3, 2)), nn.Parameter(torch.randn(8, 5, 4, 3))
        self.style = nn.Linear(4, 8)

    def forward(self, x: T, style: T) -> tuple[T, T, T]:
        s = self.style(style).mean(0)
        y = F.conv2d(x, self.w * s[:, None, None, None], s, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)
        z = F.conv_transpose2d(y, self.v * s[:, None, None, None], None, stride=(2, 1), padding=(1, 0), output_padding=(1, 0), groups=2)
        return z, F.conv2d(x, self.w, s, groups=2), F.conv2d(y, self.w[:, :1, :1, :1] * s[:, None, None, None], groups=8)


@odd((2, 3, 8, 8), static=True)
class ConditionalConv(nn.Module):
    """A kernel for each image: the batch is folded into the groups (1904.04971)."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.Linear(3, 5 * 27)

    def forward(self, x: T) -> T:
        w = self.kernels(x.mean((2, 3))).view(-1, 3, 3, 3)
        return F.conv2d(x.reshape(1, 6, 8, 8), w, padding=1, groups=2).view(2, 5, 8, 8)


@odd((1, 1, 16, 8))
class Recurrent(nn.Module):
    """Columns of a map as a sequence through a bidirectional LSTM (1507.05717)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(conv_bn(1, 6), nn.MaxPool2d((4, 2)), nn.Conv2d(6, 10, (4, 1)))
        self.rnn, self.fc = nn.LSTM(10, 5, bidirectional=True, batch_first=True), nn.Linear(10, 5)

    def forward(self, x: T) -> T:
        y, _ = self.rnn(self.features(x).squeeze(2).permute(0, 2, 1))
        return self.fc(y).log_softmax(-1)
