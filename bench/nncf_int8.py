"""nncf's post-training int8 of a graph, run by openvino: its default preset, u8 activations and s8 weights with a scale per channel.

Needs the packages nncf and openvino (`pip install nncf openvino`); benchmarks say so where they are missing.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import tersor

Run = Callable[[np.ndarray], np.ndarray]
#: By setting: its preset, and whether it corrects biases after a pass over the data ("fast") or layer by layer.
METHODS = {"nncf mixed": "mixed", "nncf performance": "performance", "nncf mixed, accurate bias": "mixed accurate"}


def quantized(graph: tersor.Graph, calibration: Sequence[np.ndarray], method: str, threads: int = 1) -> Run:
    """A function from images to logits. method: a value of METHODS; the graph is f32 with its norms folded."""
    import nncf
    import openvino

    preset, _, accurate = method.partition(" ")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float.onnx"
        graph.to_onnx(source)
        model = openvino.Core().read_model(source)
        images = np.concatenate(list(calibration))
        small = nncf.quantize(
            model,
            nncf.Dataset([image[None] for image in images]),
            preset=nncf.QuantizationPreset(preset),
            subset_size=len(images),
            fast_bias_correction=not accurate,
        )
        exe = openvino.Core().compile_model(small, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})

    def run(x: np.ndarray) -> np.ndarray:
        result: np.ndarray = np.array(exe(x)[0])
        return result

    return run
