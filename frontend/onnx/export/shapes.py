"""Reductions, movement of elements, and resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....ir.op import Op
from ....ir.ops import (
    ArgMax,
    ArgMin,
    ChannelShuffle,
    Concat,
    Expand,
    IndexSelect,
    LogSoftmax,
    Mean,
    Pad,
    PixelShuffle,
    PixelUnshuffle,
    Prod,
    Reduce,
    ReduceMax,
    ReduceMin,
    Reshape,
    Slice,
    Softmax,
    Sum,
    Transpose,
    Upsample,
)
from .builder import Builder
from .registry import onnx_exporter

REDUCTIONS: dict[type[Op], str] = {Mean: "ReduceMean", Sum: "ReduceSum", Prod: "ReduceProd", ReduceMax: "ReduceMax", ReduceMin: "ReduceMin"}


@onnx_exporter(*REDUCTIONS)
def reduction(b: Builder, op: Reduce, x: str) -> str:
    """Integers add up in i64, and bools are compared as i32."""
    given, result = str(op.x.type.elem), str(op.out.type.elem)
    work = "i32" if given == result == "bool" else result
    x = x if given == work else b.cast(x, work)
    y = b.node(REDUCTIONS[type(op)], x, b.ints(op.axes), keepdims=int(op.keepdim)) if op.axes else b.node("Identity", x)
    return y if work == result else b.cast(y, result)


@onnx_exporter(ArgMax, ArgMin)
def place(b: Builder, op: ArgMax | ArgMin, x: str) -> str:
    return b.node(type(op).__name__, x, axis=op.axis, keepdims=int(op.keepdim))


@onnx_exporter(Softmax, LogSoftmax)
def softmax(b: Builder, op: Softmax | LogSoftmax, x: str) -> str:
    return b.node(type(op).__name__, x, axis=op.axis)


@onnx_exporter(Reshape)
def reshape(b: Builder, op: Reshape, x: str) -> str:
    return b.node("Reshape", x, b.ints(op.shape))


@onnx_exporter(Expand)
def expand(b: Builder, op: Expand, x: str) -> str:
    """1 keeps a dimension."""
    return b.node("Expand", x, b.ints([1 if n == -1 else n for n in op.shape]))


@onnx_exporter(Transpose)
def transpose(b: Builder, op: Transpose, x: str) -> str:
    return b.node("Transpose", x, perm=op.perm)


@onnx_exporter(Concat)
def concat(b: Builder, op: Concat, xs: Sequence[str]) -> str:
    return b.node("Concat", *xs, axis=op.axis)


@onnx_exporter(Slice)
def slice_(b: Builder, op: Slice, x: str) -> str:
    return b.node("Slice", x, *(b.ints([n]) for n in (op.start, op.stop, op.axis, op.step)))


@onnx_exporter(IndexSelect)
def index_select(b: Builder, op: IndexSelect, x: str, index: str) -> str:
    return b.node("Gather", x, index, axis=op.axis)


@onnx_exporter(Pad)
def pad(b: Builder, op: Pad, x: str) -> str:
    """Modes that copy elements, which may also crop, are Gathers along each axis."""
    if op.mode == "constant":
        return b.node("Pad", x, b.ints((*op.pads[::2], *op.pads[1::2])), b.const(op.value, str(op.x.type.elem)))
    for axis, (lo, hi) in enumerate(zip(op.pads[::2], op.pads[1::2])):
        if lo or hi:
            x = b.node("Gather", x, b.ints(op.sources(op.x.shape[axis], lo, hi)), axis=axis)
    return x if any(op.pads) else b.node("Identity", x)


@onnx_exporter(PixelShuffle)
def pixel_shuffle(b: Builder, op: PixelShuffle, x: str) -> str:
    return b.node("DepthToSpace", x, blocksize=op.factor, mode="CRD")


@onnx_exporter(PixelUnshuffle)
def pixel_unshuffle(b: Builder, op: PixelUnshuffle, x: str) -> str:
    _, c, h, w = op.x.shape
    f = op.factor
    return _moved(b, x, (-1, c, h // f, f, w // f, f), (0, 1, 3, 5, 2, 4), (-1, *op.out.shape[1:]))


@onnx_exporter(ChannelShuffle)
def channel_shuffle(b: Builder, op: ChannelShuffle, x: str) -> str:
    _, c, *space = op.x.shape
    rest = tuple(range(3, 3 + len(space)))
    return _moved(b, x, (-1, op.groups, c // op.groups, *space), (0, 2, 1, *rest), (-1, c, *space))


def _moved(b: Builder, x: str, split: Sequence[int], perm: Sequence[int], merged: Sequence[int]) -> str:
    parts = b.node("Transpose", b.node("Reshape", x, b.ints(split)), perm=perm)
    return b.node("Reshape", parts, b.ints(merged))


@onnx_exporter(Upsample)
def upsample(b: Builder, op: Upsample, x: str) -> str:
    """Nearest with a size that is not a multiple is a Gather: engines round the source indices differently."""
    size = op.x.shape[2:]
    multiple = all(n % m == 0 for n, m in zip(op.size, size)) and (op.scales is None or op.scales == tuple(n / m for n, m in zip(op.size, size)))
    if op.mode == "nearest" and not multiple:
        for axis, places in zip((2, 3), nearest_places(op)):
            x = b.node("Gather", x, b.ints(places), axis=axis)
        return x
    coordinates = "asymmetric" if op.mode == "nearest" else "align_corners" if op.align_corners else "half_pixel"
    attributes: dict[str, Any] = {
        "mode": "nearest" if op.mode == "nearest" else "linear",
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": "floor",
    }
    scales = op.scales if op.scales is not None and not op.align_corners else tuple(n / m for n, m in zip(op.size, size)) if multiple else None
    if scales is not None:
        return b.node("Resize", x, None, b.const((1, 1, *scales), "f32"), **attributes)
    # the batch may be free; elsewhere `axes` is left out, with which onnxruntime 1.32 breaks a graph whose layout it changes
    return b.node("Resize", x, None, None, b.ints(op.size), axes=(2, 3), **attributes)


def nearest_places(op: Upsample) -> list[list[int]]:
    """Rows and columns that torch's nearest neighbour reads: floor(i * r) in f32."""
    result = []
    for axis in (0, 1):
        size, count = op.x.shape[2 + axis], op.size[axis]
        ratio = np.float32(1 / op.scales[axis]) if op.scales is not None else np.float32(size) / np.float32(count)
        places = np.minimum(np.floor(np.arange(count, dtype=np.float32) * ratio), size - 1)
        result.append(places.astype(int).tolist())
    return result
