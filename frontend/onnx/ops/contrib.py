"""Quantized operators of onnxruntime, which `quantize_static(quant_format=QOperator)` writes; converted as float ops between DQ and Q."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ....ir.errors import VerifyError
from ....ir.op import Const, Op, Value
from ....ir.ops import Add, Concat, Dequantize, LeakyRelu, Mean, Mul, QuantSoftmax, Sigmoid, Softmax
from ..integers import plain, stored, uniform_type, weight
from ..node import Node
from ..registry import onnx_converter
from .pooling import Numbers, average_pool
from .products import gemm
from .quantized import bias_of, to_floats, to_integers

DOMAIN = "com.microsoft"


def _real(node: Node, given: tuple[Value, ...], at: int) -> Value:
    """The tensor whose scale and zero point are the next two inputs."""
    x, scale, zero = given[at : at + 3]
    return to_floats(node, x, scale, zero, storage=node.storage(at))


def _rounded(node: Node, y: Value | Op, given: tuple[Value, ...], at: int) -> Value:
    """y by the scale and zero point that are the inputs from `at` on."""
    zero = given[at + 1] if at + 1 < len(given) else None
    return to_integers(node, y.out if isinstance(y, Op) else y, given[at], zero, storage=node.storage(at + 1) or "u8")


def _register_binary(name: str, kind: Callable[[Value, Value], Op]) -> None:
    @onnx_converter(name, domain=DOMAIN)
    def convert(node: Node, *given: Value) -> Value:
        return _rounded(node, kind(_real(node, given, 0), _real(node, given, 3)), given, 6)


_register_binary("QLinearAdd", Add)
_register_binary("QLinearMul", Mul)


@onnx_converter("QLinearSigmoid", domain=DOMAIN)
def qlinear_sigmoid(node: Node, *given: Value) -> Value:
    return _rounded(node, Sigmoid(_real(node, given, 0)), given, 3)


@onnx_converter("QLinearLeakyRelu", domain=DOMAIN)
def qlinear_leaky_relu(node: Node, *given: Value, alpha: float = 0.01) -> Value:
    return _rounded(node, LeakyRelu(_real(node, given, 0), alpha), given, 3)


@onnx_converter("QLinearSoftmax", domain=DOMAIN)
def qlinear_softmax(node: Node, *given: Value, axis: int = -1, opset: int = 13) -> Value:
    if opset < 13:
        raise node.unsupported(f"softmax as opset {opset} had it, over all axes behind one; valid: 13 or later")
    x, rank = given[0], given[0].type.rank
    scale, zero = given[3], given[4] if len(given) > 4 else None
    elem = uniform_type(node, node.storage(0), given[1], given[2], 1, rank)
    to = uniform_type(node, node.storage(4) or "u8", scale, zero, 1, rank)
    if elem is not None and to is not None:
        # rows that are too short for its arithmetic are computed in floats
        with suppress(VerifyError):
            return plain(QuantSoftmax(stored(x, elem), node.axis(axis, rank), to))
    y = Softmax(_real(node, given, 0), node.axis(axis, rank)).out
    if (known := node.constant(scale)) is not None and 0 < known.max() <= 1:
        # onnxruntime multiplies by the floor of the reciprocal
        scale = node.const(1 / np.floor(1 / known), "f32")
    return to_integers(node, y, scale, zero, storage=node.storage(4) or "u8")


def _channels_first(node: Node, channels_last: int) -> None:
    if channels_last:
        raise node.unsupported("channels_last; valid: 0, which models have that are not optimized by onnxruntime")


@onnx_converter("QLinearGlobalAveragePool", domain=DOMAIN)
def qlinear_global_average_pool(node: Node, *given: Value, channels_last: int = 0) -> Value:
    _channels_first(node, channels_last)
    return _rounded(node, Mean(_real(node, given, 0), tuple(range(2, given[0].type.rank)), True), given, 3)


@onnx_converter("QLinearAveragePool", domain=DOMAIN)
def qlinear_average_pool(
    node: Node,
    *given: Value,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    pads: Numbers = None,
    strides: Numbers = None,
) -> Value:
    _channels_first(node, channels_last)
    window: dict[str, Any] = {"auto_pad": auto_pad, "ceil_mode": ceil_mode, "count_include_pad": count_include_pad, "pads": pads, "strides": strides}
    return _rounded(node, average_pool(node, _real(node, given, 0), kernel_shape=kernel_shape, **window), given, 3)


@onnx_converter("QLinearConcat", domain=DOMAIN)
def qlinear_concat(node: Node, *given: Value, axis: int) -> Value:
    """The scale and zero point of the result come first."""
    parts = [_real(node, given, i) for i in range(2, len(given), 3)]
    y = Concat(parts, node.axis(axis, parts[0].type.rank))
    return to_integers(node, y.out, given[0], given[1], storage=node.storage(1))


@onnx_converter("QGemm", domain=DOMAIN)
def qgemm(
    node: Node,
    a: Value,
    a_scale: Value,
    a_zero: Value,
    b: Value,
    b_scale: Value,
    b_zero: Value,
    c: Value | None = None,
    y_scale: Value | None = None,
    y_zero: Value | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Value:
    """c is i32 of scale S_a S_b; without y_scale the result is f32."""
    left = to_floats(node, a, a_scale, a_zero, storage=node.storage(0))
    right = to_floats(node, b, b_scale, b_zero, axis=0 if transB else 1, storage=node.storage(3))
    w = weight(node, b, node.storage(3), b_scale, b_zero, 0 if transB else 1)
    bias = None
    elem = uniform_type(node, node.storage(0), a_scale, a_zero, 1, a.type.rank)
    if c is not None and w is not None and elem is not None and isinstance(c.op, Const):
        bias = Dequantize(bias_of(c, elem, w)).out
    elif c is not None:
        bias = Mul(node.cast(c, "f32"), Mul(a_scale, b_scale)).out
    y = gemm(node, left, right, bias, alpha=alpha, transA=transA, transB=transB)
    y = y.out if isinstance(y, Op) else y
    return y if y_scale is None else to_integers(node, y, y_scale, y_zero, storage=node.storage(8) or "u8")
