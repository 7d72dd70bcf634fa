"""Reductions, softmax and norms: a block of threads for each row, or a thread for each result where rows are short."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import tirx as t

from ....ir.ops import (
    ArgMax,
    ArgMin,
    CumMax,
    CumMin,
    CumProd,
    CumSum,
    GroupNorm,
    LayerNorm,
    LogSoftmax,
    Mean,
    Prod,
    ReduceMax,
    ReduceMin,
    Softmax,
    Sum,
)
from ....ir.ops.reduce import Reduce
from ...codegen.builder import TIR_DTYPE, Expr
from ...codegen.gpu import GpuKernel, coordinates, div, mod
from ...target import Target
from ...tile.fusion import Fusion
from ...tile.integer_onnx import OrderedSum
from ..template import Params, kernel
from .template import ElementTemplate, GpuTemplate

#: Elements of a row from which a block of threads reduces it.
LONG = 64
#: Function that combines two values.
Combine = Callable[[Expr, Expr], Expr]


def lowest(dtype: str) -> Expr:
    """The smallest value of a type."""
    if dtype.startswith("float"):
        return t.const(-math.inf, dtype)
    return t.const(0 if dtype == "bool" else int(np.iinfo(dtype).min), dtype)


def highest(dtype: str) -> Expr:
    """The largest value of a type."""
    if dtype.startswith("float"):
        return t.const(math.inf, dtype)
    return t.const(1 if dtype == "bool" else int(np.iinfo(dtype).max), dtype)


def threads_for(size: int, target: Target) -> int:
    """Threads for a row, a power of two."""
    return min(256, target.block, max(32, 1 << (size - 1).bit_length()))


def monoid(k: GpuKernel, op: Any) -> tuple[str, Expr, Combine]:
    """The type that a reduction or scan computes in, its identity, and the function that combines two values."""
    dtype = TIR_DTYPE[str(op.out.type.elem)]
    dtype = "int32" if dtype == "bool" else dtype
    if isinstance(op, (ReduceMax, ReduceMin, CumMax, CumMin)):
        greatest = isinstance(op, (ReduceMax, CumMax))
        return dtype, lowest(dtype) if greatest else highest(dtype), k.math.max if greatest else k.math.min
    if isinstance(op, (Prod, CumProd)):
        return dtype, t.const(1, dtype), lambda a, b: a * b
    return dtype, t.const(0, dtype), lambda a, b: a + b


def walk(op: Reduce) -> tuple[list[int], Callable[[Expr], list[Expr]]]:
    """The kept axes of x, and a function from a flat index to the index along the reduced axes."""
    kept = [axis for axis in range(op.x.type.rank) if axis not in op.axes]
    return kept, lambda at: coordinates(at, [op.x.shape[axis] for axis in op.axes])


def placed(op: Reduce, index: Sequence[Expr]) -> Callable[[Sequence[Expr]], list[Expr]]:
    """For one result, a function from the index along the reduced axes to the index in x."""
    kept = [axis for axis in range(op.x.type.rank) if axis not in op.axes]
    own = dict(zip(kept, [i for axis, i in enumerate(index) if not op.keepdim or axis in kept]))
    return lambda inner: [own[axis] if axis in own else inner[op.axes.index(axis)] for axis in range(op.x.type.rank)]


@kernel(Mean, Sum, Prod, ReduceMax, ReduceMin, OrderedSum)
class Reduction(ElementTemplate):
    """A thread for each result, which adds up elements in order."""

    name = "gpu_reduce"

    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        b = k.b
        dtype, first, combine = monoid(k, op)
        size = math.prod(op.x.shape[axis] for axis in op.axes)
        at = placed(op, index)
        acc = b.local(1, dtype)
        b.store(acc, 0, first)
        with b.loop("i", 0, size) as i:
            inner = coordinates(i, [op.x.shape[axis] for axis in op.axes])
            b.store(acc, 0, combine(b.load(acc, 0), k.math.convert(b.value(k.read(op.x, at(inner))), dtype)))
        return finished(k, op, b.load(acc, 0), size)


def finished(k: GpuKernel, op: Any, value: Expr, size: int) -> Expr:
    if isinstance(op, Mean):
        value = value * t.const(1 / size, str(value.ty.dtype))
    return k.math.convert(value, TIR_DTYPE[str(op.out.type.elem)])


@kernel(Mean, Sum, Prod, ReduceMax, ReduceMin)
class BlockReduction(GpuTemplate):
    """A block of threads for each result."""

    name = "gpu_block_reduce"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        return super().accepts(fusion, target) and math.prod(op.x.shape[axis] for axis in op.axes) >= LONG

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        return 0.5 * fusion.out.size

    def write(self, k: GpuKernel, op: Any) -> None:
        b = k.b
        dtype, first, combine = monoid(k, op)
        size = math.prod(op.x.shape[axis] for axis in op.axes)
        b.launch([max(op.out.type.size, 1)], threads_for(size, k.target))
        index = coordinates(b.block[0], op.out.shape)
        at = placed(op, index)

        def item(i: Expr) -> Expr:
            return k.math.convert(k.read(op.x, at(coordinates(i, [op.x.shape[axis] for axis in op.axes]))), dtype)

        total = k.reduced(size, dtype, first, item, combine)
        with b.when(t.EQ(b.thread, 0)):
            k.store(finished(k, op, total, size), index)


@kernel(ArgMax, ArgMin)
class ArgReduction(ElementTemplate):
    """The first index of the extreme; a NaN is the extreme of its row, as in torch."""

    name = "gpu_arg_reduce"

    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        b, dtype = k.b, k.args[op.x].dtype
        own = [i for axis, i in enumerate(index) if not op.keepdim or axis != op.axis]
        best, place = b.local(1, dtype), b.local(1, "int32")

        def at(i: Expr) -> Expr:
            return b.value(k.read(op.x, [*own[: op.axis], i, *own[op.axis :]]))

        b.store(best, 0, at(0))
        b.store(place, 0, t.IntImm("int32", 0))
        with b.loop("i", 1, op.x.shape[op.axis]) as i:
            x, old = at(i), b.load(best, 0)
            beats = x > old if isinstance(op, ArgMax) else x < old
            if dtype.startswith("float"):
                beats = t.all(t.any(beats, k.math.isnan(x)), t.Not(k.math.isnan(old)))
            with b.when(beats):
                b.store(best, 0, x)
                b.store(place, 0, i)
        return t.Cast("int64", b.load(place, 0))


class Lines(GpuTemplate):
    """Base of templates that work along one axis."""

    def parts(self, op: Any) -> tuple[int, int, int]:
        """Elements before, along and after the axis."""
        shape = op.x.shape
        return math.prod(shape[: op.axis]), shape[op.axis], math.prod(shape[op.axis + 1 :])


@kernel(CumSum, CumProd, CumMax, CumMin)
class Cumulative(Lines):
    """A thread for each line."""

    name = "gpu_scan"

    def write(self, k: GpuKernel, op: Any) -> None:
        b, (outer, size, inner) = k.b, self.parts(op)
        dtype, start, combine = monoid(k, op)
        with k.each(outer * inner) as line:
            first = b.value(div(line, inner) * (size * inner) + mod(line, inner))
            acc = b.local(1, dtype)
            b.store(acc, 0, start)
            with b.loop("i", 0, size) as i:
                at = b.value(first + i * inner)
                b.store(acc, 0, combine(b.load(acc, 0), b.value(k.math.convert(b.load(k.args[op.x], at), dtype))))
                k.store(b.load(acc, 0), coordinates(at, op.out.shape))


@kernel(Softmax, LogSoftmax)
class SoftmaxRows(Lines):
    """A block of threads for each line: its maximum, its sum, and then its elements."""

    name = "gpu_softmax"

    def write(self, k: GpuKernel, op: Any) -> None:
        b, m, (outer, size, inner) = k.b, k.math, self.parts(op)
        dtype, threads = k.args[op.x].dtype, threads_for(size, k.target)
        b.launch([outer * inner], threads)
        first = b.value(div(b.block[0], inner) * (size * inner) + mod(b.block[0], inner))

        def x(i: Expr) -> Expr:
            return b.load(k.args[op.x], first + i * inner)

        greatest = k.reduced(size, dtype, lowest(dtype), x, m.max)
        total = k.reduced(size, dtype, t.const(0.0, dtype), lambda i: m.exp(x(i) - greatest), lambda a, c: a + c)
        with b.loop("i", 0, -(-size // threads)) as step:
            i = b.value(step * threads + b.thread)
            with b.when(i < size):
                shifted = b.value(x(i) - greatest)
                k.store(m.exp(shifted) / total if isinstance(op, Softmax) else shifted - m.log(total), coordinates(first + i * inner, op.out.shape))


@kernel(LayerNorm, GroupNorm)
class Norm(GpuTemplate):
    """y = (x - mean) / sqrt(mean((x - mean)^2) + eps) * gamma + beta over contiguous rows, in two passes as in torch."""

    name = "gpu_norm"

    def write(self, k: GpuKernel, op: Any) -> None:
        b, m, shape = k.b, k.math, op.x.shape
        layer = isinstance(op, LayerNorm)
        size = math.prod(shape[-op.axes :]) if layer else math.prod(shape[1:]) // op.groups
        dtype, threads = k.args[op.x].dtype, threads_for(size, k.target)
        b.launch([op.x.type.size // size], threads)
        base = b.value(b.block[0] * size)

        def x(i: Expr) -> Expr:
            return b.load(k.args[op.x], base + i)

        def average(item: Callable[[Expr], Expr]) -> Expr:
            total = k.reduced(size, dtype, t.const(0.0, dtype), item, lambda a, c: a + c)
            return b.value(total * t.const(1 / size, dtype))

        def squared(i: Expr) -> Expr:
            d = b.value(x(i) - mean)
            return d * d

        mean = average(x)
        variance = average(squared)
        rstd = b.value(t.const(1.0, dtype) / m.sqrt(variance + t.const(op.eps, dtype)))
        pixels = 1 if layer else math.prod(shape[2:])
        with b.loop("i", 0, -(-size // threads)) as step:
            i = b.value(step * threads + b.thread)
            with b.when(i < size):
                parameter = i if layer else b.value(mod(div(base + i, pixels), shape[1]))
                y = b.value((x(i) - mean) * rstd)
                y = y if op.gamma is None else y * b.load(k.args[op.gamma], parameter)
                y = y if op.beta is None else y + b.load(k.args[op.beta], parameter)
                k.store(y, coordinates(base + i, shape))
