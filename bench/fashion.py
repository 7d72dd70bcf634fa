"""Fashion-MNIST (Xiao et al., 1708.07747) as the Debian package dataset-fashion-mnist installs it, kept as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ..passes.train.images import FASHION_MEAN, FASHION_MNIST, FASHION_STD, DataMissing, fashion_mnist_bytes, read_idx

FOLDER = FASHION_MNIST
CLASSES = 10
#: Mean and standard deviation of the training images' pixels, of 1.
MEAN, STD = FASHION_MEAN, FASHION_STD


@dataclass(frozen=True)
class Images:
    """pixels: u8 (N, 1, 28, 28); labels: i64 (N,)."""

    pixels: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def normalized(self, chosen: slice | torch.Tensor = slice(None)) -> torch.Tensor:
        """f32 (n, 1, 28, 28) of mean 0 and variance 1 over the training images."""
        return normalized(self.pixels[chosen])

    def sample(self, count: int, seed: int) -> torch.Tensor:
        """`count` images drawn without replacement, normalized."""
        order = np.random.default_rng(seed).permutation(len(self))[:count]
        return self.normalized(torch.from_numpy(order))


def normalized(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels.float() / 255 - MEAN) / STD


@cache
def fashion_mnist(part: str, folder: Path | None = None) -> Images:
    """part: "train" (60,000) or "t10k" (10,000). folder: by default $TERSOR_FASHION_MNIST or where the Debian package puts the files."""
    return Images(*fashion_mnist_bytes(part, folder))


def drawn(count: int, seed: int) -> Images:
    """Noisy boxes, whose width is their class, for examples that run where Fashion-MNIST is not installed."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=random)
    images = 0.3 * torch.randn(count, 1, 28, 28, generator=random)
    rows, columns = torch.arange(28)[:, None], torch.arange(28)
    inside = (rows >= 4) & (rows < 24) & (columns >= 4) & (columns < 6 + 2 * labels[:, None, None, None])
    return Images(((images + inside).clamp(0, 1) * 255).byte(), labels)


__all__ = ["CLASSES", "FOLDER", "MEAN", "STD", "DataMissing", "Images", "drawn", "fashion_mnist", "normalized", "read_idx"]
