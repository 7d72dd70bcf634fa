"""`load_onnx`: an ONNX file -> a Graph."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...ir.graph import Graph
from ..errors import StaticBatchNeeded
from .inputs import Input, Shapes, read_inputs
from .prepare import prepare, read_model
from .walk import Walk


def load_onnx(source: str | Path | Any, shapes: Shapes | None = None, *, batch: bool = True) -> Graph:
    """The graph of an ONNX model.

    source: a file (external data beside it is read too), or a ModelProto.
    shapes: sizes of inputs by name, where the file leaves more than the batch free.
    batch: a free dimension 0 stays free, so that `graph.at(batch=n)` works; the types in the graph are for the batch given, or 1.
        Where the model does not allow that, a warning says why and the batch is fixed.

    Opset 7 and later. Node names become the ops' locations, tensor names the names of values. Shape arithmetic and other
    nodes of known inputs are folded. Raises `TersorError` for files that are broken and for sizes that are missing, `UnsupportedError` for
    operators without a converter (all of them at once; see `tersor.onnx_converter`).
    """
    if isinstance(source, str | Path):
        name, model = Path(source).name, read_model(source)
    else:
        name, model = "the model", type(source).FromString(source.SerializeToString())
    prepared = prepare(model, name)
    inputs = read_inputs(prepared.graph, shapes, name)
    if batch and any(i.batched for i in inputs):
        try:
            return Walk(prepared, name, inputs, free=True).run()
        except StaticBatchNeeded as why:
            reason = str(why)
    graph = Walk(prepared, name, [replace(i, batched=False) for i in inputs], free=False).run()
    if batch and any(i.batched for i in inputs):
        warnings.warn(f"{name} is loaded at batch {_batch(inputs)} only: {reason}", stacklevel=2)
    return graph


def _batch(inputs: list[Input]) -> int:
    return next(i.shape[0] for i in inputs if i.batched)
