"""MNN's post-training int8 of a graph: `mnnquant` with its defaults for convolutions (KL ranges, s8 weights with a scale per channel).

Needs the package mnn. The tool reads its calibration images from a folder of files, so they are written as PNG: values of an image batch are
mapped to bytes by one scale and one offset.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import tersor

from .peers import ADAPTERS, mnn_from_onnx, mnn_tool, open_mnn

Run = Callable[[np.ndarray], np.ndarray]


def quantized(graph: tersor.Graph, calibration: Sequence[np.ndarray], method: str = "KL", threads: int = 1) -> Run:
    """A function from images (1, 3, H, W) to logits. method: MNN's feature_quantize_method; the graph is f32 with its norms folded.

    Raises Unavailable without the package.
    """
    from PIL import Image

    ADAPTERS["MNN"].require()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = np.concatenate(list(calibration))
        low, high = float(images.min()), float(images.max())
        (folder / "images").mkdir()
        for i, image in enumerate(images):
            pixels = np.rint((image.transpose(1, 2, 0) - low) * (255 / (high - low))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        graph.to_onnx(folder / "model.onnx")
        full, small = mnn_from_onnx(folder / "model.onnx", folder / "float.mnn"), folder / "int8.mnn"
        settings = {
            "format": "RGB",
            # x = (pixel - mean) * normal
            "mean": [-low * 255 / (high - low)] * 3,
            "normal": [(high - low) / 255] * 3,
            "width": images.shape[3],
            "height": images.shape[2],
            "path": str(folder / "images") + "/",
            "used_image_num": len(images),
            "feature_quantize_method": method,
            "weight_quantize_method": "MAX_ABS",
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        mnn_tool("mnnquant", str(full), str(small), str(folder / "settings.json"), result=small)
        return open_mnn(str(small), threads, precision="normal")
