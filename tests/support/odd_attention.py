"""Odd attention over channels and pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd import odd
from torch import nn

from tersor.bench.models import conv_bn

T = torch.Tensor


@odd((1, 18, 7, 7))
class SqueezeByMean(nn.Module):
    """Squeeze and excitation with linear layers on mean(-1).mean(-1), and an odd reduction."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.reduce, self.expand = nn.Conv2d(18, 18, 3, padding=1), nn.Linear(18, 5), nn.Linear(5, 18)

    def forward(self, x: T) -> T:
        y = self.conv(x)
        s = y.mean(-1).mean(-1)
        s = torch.sigmoid(self.expand(F.relu(self.reduce(s))))
        return x + y * s[:, :, None, None].expand_as(y)


@odd((1, 16, 9, 9))
class EfficientChannelAttention(nn.Module):
    """A 1-d convolution over the pooled channels (1910.03151)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: T) -> T:
        y = F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)
        return x * self.conv(y).transpose(-1, -2).unsqueeze(-1).sigmoid()


@odd((1, 10, 12, 12))
class SpatialAttention(nn.Module):
    """Mean and maximum over channels, concatenated, 7x7 convolution, sigmoid (1807.06521)."""

    def __init__(self) -> None:
        super().__init__()
        self.pre, self.conv = conv_bn(10, 10), nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: T) -> T:
        x = self.pre(x)
        pooled = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], dim=1)
        return x * torch.sigmoid(self.conv(pooled))


@odd((1, 12, 6, 7))
class GlobalContext(nn.Module):
    """A softmax over all pixels weighs them into one context vector (1904.11492)."""

    def __init__(self) -> None:
        super().__init__()
        self.mask = nn.Conv2d(12, 1, 1)
        self.transform = nn.Sequential(nn.Conv2d(12, 4, 1), nn.LayerNorm([4, 1, 1]), nn.ReLU(), nn.Conv2d(4, 12, 1))

    def forward(self, x: T) -> T:
        n, c, h, w = x.shape
        weights = self.mask(x).view(n, 1, h * w).softmax(2).unsqueeze(-1)
        context = torch.matmul(x.view(n, c, h * w).unsqueeze(1), weights).view(n, c, 1, 1)
        return x + self.transform(context)


@odd((1, 8, 6, 5))
class NonLocal(nn.Module):
    """theta x phi over all pairs of pixels, softmax, times g (1711.07971)."""

    def __init__(self) -> None:
        super().__init__()
        self.theta, self.phi, self.g, self.out = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: T) -> T:
        n, c, h, w = x.shape
        q, k, v = (f(x).flatten(2) for f in (self.theta, self.phi, self.g))
        scores = torch.einsum("nci,ncj->nij", q, k) * (4**-0.5)
        y = torch.einsum("nij,ncj->nci", scores.softmax(-1), v).reshape(n, c // 2, h, w)
        return x + self.out(y)


@odd((1, 10, 5, 5))
class PositionalAttention(nn.Module):
    """Multi-head attention of torch on pixels with a broadcast position embedding and an expanded class token."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(10, 2, batch_first=True)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 10)), nn.Parameter(torch.randn(26, 10))
        self.norm = nn.LayerNorm(10)

    def forward(self, x: T) -> T:
        y = x.flatten(2).permute(0, 2, 1)
        y = torch.cat((self.token.expand(y.size(0), -1, -1), y), dim=1) + self.place
        z, _ = self.attention(y, y, y, need_weights=False)
        return self.norm(y + z)[:, 0]


@odd((1, 12, 8, 8))
class WindowAttention(nn.Module):
    """Windows of 4x4 by view and permute, a learnt bias, a cyclic shift by roll (2103.14030)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.bias = nn.Linear(12, 36), nn.Parameter(torch.randn(1, 3, 16, 16))

    def forward(self, x: T) -> T:
        x = torch.roll(x.permute(0, 2, 3, 1), shifts=(-2, -2), dims=(1, 2))
        n = x.shape[0]
        windows = x.view(n, 2, 4, 2, 4, 12).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 12)
        q, k, v = self.qkv(windows).view(-1, 16, 3, 3, 4).permute(2, 0, 3, 1, 4)
        y = ((q @ k.transpose(-2, -1)) * 0.5 + self.bias).softmax(-1) @ v
        y = y.transpose(1, 2).reshape(n, 2, 2, 4, 4, 12).permute(0, 1, 3, 2, 4, 5).reshape(n, 8, 8, 12)
        return torch.roll(y, (2, 2), (1, 2)).permute(0, 3, 1, 2)


@odd((1, 14, 7, 7))
class GatedLinearUnit(nn.Module):
    """GLU over channels, then a gate of the other half by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(14, 28, 3, padding=1)

    def forward(self, x: T) -> T:
        y = F.glu(self.conv(x), dim=1)
        a, b = y.chunk(2, dim=1)
        return a * torch.sigmoid(b)


@odd((1, 3, 14, 14))
class DynamicKernels(nn.Module):
    """Selective kernels: a softmax between two branches, per channel (1903.06586)."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv_bn(3, 9, 3), conv_bn(3, 9, 5)])
        self.squeeze, self.expand = nn.Linear(9, 4), nn.ModuleList(nn.Linear(4, 9) for _ in range(2))

    def forward(self, x: T) -> T:
        maps = torch.stack([b(x) for b in self.branches], 1)
        z = F.relu(self.squeeze(maps.sum(1).mean((-2, -1))))
        weights = F.softmax(torch.stack([e(z) for e in self.expand], 1), dim=1)
        return (maps * weights.unsqueeze(-1).unsqueeze(-1)).sum(dim=1)


@odd((1, 6, 5, 5))
class Bilinear(nn.Module):
    """Second-order pooling: outer products of channels, signed square root, normalization (1504.07889)."""

    def forward(self, x: T) -> T:
        y = x.flatten(2)
        b = torch.bmm(y, y.transpose(1, 2)) / y.shape[-1]
        b = torch.sign(b) * torch.sqrt(b.abs() + 1e-8)
        return F.normalize(b.flatten(1))


@odd((1, 6, 9, 9))
class SquashedCapsules(nn.Module):
    """Capsule outputs: lengths of vectors, squashed (1710.09829)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.w = nn.Conv2d(6, 16, 3, 2), nn.Parameter(torch.randn(1, 64, 3, 5, 4) * 0.3)

    def forward(self, x: T) -> T:
        u = self.conv(x).view(x.shape[0], 4, 4, 16).permute(0, 1, 3, 2).reshape(x.shape[0], -1, 4)
        u = (self.w @ u[:, :, None, :, None]).squeeze(-1)
        c = u.sum(1)
        n2 = (c**2).sum(-1, keepdim=True)
        return (n2 / (1 + n2) * c / torch.sqrt(n2 + 1e-8)).norm(dim=-1)


@odd((1, 8, 10, 10))
class CoordinateAttention(nn.Module):
    """Pools along each axis, concatenated, convolved and split again (2103.02907)."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.rows, self.columns = conv_bn(8, 5, 1, act=nn.Hardswish), nn.Conv2d(5, 8, 1), nn.Conv2d(5, 8, 1)

    def forward(self, x: T) -> T:
        h, w = x.shape[2:]
        rows, columns = F.adaptive_avg_pool2d(x, (h, 1)), F.adaptive_avg_pool2d(x, (1, w)).permute(0, 1, 3, 2)
        rows, columns = torch.split(self.squeeze(torch.cat([rows, columns], 2)), [h, w], 2)
        return x * self.rows(rows).sigmoid() * self.columns(columns.permute(0, 1, 3, 2)).sigmoid()


@odd((1, 12, 8))
class Mixer(nn.Module):
    """Perceptrons over tokens and over channels in turn (2105.01601)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.tokens = nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 12))
        self.channels = nn.Sequential(nn.Linear(8, 30), nn.GELU(), nn.Linear(30, 8))

    def forward(self, x: T) -> T:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return (x + self.channels(self.norm2(x))).mean(1)


@odd((1, 2, 9, 9))
class CostVolume(nn.Module):
    """Correlation of two maps at nine shifts (1709.02371)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1)

    def forward(self, x: T) -> T:
        a, b = self.conv(x), F.pad(self.conv(x * 0.5), (1, 1, 1, 1))
        return torch.stack([(a * b[:, :, i : i + 9, j : j + 9]).mean(1) for i in range(3) for j in range(3)], 1)
