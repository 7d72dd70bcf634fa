"""Convolutions and pooling in three dimensions, and places of maxima, against eager torch in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from frontend_checks import agrees
from sampling import some
from torch import nn

import tersor

VOLUME = (2, 4, 6, 7, 5)


def x(*shape: int) -> torch.Tensor:
    return torch.randn(shape or VOLUME, generator=torch.Generator().manual_seed(3))


CONVOLUTIONS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Conv3d(4, 3, 3),
    "all of it": lambda: nn.Conv3d(4, 6, (2, 3, 1), (2, 1, 3), (1, 2, 0), (3, 1, 2), 2),
    "depthwise": lambda: nn.Conv3d(4, 4, (1, 3, 3), padding=(0, 1, 1), groups=4, bias=False),
    "same": lambda: nn.Conv3d(4, 2, (2, 3, 4), padding="same"),
    "transposed": lambda: nn.ConvTranspose3d(4, 3, 2),
    "transposed, all of it": lambda: nn.ConvTranspose3d(4, 6, (3, 2, 3), (2, 3, 1), (1, 0, 2), (1, 2, 0), 2, True, (2, 1, 1)),
}
POOLS: dict[str, Callable[[torch.Tensor], Any]] = {
    "max": lambda x: F.max_pool3d(x, (2, 3, 2), (1, 2, 2), (1, 1, 0), (2, 1, 1)),
    "max, rounded up": lambda x: F.max_pool3d(x, 2, 3, 1, ceil_mode=True),
    "avg": lambda x: F.avg_pool3d(x, (2, 3, 2), (1, 2, 2), (1, 1, 0)),
    "avg of x alone": lambda x: F.avg_pool3d(x, 3, 2, 1, True, False),
    "avg with a divisor": lambda x: F.avg_pool3d(x, 2, 2, divisor_override=5),
    "adaptive": lambda x: (F.adaptive_avg_pool3d(x, (3, 4, 2)), F.adaptive_max_pool3d(x, (4, 1, 3)), F.adaptive_avg_pool3d(x, 1)),
    "lp": lambda x: (F.lp_pool1d(x.flatten(2), 2, 3), F.lp_pool2d(x.flatten(2, 3), 3.0, 2)),
    "norm": lambda x: F.local_response_norm(x, 3),
    "channels": lambda x: F.instance_norm(x),
}
PLACES: dict[str, Callable[[torch.Tensor], Any]] = {
    "1d": lambda x: F.max_pool1d(x.flatten(2), 3, 2, 1, 2, return_indices=True),
    "2d": lambda x: F.max_pool2d(x.flatten(2, 3), (3, 2), (2, 3), (1, 0), ceil_mode=True, return_indices=True),
    "3d": lambda x: F.max_pool3d(x, (2, 3, 2), 2, (1, 1, 0), return_indices=True),
    "adaptive": lambda x: (F.adaptive_max_pool1d(x.flatten(2), 4, True), F.adaptive_max_pool2d(x.flatten(2, 3), (5, 2), True)),
    "adaptive 3d": lambda x: F.adaptive_max_pool3d(x, (4, 5, 2), True),
    "equals": lambda x: F.max_pool2d(torch.round(x.flatten(2, 3) / 3), 3, 1, 1, return_indices=True),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    torch.manual_seed(0)
    agrees(CONVOLUTIONS[name](), [x()])


@pytest.mark.parametrize("name", POOLS)
def test_pools(name: str) -> None:
    agrees(POOLS[name], [x()])


@pytest.mark.parametrize("name", PLACES)
def test_places_of_maxima(name: str) -> None:
    agrees(PLACES[name], [x()])


def test_without_a_batch() -> None:
    agrees(nn.Conv3d(4, 3, 3), [x(*VOLUME[1:])], static=True)
    agrees(lambda x: (F.max_pool3d(x, 2), F.adaptive_avg_pool3d(x, 2)), [x(*VOLUME[1:])], batches=(1, 4))


def test_unpooling() -> None:
    agrees(lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(7, 6)), [x(2, 3, 7, 6)], static=True)
    agrees(lambda x: F.max_unpool3d(*F.max_pool3d(x, 2, return_indices=True), 2), [x(2, 3, 4, 6, 4)], static=True)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.up = nn.Conv3d(4, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ConvTranspose3d(8, 3, 2, 2)

    def forward(self, x: torch.Tensor) -> Any:
        y, places = F.max_pool3d(F.relu(self.norm(self.first(x))), 2, return_indices=True)
        return self.up(y), places, F.adaptive_avg_pool3d(y, 1)


@pytest.mark.parametrize("batch", some([2, 1], 2))
def test_compiled(batch: int) -> None:
    torch.manual_seed(0)
    net, data = Net().eval(), x(batch, *VOLUME[1:])
    got, wanted = tersor.compile(tersor.trace(net, (data,)))(data), net(data)
    for g, w in zip(got, wanted, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-5, atol=1e-5)
