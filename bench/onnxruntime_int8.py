"""onnxruntime's static int8 of a graph: QDQ, u8 activations, s8 weights with a scale per channel.

On processors without VNNI onnxruntime multiplies these by an instruction that saturates, and would need 7-bit weights (`reduce_range`).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tersor

Run = Callable[[np.ndarray], np.ndarray]
#: By setting: how it chooses ranges.
METHODS = {"onnxruntime minmax": "MinMax", "onnxruntime percentile": "Percentile", "onnxruntime entropy": "Entropy"}


class Reader:
    """What `quantize_static` reads its calibration batches from."""

    def __init__(self, name: str, batches: Sequence[np.ndarray]):
        self.batches: Iterator[dict[str, np.ndarray]] = iter([{name: batch} for batch in batches])

    def get_next(self) -> Any:
        return next(self.batches, None)


def quantized(graph: tersor.Graph, calibration: Sequence[np.ndarray], method: str, threads: int = 1) -> Run:
    """A function from images to logits. method: of METHODS' values; the graph is f32 with its norms folded."""
    import onnxruntime
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder:
        source, small = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        graph.to_onnx(source)
        logging.disable(logging.WARNING)
        try:
            quantize_static(
                source,
                small,
                Reader(graph.inputs[0].name, calibration),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                calibrate_method=getattr(CalibrationMethod, method),
            )
        finally:
            logging.disable(logging.NOTSET)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(small), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(x: np.ndarray) -> np.ndarray:
        result: np.ndarray = session.run(None, {name: x})[0]
        return result

    return run
