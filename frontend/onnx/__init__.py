"""ONNX import and export: `load_onnx` reads a model as a graph, `save_onnx` writes a graph as a model. Importing it does not import onnx."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .export.registry import onnx_exporter
from .registry import Floats, Ints, onnx_converter

if TYPE_CHECKING:
    from .export.save import save_onnx
    from .load import load_onnx

__all__ = ["Floats", "Ints", "known_operators", "load_onnx", "onnx_converter", "onnx_exporter", "save_onnx"]

_WHERE = {"load_onnx": "load", "save_onnx": "export.save"}


def known_operators(domain: str = "") -> list[str]:
    """Names of the operators that have a converter, those of users included."""
    from . import ops  # noqa: F401  registers them
    from .registry import CONVERTERS

    return sorted(name for of, name in CONVERTERS if of == domain)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
