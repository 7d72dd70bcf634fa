"""Labelled images on disk: folders of image files, and Fashion-MNIST as the Debian package installs it."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch.utils.data import Dataset

from ...ir.errors import TersorError

#: Where the package dataset-fashion-mnist puts its files.
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
#: Mean and standard deviation of Fashion-MNIST's training images, for pixels from 0 to 1.
FASHION_MEAN, FASHION_STD = 0.2860, 0.3530
#: Names of image files.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")


class DataMissing(TersorError):
    """The files are missing; the message names the package that has them."""


class ImageFolder(Dataset[tuple[torch.Tensor, int]]):
    """Images in sub-folders, whose sorted names are the labels 0, 1, …: `folder/cat/1.jpg`, `folder/dog/7.png`.

    An image is (channels, height, width) in f32: grey for one channel, RGB for three; resized (bilinear, antialiased) so that its shorter
    side is `resize` (by default what the crop needs), its middle cut out, scaled to 0 .. 1, and normalized to (x - mean) / std (one number each, or
    one for each channel). Without mean and std it is u8 (height, width, channels), for a network of `image_input`. labels=False takes the images of
    the folder itself too, all with label 0. Needs Pillow. Nothing is drawn at random: for augmentation wrap it in a Dataset of your own.
    """

    def __init__(
        self,
        folder: str | Path,
        shape: tuple[int, int, int],
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        resize: int | None = None,
        labels: bool = True,
    ):
        self.channels, *self.crop = shape
        if self.channels not in (1, 3):
            raise TersorError(f"images have 1 or 3 channels, and {self.channels} are wanted: give such data as arrays")
        if resize is not None and resize < max(self.crop):
            raise TersorError(f"images resized to {resize} cannot be cut to {self.crop[0]}x{self.crop[1]}: expected {max(self.crop)} at least")
        self.resize = resize
        if (mean is None) != (std is None):
            raise TersorError("mean and std are given together, or neither for images as bytes")
        self.statistics = None if mean is None or std is None else (per_channel(mean, self.channels, "mean"), per_channel(std, self.channels, "std"))
        self.classes, self.files = _files(Path(folder), labels)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.files[index]
        pixels = torch.from_numpy(self._pixels(path)).reshape(*self.crop, self.channels)
        if self.statistics is None:
            return pixels, label
        mean, std = self.statistics
        return (pixels.permute(2, 0, 1).float() / 255 - mean) / std, label

    def batches(self, size: int, whole: bool = False) -> Batches:
        """Batches of images without labels, for calibration. They are read when they are used, so a folder need not fit into memory.

        whole: leave a last batch of fewer images out.
        """
        return Batches(self, size, len(self) // size if whole else -(-len(self) // size))

    def _pixels(self, path: Path) -> np.ndarray:
        """u8 (height, width[, 3])"""
        image_module = _pillow()
        try:
            image = image_module.open(path).convert("L" if self.channels == 1 else "RGB")
        except OSError as error:
            raise TersorError(f"{path} is not an image that Pillow reads: {error}") from None
        high, wide = self.crop
        scale = max(high / image.height, wide / image.width) if self.resize is None else self.resize / min(image.size)
        size = (max(wide, round(image.width * scale)), max(high, round(image.height * scale)))
        left, top = (size[0] - wide) // 2, (size[1] - high) // 2
        return np.array(image.resize(size, image_module.Resampling.BILINEAR).crop((left, top, left + wide, top + high)))


class Batches(Sequence[torch.Tensor]):
    """A data set's images by batch number, read again each time."""

    def __init__(self, images: ImageFolder, size: int, length: int):
        self.images = images
        self.size = size
        self.length = length

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> torch.Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[torch.Tensor]: ...
    def __getitem__(self, index: int | slice) -> torch.Tensor | list[torch.Tensor]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.length))]
        if not -self.length <= index < self.length:
            raise IndexError(index)
        start = index % self.length * self.size
        return torch.stack([self.images[i][0] for i in range(start, min(start + self.size, len(self.images)))])


def _files(folder: Path, labels: bool) -> tuple[list[str], list[tuple[Path, int]]]:
    """Names of the classes, and every image file with the number of its class."""
    if not folder.is_dir():
        wanted = "one with a sub-folder of images for each class" if labels else "one of images"
        raise TersorError(f"there is no folder {folder}; expected {wanted}, or fashion-mnist")
    if not labels:
        found = [(path, 0) for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
        if not found:
            raise TersorError(f"{folder} holds no images: expected files with a name that ends in {', '.join(SUFFIXES)}")
        return [], found
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    files = [(path, i) for i, name in enumerate(classes) for path in sorted((folder / name).rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise TersorError(f"{folder} holds no images in sub-folders: expected {folder}/CLASS/IMAGE with a name that ends in {', '.join(SUFFIXES)}")
    return classes, files


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise TersorError("reading image files needs Pillow: pip install pillow") from None
    return Image


def per_channel(values: Sequence[float], channels: int, name: str) -> torch.Tensor:
    """Numbers for each channel, shaped to broadcast over (channels, height, width)."""
    if len(values) not in (1, channels):
        raise TersorError(f"{name} needs one number, or one for each of {channels} channels, got {len(values)}")
    return torch.tensor(list(values), dtype=torch.float32).reshape(-1, 1, 1)


def fashion_mnist(
    part: str, mean: Sequence[float] = (FASHION_MEAN,), std: Sequence[float] = (FASHION_STD,), folder: Path | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, f32 (N, 1, 28, 28), as (x - mean) / std, and labels, i64 (N,), of `train` (60,000) or `t10k` (10,000) (Xiao et al., 1708.07747)."""
    pixels, labels = fashion_mnist_bytes(part, folder)
    return (pixels.float() / 255 - per_channel(mean, 1, "mean")) / per_channel(std, 1, "std"), labels


def fashion_mnist_bytes(part: str, folder: Path | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels, u8 (N, 1, 28, 28), and labels. folder: by default $TERSOR_FASHION_MNIST or where the Debian package puts the files."""
    folder = folder or Path(os.environ.get("TERSOR_FASHION_MNIST", FASHION_MNIST))
    pixels = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    if pixels.shape[0] != labels.shape[0] or pixels.shape[1:] != (28, 28):
        raise TersorError(f"{folder}: expected (N, 28, 28) images and N labels, got {pixels.shape} and {labels.shape}")
    return torch.from_numpy(pixels[:, None]), torch.from_numpy(labels.astype(np.int64))


def read_idx(path: Path) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes: 0, 0, type 8, rank, sizes as big-endian 32-bit integers, data."""
    if not path.is_file():
        raise DataMissing(
            f"{path} is missing: `apt-get install dataset-fashion-mnist` puts Fashion-MNIST into {FASHION_MNIST}; "
            "files elsewhere are found through the environment variable TERSOR_FASHION_MNIST"
        )
    with gzip.open(path) as file:
        raw = file.read()
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise TersorError(f"{path}: expected an IDX file of unsigned bytes, it begins with {raw[:4].hex(' ')}")
    start = 4 + 4 * raw[3]
    shape = np.frombuffer(raw, ">u4", raw[3], offset=4).astype(int)
    if len(raw) != start + shape.prod():
        raise TersorError(f"{path}: the header says {shape.prod()} bytes of data, {len(raw) - start} follow")
    return np.frombuffer(bytearray(raw), np.uint8, offset=start).reshape(shape)
