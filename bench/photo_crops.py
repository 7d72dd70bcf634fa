"""Unlabelled photographs for calibration and for agreement: wallpapers of three Debian packages and the pictures of scikit-learn."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .fashion import DataMissing
from .photos import SIZE

WALLPAPERS = Path("/usr/share/backgrounds")
PACKAGES = "lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds"
#: Drawings and patterns among the wallpapers.
DRAWN = ("abstract", "desktop", "analogpattern", "Painting-Colors")
#: Side of a crop relative to the photograph's shorter side.
SHARES = (1.0, 0.7, 0.45)


@dataclass(frozen=True)
class Crops:
    """f32 (N, 3, 224, 224), mean 0.5 and std 0.5; no photograph is in both."""

    calibration: np.ndarray
    evaluation: np.ndarray


def photographs_on_disk(folder: Path = WALLPAPERS) -> list[Path]:
    """The files, in the order of their names. Raises DataMissing with the packages to install where there are too few."""
    files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
    files = [p for p in files if not any(word in str(p.relative_to(folder)) for word in DRAWN)]
    found = importlib.util.find_spec("sklearn")
    if found is not None and found.origin is not None:
        files += sorted((Path(found.origin).parent / "datasets/images").glob("*.jpg"))
    if len(files) < 20:
        raise DataMissing(f"{len(files)} photographs in {folder}, at least 20 are wanted: `apt-get install {PACKAGES}`")
    return files


def crops(per_photo: int = 12, seed: int = 0, folder: Path = WALLPAPERS) -> Crops:
    """`per_photo` random crops of each photograph, resized; every third photograph is for evaluation."""
    rng = np.random.default_rng(seed)
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for i, path in enumerate(photographs_on_disk(folder)):
        parts[i % 3 == 2].extend(cropped(path, per_photo, rng))
    return Crops(np.stack(parts[0]), np.stack(parts[1]))


def cropped(path: Path, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Square crops of the SHARES in turn, at random places."""
    from PIL import Image

    with Image.open(path) as image:
        image.draft("RGB", (2 * SIZE, 2 * SIZE))
        rgb = image.convert("RGB")
    scale = max(1.0, min(rgb.size) / (2 * SIZE))
    rgb = rgb.resize((round(rgb.width / scale), round(rgb.height / scale)), Image.Resampling.BICUBIC)
    result = []
    for i in range(count):
        side = round(SHARES[i % len(SHARES)] * min(rgb.size))
        left, top = int(rng.integers(rgb.width - side + 1)), int(rng.integers(rgb.height - side + 1))
        crop = rgb.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        pixels = np.asarray(crop, np.float32) / 255
        result.append(np.ascontiguousarray((pixels - 0.5).transpose(2, 0, 1) / 0.5))
    return result
