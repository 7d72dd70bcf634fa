"""A convolution whose inputs are to be chosen, and the error of a choice, by an explicit fit."""

from __future__ import annotations

import numpy as np
import torch
from prune_cases import trained
from torch import nn

import tersor
from tersor.ir.ops import Conv2d
from tersor.passes.reconstruct.rows import patches, sample

RNG = np.random.default_rng(0)
CHANNELS = 6


def problem(groups: int) -> tuple[Conv2d, list[np.ndarray], list[np.ndarray]]:
    """A convolution, its patches and wanted responses by group; channels 0 and 1 are nearly equal."""
    module = trained(nn.Conv2d(CHANNELS, 4, 3, groups=groups), (4, CHANNELS, 8, 8))
    (conv,) = tersor.trace(module, (torch.randn(2, CHANNELS, 8, 8),)).find(Conv2d)
    assert isinstance(conv, Conv2d)
    x = torch.randn(20, CHANNELS, 8, 8) * torch.linspace(0.5, 2, CHANNELS).reshape(1, -1, 1, 1) + 1
    x[:, 1] = 0.9 * x[:, 0] + 0.1 * x[:, 1]
    image, pixel = sample(RNG, 20, 36, 20)
    parts = [p.astype(np.float64) for p in patches(conv, x, image, pixel)]
    with torch.no_grad():
        y = module(x).flatten(2).numpy()[image, :, pixel].astype(np.float64)
    return conv, parts, np.split(y + 0.2 * RNG.standard_normal(y.shape), groups, axis=1)


def left(parts: list[np.ndarray], ys: list[np.ndarray], sensitivity: np.ndarray, kept: np.ndarray) -> float:
    """Weighted squared error of the best linear fit to the kept channels."""
    total, per_group = 0.0, CHANNELS // len(parts)
    for g, (x, y, d) in enumerate(zip(parts, ys, np.split(sensitivity, len(parts)))):
        mine = kept[g * per_group : (g + 1) * per_group]
        a = np.hstack([x[:, np.repeat(mine, 9)], np.ones((len(x), 1))])
        total += float((((y - a @ np.linalg.lstsq(a, y, rcond=None)[0]) ** 2) @ d).sum())
    return total
