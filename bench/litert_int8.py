"""LiteRT's post-training int8 of a torch module: litert-torch converts, ai-edge-quantizer quantizes (s8 activations and weights), XNNPACK runs.

The converter and the quantizer run in the Python that has them (peers.py: this one, or that of TERSOR_LITERT_PYTHON); the model runs here, by
the package ai-edge-litert.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from .peers import litert_python, open_litert

Run = Callable[[np.ndarray], np.ndarray]

_CONVERT = """
import sys, numpy, torch, litert_torch
from ai_edge_quantizer import algorithm_manager, qtyping, quantizer, recipe
program, images, path = sys.argv[1:]
batches = numpy.load(images)
litert_torch.convert(torch.export.load(program).module(), (torch.from_numpy(batches[:1]),)).export(path + ".f32")
made = quantizer.Quantizer(path + ".f32")
made.load_quantization_recipe(recipe.static_wi8_ai8())
for border in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
    made.update_quantization_recipe(".*", border, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE)
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter(path + ".f32").get_signature_runner()
(name,) = runner.get_input_details()
found = made.calibrate({"serving_default": [{name: image[None]} for image in batches]})
made.quantize(found).export_model(path)
"""


def quantized(module: torch.nn.Module, calibration: Sequence[np.ndarray], threads: int = 1) -> Run:
    """A function from images (1, 3, H, W) to logits. Raises Unavailable where no Python has the converter."""
    python = litert_python()
    images = np.concatenate(list(calibration))
    with tempfile.TemporaryDirectory() as name:
        program, batches, path = (Path(name) / file for file in ("model.pt2", "images.npy", "model.tflite"))
        with torch.no_grad():
            torch.export.save(torch.export.export(module, (torch.from_numpy(images[:1]),)), program)
        np.save(batches, images)
        done = subprocess.run([python, "-c", _CONVERT, str(program), str(batches), str(path)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the converter of LiteRT ended with code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
        return open_litert(str(path), threads)
