"""Fashion-MNIST (Xiao et al., 1708.07747) as the Debian package dataset-fashion-mnist installs it: gzipped IDX files."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = 10
#: Mean and standard deviation of the training images' pixels, of 1.
MEAN, STD = 0.2860, 0.3530


class DataMissing(Exception):
    """The files are not there; the message says which package brings them."""


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
    folder = folder or Path(os.environ.get("TERSOR_FASHION_MNIST", FOLDER))
    pixels = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    if pixels.shape[0] != labels.shape[0] or pixels.shape[1:] != (28, 28):
        raise ValueError(f"{folder}: expected (N, 28, 28) images and N labels, got {pixels.shape} and {labels.shape}")
    return Images(torch.from_numpy(pixels[:, None]), torch.from_numpy(labels.astype(np.int64)))


def read_idx(path: Path) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes: 0, 0, type 8, rank, sizes as big-endian 32-bit integers, data."""
    if not path.is_file():
        raise DataMissing(
            f"{path} is missing: `apt-get install dataset-fashion-mnist` puts Fashion-MNIST into {FOLDER}; "
            "files elsewhere are found through the environment variable TERSOR_FASHION_MNIST"
        )
    with gzip.open(path) as file:
        raw = file.read()
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path}: expected an IDX file of unsigned bytes, it begins with {raw[:4].hex(' ')}")
    start = 4 + 4 * raw[3]
    shape = np.frombuffer(raw, ">u4", raw[3], offset=4).astype(int)
    if len(raw) != start + shape.prod():
        raise ValueError(f"{path}: the header says {shape.prod()} bytes of data, {len(raw) - start} follow")
    return np.frombuffer(bytearray(raw), np.uint8, offset=start).reshape(shape)
