"""A quantized ONNX model checked rounding by rounding: every op gets onnxruntime's own tensors, so that no rounding hides behind one before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tersor.frontend.onnx.runtime import OnnxRuntime
from tersor.ir.evaluate import evaluate, to_numpy, to_torch
from tersor.ir.graph import Graph
from tersor.ir.op import Op
from tersor.ir.ops import QuantSoftmax


def roundings(path: Path, graph: Graph, x: np.ndarray) -> dict[str, tuple[int, float]]:
    """By the name of an 8-bit tensor: the largest difference from onnxruntime's (without optimizations) in steps, and the share that differs.

    A value of the graph is compared where onnxruntime has a tensor of its name, and replaced by that before it is read. An integer softmax is that
    of onnxruntime's optimizations, so it is not compared.
    """
    _, tensors = OnnxRuntime(path, [x.shape]).run([x])
    known = {name: array for name, (_, _, array) in tensors.items() if array.dtype in (np.int8, np.uint8)}
    found: dict[str, tuple[int, float]] = {}

    # what a node became has its name, the parts their own behind it: the last of them is the result
    last: dict[str, Op] = {}
    for op in graph.ops:
        for name in (op.out.name, op.out.name.rpartition("_")[0]):
            if name in known and (op.out.type.dtype, op.out.shape) == (known[name].dtype, known[name].shape):
                last[name] = op
    results = {op: name for name, op in last.items()}

    def compute(op: Op, *operands: Any) -> Any:
        y = op.evaluate(*operands)
        if op not in results:
            return y
        name = results[op]
        steps = np.abs(to_numpy(y).astype(int) - known[name].astype(int))
        if not isinstance(op, QuantSoftmax):
            found[name] = (int(steps.max()), float(np.mean(steps > 0)))
        return to_torch(known[name])

    with torch.no_grad():
        evaluate(graph, [to_torch(x)], compute=compute)
    return found
