"""Quantized operators, which have no integer form yet."""

from __future__ import annotations

from typing import Any

from ..node import Node
from ..registry import onnx_converter

OPERATORS = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
)


@onnx_converter(*OPERATORS)
def quantized(node: Node, *inputs: Any, axis: int = 1, saturate: int = 1, block_size: int = 0, output_dtype: int = 0, precision: int = 0) -> Any:
    raise node.unsupported("quantized models are not supported yet; load the float model that it was made from")
