"""Trigonometric functions by their ONNX names, for converters that compute in f64."""

from __future__ import annotations

from collections.abc import Callable

from ..ir.op import Value
from ..ir.ops import Acos, Asin, Atan, Cos, Sin, Tan

TRIGONOMETRY: dict[str, Callable[[Value], Value]] = {
    "Sin": lambda x: Sin(x).out,
    "Cos": lambda x: Cos(x).out,
    "Tan": lambda x: Tan(x).out,
    "Atan": lambda x: Atan(x).out,
    "Asin": lambda x: Asin(x).out,
    "Acos": lambda x: Acos(x).out,
}
