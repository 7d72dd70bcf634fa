"""image_input: make a network take images as bytes, with the normalization folded into its first convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import Add, Cast, Conv2d, Mul, Pad, Transpose
from ...ir.types import Tensor
from .affine import F64, array_of, constant, held

#: The largest byte.
WHITE = 255


def image_input(
    graph: Graph, mean: Sequence[float], std: Sequence[float], *, input: str | None = None, layout: Literal["nhwc", "nchw"] = "nhwc"
) -> Graph:
    """A new graph that takes decoded images, u8 (N, H, W, C), and computes what `graph` computes for (image / 255 - mean) / std.

    conv2d((x / 255 - mean) / std, w)  ->  conv2d(cast(pad(x, channel C = 255)), [w / (255 std), -sum(w mean / std) / 255])

    The constant channel of 255 carries the means. The convolution pads it with 0 too, so padding still adds nothing: results change by
    rounding only. For a convolution without padding the means go to its bias instead. For other readers the input is scaled and shifted explicitly.

    mean, std: for each channel, of pixels from 0 to 1. input: its name, by default the only f32 input of rank 4. layout: of the new input,
    nhwc or nchw. Calibrate the result with bytes.

    Raises TersorError for a graph without such an f32 input, and for numbers that do not fit its channels.
    """
    result = graph.clone()
    old = _input(result, input)
    channels = old.shape[1]
    m, s = (np.asarray(v, np.float64).reshape(-1) for v in (mean, std))
    for name, v in (("mean", m), ("std", s)):
        if v.shape != (channels,) or not np.isfinite(v).all():
            raise TersorError(f"{name} must hold {channels} finite numbers, one for each channel of input {old.name!r}, got {np.asarray(v).tolist()}")
    if not (s > 0).all():
        raise TersorError(f"std must be above 0, got {s.tolist()}")
    if layout not in ("nhwc", "nchw"):
        raise TersorError(f"layout must be nhwc or nchw, got {layout!r}")
    n, c, h, w = old.shape
    image = Value(Tensor((n, h, w, c) if layout == "nhwc" else (n, c, h, w), "u8"), None, old.name)
    result.inputs[result.inputs.index(old)] = image
    readers = old.users
    planes: Op | Value = Transpose(image, (0, 3, 1, 2)) if layout == "nhwc" else image
    for reader in readers:
        new = _first(reader, old, planes, m, s)
        if new is not None:
            result.replace(reader, new)
    if rest := old.users:
        result_of = result.insert_before(rest[0], _normalized(planes, m, s))
        for reader in rest:
            reader.replace_operand(old, result_of)
    if old in result.outputs:
        raise TersorError(f"input {old.name!r} is an output too, so it cannot become bytes")
    result.remove_dead()
    return result.verify()


def _input(graph: Graph, name: str | None) -> Value:
    found = [v for v in graph.inputs if v.type.elem == "f32" and v.type.rank == 4 and name in (None, v.name)]
    if len(found) != 1:
        shown = ", ".join(f"{v.name}: {v.type}" for v in graph.inputs)
        raise TersorError(f"image_input needs one f32 input of rank 4{f' named {name!r}' if name else ''}, found {len(found)} among {shown}")
    return found[0]


def _first(conv: Op, x: Value, planes: Op | Value, mean: F64, std: F64) -> Op | None:
    """The convolution on bytes; None where the reader is not a convolution, or f32 does not hold its weights."""
    if not isinstance(conv, Conv2d) or conv.x is not x or conv.groups != 1 or not (constant(conv.w) and constant(conv.b)):
        return None
    w = array_of(conv.w)
    scaled = w / (WHITE * std).reshape(-1, 1, 1)
    shift = -(w * (mean / std).reshape(-1, 1, 1)).sum(1, keepdims=True)
    b = None if conv.b is None else array_of(conv.b)
    if not mean.any():
        pass
    elif any(conv.padding):
        planes = Pad(planes, (0, 0, 0, 1, 0, 0, 0, 0), value=float(WHITE), loc=conv.loc)
        scaled = np.concatenate([scaled, shift / WHITE], 1)
    else:
        b = shift.sum((1, 2, 3)) + (0 if b is None else b)
    if not held(scaled, "f32", b):
        return None
    new = Const(scaled.astype(np.float32))
    new.out.name = conv.w.name
    bias: Const | None = None
    if b is not None:
        bias = Const(b.astype(np.float32))
        bias.out.name = conv.b.name if conv.b is not None else f"{conv.w.name}.bias"
    return conv.rebuilt(x=Cast(planes, "f32", loc=conv.loc), w=new, b=bias)


def _normalized(planes: Op | Value, mean: F64, std: F64) -> Op:
    """planes / (255 std) - mean / std"""
    k, shift = (Const(v.reshape(1, -1, 1, 1).astype(np.float32)) for v in (1 / (WHITE * std), -mean / std))
    return Add(Mul(Cast(planes, "f32"), k), shift)
