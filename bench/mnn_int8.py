"""MNN's post-training int8 of a graph: `mnnquant` with its defaults for convolutions (KL ranges, s8 weights with a scale per channel).

Needs the package mnn. The tool reads its calibration images from a folder of files, so they are written as PNG: values of an image batch are
mapped to bytes by one scale and one offset.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import tersor

Run = Callable[[np.ndarray], np.ndarray]


def quantized(graph: tersor.Graph, calibration: Sequence[np.ndarray], method: str = "KL", threads: int = 1) -> Run:
    """A function from images (1, 3, H, W) to logits. method: MNN's feature_quantize_method; the graph is f32 with its norms folded."""
    import MNN
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = np.concatenate(list(calibration))
        low, high = float(images.min()), float(images.max())
        (folder / "images").mkdir()
        for i, image in enumerate(images):
            pixels = np.rint((image.transpose(1, 2, 0) - low) * (255 / (high - low))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        graph.to_onnx(folder / "model.onnx")
        _tool(folder, "mnnconvert", "-f", "ONNX", "--modelFile", "model.onnx", "--MNNModel", "float.mnn", "--bizCode", "tersor")
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
        _tool(folder, "mnnquant", "float.mnn", "int8.mnn", "settings.json")
        net = MNN.Interpreter(str(folder / "int8.mnn"))
    session = net.createSession({"backend": "CPU", "numThread": threads})
    given, result = net.getSessionInput(session), net.getSessionOutput(session)
    host = MNN.Tensor(result.getShape(), MNN.Halide_Type_Float, np.zeros(result.getShape(), np.float32), MNN.Tensor_DimensionType_Caffe)

    def run(x: np.ndarray) -> np.ndarray:
        given.copyFrom(MNN.Tensor(x.shape, MNN.Halide_Type_Float, x, MNN.Tensor_DimensionType_Caffe))
        net.runSession(session)
        result.copyToHostTensor(host)
        return np.array(host.getNumpyData())

    return run


def _tool(folder: Path, name: str, *arguments: str) -> None:
    """The converter's function: the package's commands report their use to a server."""
    command = [sys.executable, "-c", f"import _tools; _tools.{name}({[name, *arguments]})"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} ended with code {done.returncode}: {done.stdout.strip().splitlines()[-1:]}")
