"""Runs an ONNX model in onnxruntime without optimizations, so that every tensor between its nodes can be read. onnxruntime is optional."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...ir.errors import TersorError
from ...ir.types import NUMPY
from .inputs import Shapes, read_inputs
from .prepare import prepare, read_model


class OnnxRuntime:
    """A model for onnxruntime. inputs: shape and dtype by name, free sizes filled in from `shapes`, a free batch with 1."""

    def __init__(self, path: str | Path, shapes: Shapes | None = None):
        self.path = Path(path)
        if self.path.suffix != ".onnx":
            raise TersorError(f"onnxruntime runs .onnx files, got {path}")
        prepared = prepare(read_model(path), self.path.name)
        self.inputs = {i.name: (i.shape, NUMPY[i.elem]) for i in read_inputs(prepared.graph, shapes, self.path.name)}

    def run(self, arrays: Sequence[np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, str, np.ndarray]]]:
        """Outputs by name, and every other tensor as (operator, name of its node, array). Arrays come in the order of the inputs."""
        runtime = _onnxruntime()
        model = read_model(self.path)
        outputs = [o.name for o in model.graph.output]
        makers = {name: node for node in model.graph.node for name in node.output if name and name not in outputs}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in makers)
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        try:
            session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            results = session.run([*outputs, *makers], dict(zip(self.inputs, arrays)))
        except Exception as error:  # onnxruntime raises many kinds
            raise TersorError(f"onnxruntime cannot run {self.path}: {' '.join(str(error).split())[:300]}") from error
        found: dict[str, Any] = dict(zip([*outputs, *makers], results))
        inner = {
            n: (node.op_type, node.name, found[n]) for n, node in makers.items() if isinstance(found[n], np.ndarray) and found[n].dtype.kind in "fiub"
        }
        return {n: found[n] for n in outputs}, inner


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise TersorError("onnxruntime is not installed; pip install onnxruntime, or compare without ort:") from None
    return onnxruntime
