"""Tersor makes trained CNNs small and fast: a torch or ONNX model becomes a graph, passes rewrite it, and TVM compiles it to native kernels.

Names are imported on first use, so that loading a compiled model imports neither torch nor a compiler.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backend.kernels.template import kernel
    from .backend.lowering.legalize import lowering
    from .backend.remote.device import device
    from .backend.runtime.bench import benchmark
    from .backend.runtime.model import CompiledModel, load_compiled
    from .backend.target import Target
    from .backend.tuned.database import Database
    from .backend.tuning.search import tune
    from .compiling import compile
    from .explore.auto import auto
    from .explore.sensitivity import sensitivity
    from .frontend.load import load
    from .frontend.onnx.export.registry import onnx_exporter
    from .frontend.onnx.registry import onnx_converter
    from .frontend.registry import converter
    from .frontend.torch.trace import trace
    from .ir.errors import TersorError, UnsupportedError, VerifyError
    from .ir.graph import Graph
    from .ir.op import Const, Op, Value
    from .ir.rewrite import rewrite
    from .ir.types import Tensor
    from .passes.core.base import Pass, register_pass
    from .passes.core.transform import transform
    from .passes.folding.image_input import image_input
    from .passes.train.module import from_torch, to_torch
    from .reports.page import report
    from .reports.quality import evaluate

_WHERE = {
    "CompiledModel": "backend.runtime.model",
    "Const": "ir.op",
    "Database": "backend.tuned.database",
    "Graph": "ir.graph",
    "Op": "ir.op",
    "Pass": "passes",
    "Target": "backend.target",
    "Tensor": "ir.types",
    "TersorError": "ir.errors",
    "UnsupportedError": "ir.errors",
    "Value": "ir.op",
    "VerifyError": "ir.errors",
    "auto": "explore.auto",
    "benchmark": "backend.runtime.bench",
    "compile": "compiling",
    "converter": "frontend.registry",
    "device": "backend.remote.device",
    "evaluate": "reports.quality",
    "from_torch": "passes.train.module",
    "image_input": "passes.folding.image_input",
    "kernel": "backend.kernels.template",
    "load": "frontend.load",
    "load_compiled": "backend.runtime.model",
    "lowering": "backend.lowering.legalize",
    "onnx_converter": "frontend.onnx.registry",
    "onnx_exporter": "frontend.onnx.export.registry",
    "register_pass": "passes",
    "report": "reports.page",
    "rewrite": "ir.rewrite",
    "sensitivity": "explore.sensitivity",
    "to_torch": "passes.train.module",
    "trace": "frontend.torch.trace",
    "transform": "passes",
    "tune": "backend.tuning.search",
}

__all__ = [
    "CompiledModel",
    "Const",
    "Database",
    "Graph",
    "Op",
    "Pass",
    "Target",
    "Tensor",
    "TersorError",
    "UnsupportedError",
    "Value",
    "VerifyError",
    "auto",
    "benchmark",
    "compile",
    "converter",
    "device",
    "evaluate",
    "from_torch",
    "image_input",
    "kernel",
    "load",
    "load_compiled",
    "lowering",
    "onnx_converter",
    "onnx_exporter",
    "register_pass",
    "report",
    "rewrite",
    "sensitivity",
    "to_torch",
    "trace",
    "transform",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("tersor")
    if name not in _WHERE:
        raise AttributeError(f"module 'tersor' has no attribute {name!r}; public names: {', '.join(__all__)}")
    value = getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
