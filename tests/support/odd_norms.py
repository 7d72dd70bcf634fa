"""Odd norms and activations, and arithmetic in place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from odd import odd
from torch import nn

T = torch.Tensor


@odd((1, 12, 9, 9))
class GroupNorms(nn.Module):
    """Group norms of 3 and 12 groups and of one (layer norm over all), with convolutions that are standardized by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 12, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.GroupNorm(3, 12), nn.GroupNorm(12, 12, affine=False), nn.GroupNorm(1, 12, eps=1e-3)])

    def forward(self, x: T) -> T:
        w = self.conv.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True, unbiased=False) + 1e-5)
        x = F.conv2d(x, w, padding=1) / 8
        for norm in self.norms:
            x = F.relu(norm(x))
        return x


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of a map, written out."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(channels)), nn.Parameter(torch.randn(channels))

    def forward(self, x: T) -> T:
        u = x.mean(1, keepdim=True)
        s = (x - u).pow(2).mean(1, keepdim=True)
        return self.weight[:, None, None] * ((x - u) / torch.sqrt(s + 1e-6)) + self.bias[:, None, None]


@odd((1, 3, 16, 16))
class LayerNormNet(nn.Module):
    """Layer norms on maps: by hand, and by permuting to channels last and back."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 14, 4, 4), LayerNorm2d(14)
        self.depth, self.last, self.point = nn.Conv2d(14, 14, 7, padding=3, groups=14), nn.LayerNorm(14, eps=1e-6), nn.Linear(14, 28)
        self.scale = nn.Parameter(torch.randn(28))

    def forward(self, x: T) -> T:
        x = self.norm(self.stem(x))
        y = self.last(self.depth(x).permute(0, 2, 3, 1))
        return (self.scale * F.gelu(self.point(y))).permute(0, 3, 1, 2)


@odd((1, 3, 18, 18))
class StyleTransfer(nn.Module):
    """Reflection padding, instance norm with and without parameters, nearest upsampling (1603.08155)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, 6, 7), nn.InstanceNorm2d(6, affine=True), nn.ReLU(True), nn.Conv2d(6, 9, 3, 2))
        self.body = nn.Sequential(nn.ReplicationPad2d(1), nn.Conv2d(9, 9, 3), nn.InstanceNorm2d(9))
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.ReflectionPad2d((1, 2, 0, 1)), nn.Conv2d(9, 3, 3), nn.Sigmoid())

    def forward(self, x: T) -> T:
        y = self.down(x)
        return self.up(y + self.body(y)) * 255.0


@odd((1, 6, 8, 8))
class AdaptiveInstanceNorm(nn.Module):
    """Statistics of the map itself: mean, unbiased variance and std over pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: T) -> T:
        y = self.conv(x)
        mean, std = y.mean(dim=(2, 3), keepdim=True), y.std(dim=(2, 3), keepdim=True) + 1e-5
        like = x.view(*x.shape[:2], -1)
        return (y - mean) / std * like.var(dim=2, keepdim=True).unsqueeze(-1).sqrt() + like.mean(-1)[..., None, None]


@odd((1, 11, 6, 6))
class Activations(nn.Module):
    """Every activation in a row, each after a convolution whose epilogue it can join."""

    def __init__(self) -> None:
        super().__init__()
        acts = [nn.Hardswish(), nn.Mish(), nn.ELU(0.7), nn.PReLU(11), nn.PReLU(), nn.SELU(), nn.CELU(1.3), nn.Softplus(2.0), nn.Hardsigmoid()]
        acts += [nn.ReLU6(), nn.Hardtanh(-0.5, 0.8), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.LogSigmoid(), nn.Softsign(), nn.Tanhshrink()]
        acts += [nn.Hardshrink(0.1), nn.Softshrink(0.1), nn.Threshold(0.1, 0.05)]
        self.acts = nn.ModuleList(acts)
        self.conv = nn.Conv2d(11, 11, 1)

    def forward(self, x: T) -> T:
        y = torch.zeros_like(x)
        for act in self.acts:
            y = y + act(self.conv(x))
        return y


@odd((1, 30))
class Perceptron(nn.Module):
    """Only matrices: batch norms of rows, residuals, one result column."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.b, self.c = nn.Linear(30, 37), nn.BatchNorm1d(37), nn.Linear(37, 37), nn.Linear(37, 1)

    def forward(self, x: T) -> T:
        y = F.relu(self.bn(self.a(x)))
        return self.c(y + F.dropout(self.b(y), training=self.training)).squeeze(-1)


@odd((1, 8, 6, 6))
class InPlaceViews(nn.Module):
    """In-place arithmetic on views and slices of a map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: T) -> T:
        y = self.conv(x)
        flat = y.view(y.shape[0], -1)
        flat.mul_(0.5)
        y[:, :4].relu_()
        y[:, 4:, 1:-1, 1:-1] += x[:, 4:, 1:-1, 1:-1]
        y[:, 0] = x[:, 1]
        return y.clamp_(-2, 2)


@odd((1, 8, 9, 9))
class LocalResponse(nn.Module):
    """AlexNet's normalization over neighbouring channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 11, 3)

    def forward(self, x: T) -> T:
        return F.local_response_norm(F.relu(self.conv(x)), 5)


@odd((1, 4, 8, 8))
class Parametrized(nn.Module):
    """Weights with weight norm and spectral norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3))
        self.b = nn.utils.parametrizations.spectral_norm(nn.Conv2d(6, 4, 3))
        self.eval()

    def forward(self, x: T) -> T:
        return self.b(F.relu(self.a(x)))


@odd((1, 6, 7, 7))
class Arithmetic(nn.Module):
    """Scalars, grids, rounding, remainders, triangles: what is left of torch's arithmetic."""

    def forward(self, x: T) -> T:
        y = torch.ones_like(x) * x.mean() + torch.full((7,), 2.5) - torch.arange(7) ** 2 + torch.zeros(6, 1, 1)
        y = y.floor() + y.frac() + torch.where(y > 0, 1, -1) + torch.tril(torch.ones(7, 7)) * x.sign()
        y = y + (x // 0.5) % 3 + x.clamp(-1, 1).pow(3) + x.abs().pow(0.5) + x.reciprocal().clamp(-5, 5)
        return y + torch.log1p(x.abs()) + x.expm1().clamp(max=3)


@odd((1, 6, 7, 7))
class WideSums(nn.Module):
    """Means and sums in float64 after a convolution in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3)

    def forward(self, x: T) -> tuple[T, T]:
        y = self.conv(x)
        return (y.double().mean((2, 3)) * 3).to(y.dtype), y.sum(dtype=torch.float64, dim=1)
