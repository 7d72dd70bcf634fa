"""Small networks, one for each combination of quantized operators, with images to calibrate them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import tersor


def conv(c: int, o: int, k: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(c, o, k, padding=k // 2, **options)


class Net(nn.Module):
    """A function of x and some layers."""

    def __init__(self, function: Callable[..., torch.Tensor], **layers: nn.Module):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def networks() -> dict[str, nn.Module]:
    """By topology; all take (N, 4, 8, 8)."""
    torch.manual_seed(0)
    bn = nn.BatchNorm2d(4)
    bn.running_mean.uniform_(-1, 1)
    bn.running_var.uniform_(0.5, 2)
    return {
        "chain": nn.Sequential(conv(4, 6), nn.ReLU6(), conv(6, 6, groups=6), nn.ReLU(), conv(6, 3, 1, bias=False)),
        "residual": Net(lambda s, x: s.c(F.relu(s.a(x) + s.b(F.relu(s.a(x))))), a=conv(4, 4), b=conv(4, 4), c=conv(4, 2)),
        "residual of an input": Net(lambda s, x: s.b(F.relu6(x + s.a(x))), a=conv(4, 4), b=conv(4, 5)),
        "two branches": Net(lambda s, x: s.c(F.relu(s.a(x) + s.b(x))), a=conv(4, 4), b=conv(4, 4, 1), c=conv(4, 2, 1)),
        "concat": Net(lambda s, x: s.c(torch.cat([F.max_pool2d(s.a(x), 3, 1, 1), F.relu(s.b(x)), x], 1)), a=conv(4, 3), b=conv(4, 5), c=conv(12, 4)),
        "excite": Net(
            lambda s, x: s.c(x * torch.sigmoid(s.b(F.relu(s.a(x.mean((2, 3), keepdim=True)))))), a=conv(4, 2, 1), b=conv(2, 4, 1), c=conv(4, 4)
        ),
        "tables": Net(lambda s, x: s.b(F.gelu(s.a(F.silu(s.a(x)))) * 0.5), a=conv(4, 4), b=conv(4, 4)),
        "norm in front": Net(lambda s, x: s.b(F.relu(s.bn(s.a(x) + x))), a=conv(4, 4), b=conv(4, 4), bn=bn.eval()),
        "shuffle": Net(lambda s, x: s.b(F.channel_shuffle(torch.cat([x[:, :2], s.a(x[:, 2:])], 1), 2)), a=conv(2, 2), b=conv(4, 4)),
        "transposed": Net(
            lambda s, x: s.c(F.interpolate(F.relu(s.a(x)), scale_factor=2) + s.b(x)),
            a=conv(4, 3),
            b=nn.ConvTranspose2d(4, 3, 2, 2),
            c=nn.ConvTranspose2d(3, 6, 3, 2, 1, groups=3),
        ),
        "classifier": nn.Sequential(conv(4, 8), nn.LeakyReLU(0.1), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, 5)),
        "mean": nn.Sequential(conv(4, 8), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    }


def images(count: int = 8, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.interpolate(torch.randn(count, 4, 4, 4, generator=generator), size=(8, 8), mode="bilinear") + 0.3


def traced(module: nn.Module) -> Any:
    return tersor.trace(module.eval(), (images(1),))
