"""Integer operators as QDQ: values of quantized types are integer tensors between QuantizeLinear and DequantizeLinear, computation is in floats.

requantize(quant.conv2d(x, w, b))   ->   Q(Conv(DQ(x), DQ(w), DQ(b)))          onnxruntime: QLinearConv
a clamp of the result               ->   Q, DQ, Clip, Q, so that the layer still fuses: clip(Q(r)) = Q(clip(r))
an accumulator of i32               ->   the float result of its layer
"""

from __future__ import annotations

import numpy as np

from ....ir.evaluate import to_numpy, to_torch
from ....ir.op import Const, Op, Value
from ....ir.ops import (
    Elementwise,
    HardSigmoid,
    HardSwish,
    Lookup,
    QuantAdd,
    QuantAvgPool2d,
    QuantConv2d,
    QuantConvTranspose2d,
    Quantize,
    QuantLinear,
    QuantMatmul,
    QuantMul,
    QuantSoftmax,
    QuantSum,
    QuantSumPool2d,
    Relu,
    Requantize,
    Sigmoid,
    Silu,
    Tanh,
)
from ....ir.types import STORAGE, Tensor, Uniform, storage_elem, storage_range
from .builder import Builder, NotExported
from .layers import conv, conv_transpose, ends
from .registry import exporter_of, onnx_exporter


def is_accumulator(type: Tensor) -> bool:
    """Whether a value is a sum of products, which QDQ models keep in floats."""
    return isinstance(type.elem, Uniform) and STORAGE[type.elem.storage][0] > 16


def stored_as(elem: Uniform) -> str:
    """Plain element type of the ONNX tensor."""
    if elem.storage in ("u16", "u32"):
        raise NotExported(f"element type {Tensor((), elem)}; valid: up to 8 bits, i16 and i32")
    return storage_elem(elem)


def parameters(b: Builder, elem: Uniform) -> tuple[str, str]:
    """Names of the scale and the zero point."""
    scales, zeros = (np.array(v) for v in (elem.scales, elem.zero_points))
    one = elem.axis is None
    return b.const(scales.reshape(()) if one else scales, "f32"), b.const(zeros.reshape(()) if one else zeros, stored_as(elem))


def dequantized(b: Builder, x: str, elem: Uniform, output: str | None = None) -> str:
    """Integers of a type as floats."""
    return b.node("DequantizeLinear", x, *parameters(b, elem), axis=elem.axis, output=output)


def quantized(b: Builder, x: str, elem: Uniform, low: int | None = None, high: int | None = None) -> str:
    """A float tensor as integers of a type, within its range or a narrower clamp."""
    first, last = storage_range(storage_elem(elem))
    low, high = (elem.range[0] if low is None else low), (elem.range[1] if high is None else high)
    y = b.node("QuantizeLinear", x, *parameters(b, elem), axis=elem.axis)
    if (low, high) == (first, last):
        return y
    if elem.axis is not None:
        raise NotExported(f"a range of {low}:{high} with scales along an axis")
    (scale,), (zero,) = elem.scales, elem.zero_points
    if low == zero and high == last:
        inside = b.node("Relu", dequantized(b, y, elem))
    else:
        inside = b.node("Clip", dequantized(b, y, elem), b.const((low - zero) * scale, "f32"), b.const((high - zero) * scale, "f32"))
    return b.node("QuantizeLinear", inside, *parameters(b, elem), axis=elem.axis)


onnx_exporter(QuantConv2d)(conv)
onnx_exporter(QuantConvTranspose2d)(conv_transpose)


@onnx_exporter(Quantize, Requantize)
def rounded(b: Builder, op: Op, x: str) -> str:
    """No node of its own: the writer adds the QuantizeLinear after every operator with a quantized result."""
    return x


@onnx_exporter(QuantAdd)
def add(b: Builder, op: QuantAdd, x: str, y: str) -> str:
    return b.node("Add", x, y)


@onnx_exporter(QuantMul)
def mul(b: Builder, op: QuantMul, x: str, y: str) -> str:
    return b.node("Mul", x, y)


@onnx_exporter(QuantMatmul)
def matmul(b: Builder, op: QuantMatmul, x: str, y: str) -> str:
    return b.node("MatMul", x, y)


@onnx_exporter(QuantLinear)
def linear(b: Builder, op: QuantLinear, x: str, w: str, bias: str | None) -> str:
    if op.x.type.rank == 2:
        return b.node("Gemm", x, w, bias, transB=1)
    product = b.node("MatMul", x, b.node("Transpose", w, perm=(1, 0)))
    return product if bias is None else b.node("Add", product, bias)


@onnx_exporter(QuantSum)
def total(b: Builder, op: QuantSum, x: str) -> str:
    count = int(np.prod([op.x.shape[a] for a in op.axes], dtype=np.int64))
    if op.x.type.rank == 4 and op.axes == (2, 3) and op.keepdim:
        mean = b.node("GlobalAveragePool", x)
    else:
        mean = b.node("ReduceMean", x, b.ints(op.axes), keepdims=int(op.keepdim))
    return mean if count == op.divisor else b.node("Mul", mean, b.const(count / op.divisor, "f32"))


@onnx_exporter(QuantSumPool2d, QuantAvgPool2d)
def pool(b: Builder, op: QuantSumPool2d | QuantAvgPool2d, x: str) -> str:
    pads = ends(op, (1, 1), op.ceil_mode)
    mean = b.node("AveragePool", x, kernel_shape=op.kernel, strides=op.stride, pads=pads, count_include_pad=1)
    size = op.kernel[0] * op.kernel[1]
    return mean if size == op.divisor else b.node("Mul", mean, b.const(size / op.divisor, "f32"))


@onnx_exporter(QuantSoftmax)
def softmax(b: Builder, op: QuantSoftmax, x: str) -> str:
    return b.node("Softmax", x, axis=op.axis)


# -- tables ------------------------------------------------------------------------------------

#: Functions that a table is recognized as.
KNOWN: dict[str, type[Elementwise]] = {
    "sigmoid": Sigmoid,
    "silu": Silu,
    "hard_swish": HardSwish,
    "hard_sigmoid": HardSigmoid,
    "tanh": Tanh,
    "relu": Relu,
}


@onnx_exporter(Lookup, integers=True)
def lookup(b: Builder, op: Lookup, x: str, table: str) -> str:
    """The function that the table stands for, between DQ and Q; any other table is a Gather by the stored integers."""
    assert isinstance(op.x.type.elem, Uniform) and isinstance(op.out.type.elem, Uniform)
    f = function_of(op)
    if f is None:
        places = b.cast(x, "i32")
        first = storage_range(op.x.type.elem.storage)[0]
        return b.node("Gather", table, places if not first else b.node("Sub", places, b.const(first, "i32")), axis=0)
    exporter = exporter_of(type(f))
    assert exporter is not None
    return quantized(b, exporter(b, f, dequantized(b, x, op.x.type.elem)), op.out.type.elem)


def function_of(op: Lookup) -> Elementwise | None:
    """The function of KNOWN that gives the table."""
    import torch

    x, to = op.x.type.elem, op.out.type.elem
    if not isinstance(op.table.op, Const) or not isinstance(x, Uniform) or not isinstance(to, Uniform):
        return None
    low, high = storage_range(x.storage)
    numbers = torch.from_numpy((np.arange(low, high + 1) - x.zero_points[0]) * np.float64(np.float32(x.scales[0])))
    for kind in KNOWN.values():
        f = kind(Value(Tensor(op.x.shape, "f32")))
        y = to_numpy(f.evaluate(numbers))
        if np.array_equal(np.clip(np.rint(y / to.scales[0]) + to.zero_points[0], *to.range), op.table.op.array):
            return f
    return None


def constant_of(op: Quantize) -> Const:
    """A quantized constant as integers."""
    assert isinstance(op.x.op, Const)
    return Const(to_numpy(op.evaluate(to_torch(op.x.op.array))), op.to, loc=op.x.op.loc)
