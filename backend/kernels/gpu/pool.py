"""Pooling and resizing: a thread reads the window of its element."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm import tirx as t

from ....ir.ops import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d, Upsample
from ...codegen.builder import TIR_DTYPE, Expr
from ...codegen.gpu import GpuKernel, div
from ...target import Target
from ...tile.fusion import Fusion
from ...tile.integer import IntSumPool2d
from ...tile.integer_onnx import ScaledSumPool2d
from ..template import kernel
from .reduce import lowest
from .template import ElementTemplate, GpuTemplate, centered


@kernel(MaxPool2d, AvgPool2d)
class WindowPool(ElementTemplate):
    name = "gpu_pool"

    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        b, dtype, greatest = k.b, k.args[op.x].dtype, isinstance(op, MaxPool2d)
        dilation = op.dilation if greatest else (1, 1)
        n, c, i, j = index
        acc = b.local(1, dtype)
        b.store(acc, 0, lowest(dtype) if greatest else t.const(0.0, dtype))
        top, left = b.value(i * op.stride[0] - op.padding[0]), b.value(j * op.stride[1] - op.padding[2])
        h, w = op.x.shape[2:]
        with b.loop("p", 0, op.kernel[0]) as p, b.loop("q", 0, op.kernel[1]) as q:
            y, x = b.value(top + p * dilation[0]), b.value(left + q * dilation[1])
            with b.when(t.all(y >= 0, y < h, x >= 0, x < w)):
                v = b.value(k.read(op.x, [n, c, y, x]))
                b.store(acc, 0, k.math.max(b.load(acc, 0), v) if greatest else b.load(acc, 0) + v)
        if greatest:
            return b.load(acc, 0)
        if op.divisor is not None:
            return b.load(acc, 0) / t.const(float(op.divisor), dtype)
        counts: Expr = 1
        for axis, (start, size) in enumerate(((top, h), (left, w))):
            lo, hi = op.padding[2 * axis : 2 * axis + 2]
            first, last = (-lo, size + hi) if op.count_include_pad else (0, size)
            counts = counts * (t.min(start + op.kernel[axis], t.IntImm("int32", last)) - t.max(start, t.IntImm("int32", first)))
        return b.load(acc, 0) / t.Cast(dtype, counts)


@kernel(IntSumPool2d, ScaledSumPool2d)
class WindowSum(ElementTemplate):
    """The sum of x - zero over a window, or of its products with a scale; padding adds 0."""

    name = "gpu_window_sum"

    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        b, (n, c, i, j), (h, w) = k.b, index, op.x.shape[2:]
        scaled = isinstance(op, ScaledSumPool2d)
        dtype = "float32" if scaled else "int32"
        acc = b.local(1, dtype)
        b.store(acc, 0, t.const(0, dtype))
        with b.loop("p", 0, op.kernel[0]) as p, b.loop("q", 0, op.kernel[1]) as q:
            y, x = b.value(i * op.stride[0] - op.padding[0] + p), b.value(j * op.stride[1] - op.padding[2] + q)
            with b.when(t.all(y >= 0, y < h, x >= 0, x < w)):
                term = centered(k, op, k.read(op.x, [n, c, y, x]))
                if scaled:
                    term = k.math.mul(k.math.convert(term, dtype), b.load(k.args[op.scale], 0))
                b.store(acc, 0, k.math.add(b.load(acc, 0), term))
        return b.load(acc, 0)


@kernel(AdaptiveAvgPool2d, AdaptiveMaxPool2d)
class AdaptivePool(ElementTemplate):
    """Windows of different sizes: window i covers floor(i*H/h) to ceil((i+1)*H/h)."""

    name = "gpu_adaptive_pool"

    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        b, dtype, greatest = k.b, k.args[op.x].dtype, isinstance(op, AdaptiveMaxPool2d)
        n, c, *place = index
        acc = b.local(1, dtype)
        b.store(acc, 0, lowest(dtype) if greatest else t.const(0.0, dtype))
        first, last = [], []
        for i, size, count in zip(place, op.x.shape[2:], op.size):
            first.append(b.value(div(i * size, count)))
            last.append(b.value(div((i + 1) * size + (count - 1), count)))
        with b.loop("p", 0, last[0] - first[0]) as p, b.loop("q", 0, last[1] - first[1]) as q:
            v = b.value(k.read(op.x, [n, c, first[0] + p, first[1] + q]))
            b.store(acc, 0, k.math.max(b.load(acc, 0), v) if greatest else b.load(acc, 0) + v)
        if greatest:
            return b.load(acc, 0)
        return b.load(acc, 0) / t.Cast(dtype, (last[0] - first[0]) * (last[1] - first[1]))


@kernel(AdaptiveAvgPool2d, AdaptiveMaxPool2d)
class GlobalPool(GpuTemplate):
    """A whole plane becomes one element: a block of threads for each."""

    name = "gpu_global_pool"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        return super().accepts(fusion, target) and op.size == (1, 1) and math.prod(op.x.shape[2:]) >= 64

    def cost(self, fusion: Fusion, target: Target, params: dict[str, Any]) -> float:
        return 0.5 * fusion.out.size

    def write(self, k: GpuKernel, op: Any) -> None:
        b, (n, c, h, w) = k.b, op.x.shape
        dtype, greatest = k.args[op.x].dtype, isinstance(op, AdaptiveMaxPool2d)
        b.launch([n * c], 64)
        base = b.value(b.block[0] * (h * w))
        identity = lowest(dtype) if greatest else t.const(0.0, dtype)
        combine = k.math.max if greatest else lambda x, y: x + y
        total = k.reduced(h * w, dtype, identity, lambda i: b.load(k.args[op.x], base + i), combine)
        with b.when(t.EQ(b.thread, 0)):
            plane = b.block[0]
            k.store(total if greatest else total * t.const(1 / (h * w), dtype), [div(plane, c), t.truncmod(plane, t.IntImm("int32", c)), 0, 0])


@kernel(Upsample)
class Resized(ElementTemplate):
    """At scale r, nearest reads floor(i * r), bilinear between the pixels around (i + 0.5) * r - 0.5; in f32, as torch does."""

    name = "gpu_upsample"

    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        b, m = k.b, k.math
        n, c, *place = index
        pixels, shares = [], []
        for axis, (i, size, count) in enumerate(zip(place, op.x.shape[2:], op.size)):
            scale = 1 / op.scales[axis] if op.scales is not None else size / count
            along = t.Cast("float32", i)
            if op.mode == "nearest":
                at = t.Cast("int32", m.floor(along * t.const(scale, "float32")))
                pixels.append([b.value(t.min(at, t.IntImm("int32", size - 1)))])
                continue
            if op.align_corners:
                scale = (size - 1) / (count - 1) if count > 1 else 0.0
                at = b.value(along * t.const(scale, "float32")) if scale else m.zero("float32")
            else:
                at = (along + t.const(0.5, "float32")) * t.const(scale, "float32") - t.const(0.5, "float32")
                at = m.max(at, m.zero("float32"))
            first = b.value(t.min(t.Cast("int32", at), t.IntImm("int32", size - 1)))
            last = b.value(t.min(first + 1, t.IntImm("int32", size - 1)))
            share = b.value(at - t.Cast("float32", first))
            pixels.append([first, last])
            shares.append([t.const(1.0, "float32") - share, share])
        if op.mode == "nearest":
            return k.read(op.x, [n, c, pixels[0][0], pixels[1][0]])
        dtype = TIR_DTYPE[str(op.x.type.elem)]
        rows = [
            sum((m.convert(s, dtype) * k.read(op.x, [n, c, y, x]) for x, s in zip(pixels[1][1:], shares[1][1:])),
                m.convert(shares[1][0], dtype) * k.read(op.x, [n, c, y, pixels[1][0]]))
            for y in pixels[0]
        ]  # fmt: skip
        return m.convert(shares[0][0], dtype) * rows[0] + m.convert(shares[0][1], dtype) * rows[1]
