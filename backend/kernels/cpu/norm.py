"""Layer and group norm: a mean, a variance about it, and the affine pass, all over one contiguous row (torch's two-pass formula).

    y = (x - mean) * rstd * gamma + beta,   rstd = 1 / sqrt(mean((x - mean)^2) + eps)

Both sums are kept in f64; the rest is f32 (f64 for f64).
"""

from __future__ import annotations

import math
from typing import Any

from ....ir.op import Value
from ....ir.ops import GroupNorm, LayerNorm
from ...codegen.builder import Expr, const, lanes_of, splat
from ...codegen.kernel_builder import KernelBuilder
from ...codegen.vector_math import cast, convert
from ..template import kernel
from .accumulators import Row, addition
from .nest import PARALLEL, row, tasks, vectors, widest
from .reduce import CHAINS, Reduction


@kernel(LayerNorm)
class LayerNormKernel(Reduction):
    name = "layer_norm"

    def emit(self, k: KernelBuilder) -> None:
        op: LayerNorm = k.anchor
        size = math.prod(op.x.shape[-op.axes :])
        rows = op.x.type.size // size
        threads = k.threads if op.x.type.size >= PARALLEL else 1
        with tasks(k.b, [rows], 1, threads) as ((index,), _):
            base = k.b.let("base", index * size)
            norm = _Norm(k, base, size)

            def body(at: Expr, lanes: int) -> None:
                k.finish(norm.value(base + at, at, lanes), base + at, at if op.axes == 1 else None, None, lanes)

            vectors(k.b, size, widest(size, k.target.lanes), body)


@kernel(GroupNorm)
class GroupNormKernel(Reduction):
    """One task for each group of each image; within it gamma and beta are constant over a channel's pixels."""

    name = "group_norm"

    def emit(self, k: KernelBuilder) -> None:
        op: GroupNorm = k.anchor
        b, lanes = k.b, k.target.lanes
        n, c, *rest = op.x.shape
        pixels, channels = math.prod(rest), c // op.groups
        threads = k.threads if op.x.type.size >= PARALLEL else 1
        with tasks(b, [n, op.groups], 1, threads) as ((image, group), _):
            first = b.let("first", group * channels)
            base = b.let("base", (image * c + first) * pixels)
            norm = _Norm(k, base, channels * pixels)
            if pixels == 1:
                row(b, channels, widest(channels, lanes), lambda at, w: k.finish(norm.value(base + at, first + at, w), base + at, None, image, w))
                return
            with b.range("channel", 0, channels) as channel:
                start = b.let("start", base + channel * pixels)
                vectors(
                    b, pixels, widest(pixels, lanes),
                    lambda at, w: k.finish(norm.value(start + at, first + channel, w, constant=True), start + at, None, image, w),
                )  # fmt: skip


class _Norm:
    """Mean and 1 / standard deviation of the row of `size` elements at `base`."""

    def __init__(self, k: KernelBuilder, base: Expr, size: int):
        self.k, self.b = k, k.b
        op: Any = k.anchor
        self.dtype = "float64" if op.x.type.elem == "f64" else "float32"
        self.mean = self._mean(base, size, lambda x: x)
        variance = self._mean(base, size, self._square)
        deviation = k.math.sqrt(variance + k.math.const(variance, op.eps))
        self.rstd = self.b.value(k.math.const(variance, 1) / deviation)

    def _mean(self, base: Expr, size: int, of: Any) -> Expr:
        total = Row(self.b, addition("f64"), size, widest(size, self.k.target.lanes * CHAINS))
        total.add_row(lambda at, lanes: cast(of(self._x(base + at, lanes)), "float64"))
        return self.b.value(cast(total.result() * const(1 / size, "float64"), self.dtype))

    def _square(self, x: Expr) -> Expr:
        d = self._centred(x)
        return d * d

    def _x(self, at: Expr, lanes: int) -> Expr:
        return cast(self.b.load(self.k.args[self.k.anchor.x], at, lanes), self.dtype)

    def _centred(self, x: Expr) -> Expr:
        return self.b.value(x - splat(self.mean, lanes_of(x)))

    def value(self, at: Expr, parameter: Expr, lanes: int, constant: bool = False) -> Expr:
        """The normalized lanes at `at`, with gamma and beta from index `parameter` on (`constant`: that one for all lanes)."""
        op: Any = self.k.anchor
        y = self._centred(self._x(at, lanes)) * splat(self.rstd, lanes)
        if op.gamma is not None:
            y = y * self._parameter(op.gamma, parameter, lanes, constant)
        if op.beta is not None:
            y = y + self._parameter(op.beta, parameter, lanes, constant)
        return self.b.value(convert(y, self.k.out.dtype))

    def _parameter(self, v: Value, at: Expr, lanes: int, constant: bool) -> Expr:
        p = cast(self.b.load(self.k.args[v], at, 1 if constant else lanes), self.dtype)
        return splat(p, lanes) if constant else p
