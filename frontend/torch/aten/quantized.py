"""Quantization in the form of PT2E: integers with separate scales and zero points, which become quantized types where these are constant."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....ir.evaluate import to_numpy, to_torch
from ....ir.op import Const, Value
from ....ir.ops import Add, Cast, Clip, Dequantize, Div, Mul, Quantize, Round, StorageCast, Sub
from ....ir.types import NUMPY, Uniform
from ...call import Call
from ...registry import converter

#: Plain element types that quantized tensors are stored in.
STORED = ("u8", "i8", "i16", "i32")


def _known(x: Value | float | None) -> list[Any] | None:
    """Scales or zero points where they are numbers, or computed from constants alone."""
    if not isinstance(x, Value):
        return [0 if x is None else x]
    array = _array(x)
    return None if array is None else [n.item() for n in array.reshape(-1)]


def _array(x: Value) -> np.ndarray | None:
    if isinstance(x.op, Const):
        return x.op.array
    if x.op is None:
        return None
    operands = [_array(v) for v in x.op.operands]
    if any(a is None for a in operands):
        return None
    return to_numpy(x.op.evaluate(*(to_torch(a) for a in operands if a is not None)))


@converter("quantized_decomposed.quantize_per_tensor.default", "quantized_decomposed.quantize_per_tensor.tensor")
def quantize_per_tensor(call: Call, x: Value, scale: Value | float, zero: Value | int, low: int, high: int, dtype: Any, **kwargs: Any) -> Value:
    return _quantized(call, x, scale, zero, None, low, high)


@converter("quantized_decomposed.quantize_per_channel.default")
def quantize_per_channel(call: Call, x: Value, scales: Value, zeros: Value | None, axis: int, low: int, high: int, dtype: Any) -> Value:
    return _quantized(call, x, scales, zeros, call.axis(axis, x.type.rank), low, high)


@converter("quantized_decomposed.dequantize_per_tensor.default", "quantized_decomposed.dequantize_per_tensor.tensor")
def dequantize_per_tensor(call: Call, x: Value, scale: Value | float, zero: Value | int, low: int, high: int, dtype: Any, **kwargs: Any) -> Value:
    return _dequantized(call, x, scale, zero, None, low, high)


@converter("quantized_decomposed.dequantize_per_channel.default")
def dequantize_per_channel(
    call: Call, x: Value, scales: Value, zeros: Value | None, axis: int, low: int, high: int, dtype: Any, **kwargs: Any
) -> Value:
    return _dequantized(call, x, scales, zeros, call.axis(axis, x.type.rank), low, high)


Parameter = Value | float | None


def _uniform(call: Call, elem: str, x: Value, scale: Parameter, zero: Parameter, axis: int | None, low: int, high: int) -> Uniform | None:
    """The quantized type; None where a parameter is computed, or no layer takes such a type."""
    scales, zeros = _known(scale), _known(zero)
    if elem not in STORED:
        raise call.unsupported(f"integers of type {elem}; valid: {', '.join(STORED)}")
    if scales is None or zeros is None or elem == "i32" or (axis is not None and any(zeros)):
        return None
    if not all(np.isfinite(s) and s > 0 for s in scales):
        raise call.unsupported(f"a scale of {min(scales)}; valid: positive and finite scales")
    limits = np.iinfo(NUMPY[elem])
    return Uniform(elem, tuple(scales), tuple(zeros) * (len(scales) // len(zeros)), axis, "f32", max(low, limits.min), min(high, limits.max))


def _along(call: Call, parameter: Parameter, axis: int | None, x: Value, elem: str) -> Value:
    """A scale or zero point that broadcasts against x."""
    if not isinstance(parameter, Value):
        return call.cast(0 if parameter is None else parameter, elem)
    shape = () if axis is None else tuple(parameter.type.size if a == axis else 1 for a in range(x.type.rank))
    return call.reshape(call.cast(parameter, elem), shape)


def _quantized(call: Call, x: Value, scale: Parameter, zero: Parameter, axis: int | None, low: int, high: int) -> Value:
    """clamp(rint(x * (1 / S)) + Z) as plain integers; a constant becomes integers at once."""
    to = _uniform(call, call.elem, x, scale, zero, axis, low, high)
    if to is not None and not isinstance(x.op, Const):
        return StorageCast(Quantize(call.cast(x, "f32"), to)).out
    inverse = Div(call.cast(1, "f32"), _along(call, scale, axis, x, "f32"))
    q = Add(Round(Mul(call.cast(x, "f32"), inverse)), _along(call, zero, axis, x, "f32"))
    # 2^31 does not fit i32
    result = Cast(Clip(q, float(low), float(min(high, 2**31 - 128))), call.elem).out
    array = _array(result) if isinstance(x.op, Const) else None
    return result if array is None or not isinstance(x.op, Const) else Const(array, loc=x.op.loc).out


def _dequantized(call: Call, x: Value, scale: Parameter, zero: Parameter, axis: int | None, low: int, high: int) -> Value:
    """(q - Z) * S. A constant keeps its integers, so that the layer that reads it can run on them."""
    elem = _uniform(call, str(x.type.elem), x, scale, zero, axis, low, high)
    if elem is None:
        wide = call.cast(x, "i32")
        centered = wide if zero is None else Sub(wide, _along(call, zero, axis, x, "i32")).out
        return Mul(call.cast(centered, call.elem), _along(call, scale, axis, x, call.elem)).out
    if isinstance(x.op, Const):
        stored = Const(x.op.array, elem, loc=x.op.loc).out
    elif isinstance(x.op, StorageCast) and x.op.x.type.elem == elem:
        stored = x.op.x
    else:
        stored = StorageCast(x, elem).out
    return call.cast(Dequantize(stored), call.elem)


@converter("aten.fake_quantize_per_tensor_affine.default", "aten.fake_quantize_per_tensor_affine.tensor_qparams")
def fake_quantize(call: Call, x: Value, scale: Value | float, zero: Value | int, low: int, high: int) -> Value:
    return _fake(call, x, _parameter(call, scale), _parameter(call, zero), low, high)


@converter("aten.fake_quantize_per_channel_affine.default")
def fake_quantize_per_channel(call: Call, x: Value, scales: Value, zeros: Value, axis: int, low: int, high: int) -> Value:
    shape = [-1 if a == call.axis(axis, x.type.rank) else 1 for a in range(x.type.rank)]
    scale, zero = (call.reshape(call.cast(v, call.elem), [v.type.size if n < 0 else n for n in shape]) for v in (scales, zeros))
    return _fake(call, x, scale, zero, low, high)


@converter("aten.fake_quantize_per_tensor_affine_cachemask.default", "aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams.default")
def fake_quantize_with_mask(call: Call, x: Value, scale: Value | float, zero: Value | int, *args: Any) -> list[Value | None]:
    low, high = args[-2:]
    return [fake_quantize(call, x, scale, zero, low, high), None]


@converter("aten.fake_quantize_per_channel_affine_cachemask.default")
def fake_quantize_per_channel_with_mask(call: Call, x: Value, scales: Value, zeros: Value, axis: int, low: int, high: int) -> list[Value | None]:
    return [fake_quantize_per_channel(call, x, scales, zeros, axis, low, high), None]


def _parameter(call: Call, x: Value | float) -> Value:
    return call.reshape(call.cast(x, call.elem), ()) if isinstance(x, Value) else call.cast(x, call.elem)


def _fake(call: Call, x: Value, scale: Value, zero: Value, low: int, high: int) -> Value:
    """(clamp(rint(x * (1 / S)) + Z) - Z) * S in floats."""
    inverse = Div(call.cast(1, call.elem), scale)
    q = Clip(Add(Round(Mul(x, inverse)), zero), float(low), float(high))
    return Mul(Sub(q, zero), scale).out
