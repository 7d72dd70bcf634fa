"""Trigonometry, in f64."""

from __future__ import annotations

from collections.abc import Callable

from ....ir.op import Value
from ...trigonometry import TRIGONOMETRY
from ..node import Node
from ..registry import onnx_converter


def _register_trigonometry(name: str, function: Callable[[Value], Value]) -> None:
    @onnx_converter(name)
    def convert(node: Node, x: Value) -> Value:
        return node.cast(function(node.cast(x, "f64")), str(x.type.elem))


for _name, _function in TRIGONOMETRY.items():
    _register_trigonometry(_name, _function)
