"""Quantized operators. Constant scales and zero points make quantized types; where they are computed, the arithmetic is expanded to floats."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from onnx import TensorProto

from ....ir.errors import VerifyError
from ....ir.op import Const, Op, Value
from ....ir.ops import (
    Add,
    Clip,
    Conv2d,
    Dequantize,
    Div,
    Equal,
    Maximum,
    Minimum,
    Mul,
    QuantConv2d,
    Quantize,
    QuantLinear,
    QuantMatmul,
    ReduceMax,
    ReduceMin,
    Requantize,
    Round,
    Sub,
    Where,
)
from ....ir.types import NUMPY, Uniform
from ..integers import HELD, STORAGES, dequantized, meaningless, plain, quantized, stored, uniform_type, weight
from ..node import Node
from ..registry import Ints, onnx_converter
from .convolution import Numbers, convolution
from .products import matmul, swapped
from .slices import pad

#: Largest sum of products that f32 holds exactly.
EXACT = 1 << 24


@onnx_converter("QuantizeLinear")
def quantize_linear(
    node: Node,
    x: Value,
    scale: Value,
    zero: Value | None = None,
    *,
    axis: int = 1,
    saturate: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
) -> Value:
    """The result has the type of the zero point, or output_dtype; u8 without either."""
    storage = STORAGES.get(output_dtype, "") if output_dtype else node.storage(2) or "u8"
    if storage not in HELD:
        kind = TensorProto.DataType.Name(output_dtype) if output_dtype in TensorProto.DataType.values() else storage or output_dtype
        raise node.unsupported(f"a result of type {kind}; valid: {', '.join(HELD)}")
    return to_integers(node, x, scale, zero, axis, block_size, storage)


def to_integers(node: Node, x: Value, scale: Value, zero: Value | None, axis: int = 1, block: int = 0, storage: str = "u8") -> Value:
    """x as plain integers of a storage type."""
    to = None if block else uniform_type(node, storage, scale, zero, axis, x.type.rank)
    if to is None or x.type.elem not in ("f32", "i32"):
        return quantized(node, x, scale, zero, axis, block, storage)
    if isinstance(x.op, Const):
        low, high = to.range
        scales = np.asarray(to.scales, np.float32)
        per = scales.reshape(()) if to.axis is None else scales.reshape([-1 if i == to.axis else 1 for i in range(x.type.rank)])
        q = np.rint(x.op.array.astype(np.float32) / per) + (to.zero_points[0] if to.axis is None else 0)
        return Const(np.clip(q, low, high).astype(NUMPY[HELD[storage]]), loc=x.op.loc).out
    return plain(Quantize(node.cast(x, "f32"), to, node.rounding))


@onnx_converter("DequantizeLinear")
def dequantize_linear(
    node: Node, x: Value, scale: Value, zero: Value | None = None, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Value:
    """A constant keeps its integers, so that the layer that reads it can run on them."""
    y = to_floats(node, x, scale, zero, axis, block_size, node.storage(0))
    return y if not output_dtype else node.cast(y, node.elem(output_dtype))


def to_floats(node: Node, x: Value, scale: Value, zero: Value | None, axis: int = 1, block: int = 0, storage: str = "u8") -> Value:
    """Plain integers as real numbers."""
    if not block:
        if isinstance(x.op, Const) and (w := weight(node, x, storage, scale, zero, axis)) is not None:
            return Dequantize(w).out
        elem = uniform_type(node, storage, scale, zero, axis, x.type.rank)
        if elem is not None:
            return Dequantize(stored(x, elem)).out
    return dequantized(node, x, scale, zero, axis, block)


@onnx_converter("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node, x: Value) -> list[Value]:
    """u8 over the range of x, widened to hold 0; a scale of 1 where that is empty, as in onnxruntime."""
    axes = tuple(range(x.type.rank))
    low, high = Minimum(ReduceMin(x, axes), node.like(x, 0)).out, Maximum(ReduceMax(x, axes), node.like(x, 0)).out
    span = Div(Sub(high, low), node.like(x, 255)).out
    scale = Where(Equal(span, node.like(x, 0)), node.like(x, 1), span).out
    zero = node.cast(Clip(Round(Div(Sub(node.like(x, 0), low), scale)), 0.0, 255.0), "u8")
    return [quantized(node, x, scale, zero, 1, 0, "u8"), scale, zero]


# -- layers ------------------------------------------------------------------------------------


@onnx_converter("QLinearConv")
def qlinear_conv(
    node: Node,
    x: Value,
    x_scale: Value,
    x_zero: Value,
    w: Value,
    w_scale: Value,
    w_zero: Value,
    y_scale: Value,
    y_zero: Value,
    b: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Numbers = None,
    group: int = 1,
    kernel_shape: Numbers = None,
    pads: Numbers = None,
    strides: Numbers = None,
) -> Value:
    """A convolution of integers and its rounding; in floats between roundings where weights minus their zero point do not fit i8."""
    window: dict[str, Any] = {"auto_pad": auto_pad, "dilations": dilations, "group": group, "kernel_shape": kernel_shape}
    window |= {"pads": pads, "strides": strides}
    integers = weight(node, w, node.storage(3), w_scale, w_zero, 0)
    x_elem = uniform_type(node, node.storage(0), x_scale, x_zero, 1, x.type.rank)
    to = uniform_type(node, node.storage(7), y_scale, y_zero, 1, x.type.rank)
    if integers is not None and x_elem is not None and to is not None and (b is None or isinstance(b.op, Const)) and w.type.rank < 5:
        bias = None if b is None else bias_of(b, x_elem, integers)
        # where the sum may not fit i32 it is computed in floats
        with suppress(VerifyError):
            acc = convolution(node, QuantConv2d, stored(x, x_elem), integers, bias, **window)
            return plain(Requantize(acc, to, rounding=node.rounding))
    xs, ws = to_floats(node, x, x_scale, x_zero, 1, 0, node.storage(0)), to_floats(node, w, w_scale, w_zero, 0, 0, node.storage(3))
    real = None if b is None else Mul(node.cast(b, "f32"), Mul(x_scale, w_scale)).out
    y = convolution(node, Conv2d, xs, ws, None, **window)
    if real is not None:
        y = Add(y, node.reshape(real, (real.type.size, *(1,) * (y.type.rank - 2)))).out
    return to_integers(node, y, y_scale, y_zero, 1, 0, node.storage(7))


def bias_of(b: Value, x: Uniform, w: Value) -> Value:
    """The i32 bias of a layer, whose scale is S_x S_w."""
    assert isinstance(w.type.elem, Uniform) and isinstance(b.op, Const)
    scales = tuple(x.scales[0] * s for s in w.type.elem.scales)
    elem = Uniform("i32", scales, (0,) * len(scales), None if w.type.elem.axis is None else 0)
    return Const(b.op.array.astype(np.int32), elem, loc=b.op.loc).out


@onnx_converter("QLinearMatMul")
def qlinear_matmul(
    node: Node, a: Value, a_scale: Value, a_zero: Value, b: Value, b_scale: Value, b_zero: Value, y_scale: Value, y_zero: Value
) -> Value:
    """A product of matrices of integers and its rounding."""
    ranks = a.type.rank, b.type.rank
    ea, eb = uniform_type(node, node.storage(0), a_scale, a_zero, -2, ranks[0]), uniform_type(node, node.storage(3), b_scale, b_zero, -1, ranks[1])
    to = uniform_type(node, node.storage(7), y_scale, y_zero, -2, ranks[0])
    if ea is not None and to is not None and ea.axis is None and to.axis is None and min(ranks) > 1:
        w = weight(node, b, node.storage(3), b_scale, b_zero, -1) if ranks[1] == 2 else None
        with suppress(VerifyError):
            if w is not None:
                return plain(Requantize(QuantLinear(stored(a, ea), swapped(w)), to, rounding=node.rounding))
            if eb is not None and eb.axis is None:
                return plain(Requantize(QuantMatmul(stored(a, ea), stored(b, eb)), to, rounding=node.rounding))
    rows, columns = (-2 if ranks[0] > 1 else -1), -1
    left = to_floats(node, a, a_scale, a_zero, rows, 0, node.storage(0))
    right = to_floats(node, b, b_scale, b_zero, columns, 0, node.storage(3))
    y = matmul(node, left, right)
    return to_integers(node, y.out if isinstance(y, Op) else y, y_scale, y_zero, rows, 0, node.storage(7))


# -- sums of products of plain integers --------------------------------------------------------


@onnx_converter("ConvInteger")
def conv_integer(
    node: Node,
    x: Value,
    w: Value,
    x_zero: Value | None = None,
    w_zero: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Numbers = None,
    group: int = 1,
    kernel_shape: Numbers = None,
    pads: Numbers = None,
    strides: Numbers = None,
) -> Value:
    """sum (x - x_zero) (w - w_zero) as i32, the padding of x being x_zero. A computed zero point is subtracted afterwards:

    sum (x - Z) w = sum x w - Z sum w
    """
    window: dict[str, Any] = {"dilations": dilations, "group": group, "kernel_shape": kernel_shape, "strides": strides}
    one = node.const(1.0, "f32")
    integers = weight(node, w, node.storage(1), one, w_zero, 0)
    zero = np.zeros(()) if x_zero is None else node.constant(x_zero)
    if integers is None:
        wide = "f32" if 255 * 255 * int(np.prod(w.shape[1:])) < EXACT else "f64"
        xs, ws = centered(node, x, x_zero, wide, 1), centered(node, w, w_zero, wide, 0)
        return node.cast(convolution(node, Conv2d, xs, ws, None, auto_pad=auto_pad, pads=pads, **window), "i32")
    if zero is not None and zero.size == 1:
        elem = meaningless(node.storage(0), int(zero.reshape(-1)[0]))
        return plain(convolution(node, QuantConv2d, stored(x, elem), integers, None, auto_pad=auto_pad, pads=pads, **window))
    if auto_pad not in ("NOTSET", "VALID") or x_zero is None or x_zero.type.size != 1:
        raise node.unsupported(f"a zero point that is computed, with auto_pad {auto_pad!r}; valid: NOTSET")
    if pads is not None and any(pads):
        half = len(pads) // 2
        x_padded = pad(node, x, Ints((0, 0, *pads[:half], 0, 0, *pads[half:])), node.cast(x_zero, str(x.type.elem)))
        x = x_padded.out if isinstance(x_padded, Op) else x_padded
    acc = plain(convolution(node, QuantConv2d, stored(x, meaningless(node.storage(0))), integers, None, auto_pad="NOTSET", pads=None, **window))
    assert isinstance(integers.op, Const)
    sums = integers.op.array.astype(np.int64).reshape(integers.shape[0], -1).sum(1).reshape(-1, *(1,) * (acc.type.rank - 2))
    return Sub(acc, Mul(node.reshape(node.cast(x_zero, "i32"), ()), node.const(sums, "i32"))).out


@onnx_converter("MatMulInteger")
def matmul_integer(node: Node, a: Value, b: Value, a_zero: Value | None = None, b_zero: Value | None = None) -> Value:
    """(a - a_zero) @ (b - b_zero) as i32; a_zero may have one number for each row, b_zero one for each column."""
    one = node.const(1.0, "f32")
    w = weight(node, b, node.storage(1), one, b_zero, -1) if b.type.rank == 2 else None
    if w is None or a.type.rank < 2:
        wide = "f32" if 255 * 255 * a.shape[-1] < EXACT else "f64"
        y = matmul(node, centered(node, a, a_zero, wide, -2), centered(node, b, b_zero, wide, -1))
        return node.cast(y, "i32")
    zero = np.zeros(()) if a_zero is None else node.constant(a_zero)
    if zero is not None and zero.size == 1:
        return plain(QuantLinear(stored(a, meaningless(node.storage(0), int(zero.reshape(-1)[0]))), swapped(w)))
    assert a_zero is not None and isinstance(w.op, Const)
    acc = plain(QuantLinear(stored(a, meaningless(node.storage(0))), swapped(w)))
    z = node.cast(a_zero, "i32")
    rows = node.reshape(z, () if z.type.size == 1 else (*z.shape, 1) if z.type.rank == 1 else z.shape)
    return Sub(acc, Mul(rows, node.const(w.op.array.astype(np.int64).sum(0), "i32"))).out


def centered(node: Node, x: Value, zero: Value | None, elem: str, axis: int) -> Value:
    """x - zero in a float type that holds it."""
    y = node.cast(x, elem)
    if zero is None:
        return y
    z = node.cast(zero, elem)
    if z.type.size == 1:
        return Sub(y, node.reshape(z, ())).out
    at = node.axis(axis, x.type.rank)
    return Sub(y, z if z.type.rank == x.type.rank else node.reshape(z, [z.type.size if i == at else 1 for i in range(x.type.rank)])).out
