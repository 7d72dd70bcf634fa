"""Small ONNX models made of nodes, loaded and compared with onnxruntime."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import assert_equal, inputs_for, results_of, run_ort

import tersor
from tersor.frontend.onnx import load_onnx

F = TensorProto.FLOAT
Dims = Sequence[int | str | None] | None


def tensor(name: str, array: Any) -> Any:
    return numpy_helper.from_array(np.asarray(array), name)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model(
    nodes: Sequence[Any], inputs: dict[str, Dims], outputs: Sequence[str], constants: dict[str, Any] | None = None, opset: int = 21, **more: Any
) -> Any:
    """A model of f32 inputs and outputs of unknown shapes."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, F, d) for n, d in inputs.items()],
        [helper.make_tensor_value_info(n, F, None) for n in outputs],
        [tensor(n, a) for n, a in (constants or {}).items()],
    )
    imports = more.pop("opset_imports", [helper.make_opsetid("", opset)])
    return helper.make_model(graph, opset_imports=imports, ir_version=8, **more)


N = helper.make_node


def check(proto: Any, shapes: Any = None, batches: Sequence[int] = (1, 3)) -> tersor.Graph:
    """The loaded graph, whose results are onnxruntime's at every batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = load_onnx(proto, shapes)
    for batch in batches if graph.batched else (None,):
        inputs = inputs_for(graph, batch)
        assert_equal(results_of(graph, inputs), run_ort(proto, inputs), 1e-5)
    return graph


def op_names(graph: tersor.Graph) -> list[str]:
    return [op.name.removeprefix("nn.") for op in graph if op.name != "nn.constant"]
