"""Sorting and scattering: a thread for each element reads all others that decide its position or value."""

from __future__ import annotations

import math
from typing import Any

from tvm import tirx as t

from ....ir.ops import ArgSort, Scatter
from ...codegen.builder import Expr
from ...codegen.gpu import GpuKernel, choose, coordinates, div, mod
from ...codegen.ieee import is_float
from ..template import kernel
from .reduce import Lines
from .template import GpuTemplate


@kernel(ArgSort)
class RankSort(Lines):
    """Stable sort by rank: an element's position is the number of elements before it; among equal ones the earlier come first."""

    name = "gpu_rank_sort"

    def write(self, k: GpuKernel, op: Any) -> None:
        b, (outer, size, inner) = k.b, self.parts(op)
        with k.each(outer * size * inner) as at:
            own = b.value(mod(div(at, inner), size))
            base = b.value(at - own * inner)
            x = b.value(b.load(k.args[op.x], at))
            rank = b.local(1, "int32")
            b.store(rank, 0, t.IntImm("int32", 0))
            with b.loop("i", 0, size) as i:
                other = b.value(b.load(k.args[op.x], base + i * inner))
                beats = before(k, other, x, op.descending)
                equal = t.all(t.Not(beats), t.Not(before(k, x, other, op.descending)), i < own)
                b.store(rank, 0, b.load(rank, 0) + choose(t.any(beats, equal), t.IntImm("int32", 1), t.IntImm("int32", 0)))
            place = b.value(base + b.load(rank, 0) * inner)
            k.b.store(k.out, place, t.Cast("int64", own))


def before(k: GpuKernel, a: Expr, b: Expr, descending: bool) -> Expr:
    """Whether a sorts strictly before b; NaN is above all numbers."""
    beats = a > b if descending else a < b
    if not is_float(a):
        return beats
    first, last = (a, b) if descending else (b, a)
    return t.all(t.Not(k.math.isnan(last)), t.any(k.math.isnan(first), beats))


@kernel(Scatter)
class ScatterByReading(GpuTemplate):
    """Scatter as a gather: each element of the result goes through the updates in order, and applies those with its index."""

    name = "gpu_scatter"

    def write(self, k: GpuKernel, op: Any) -> None:
        b, row = k.b, math.prod(op.x.shape[1:])
        joins = {
            "set": lambda old, new: new,
            "add": lambda old, new: old + new,
            "mul": lambda old, new: old * new,
            "max": k.math.max,
            "min": k.math.min,
        }
        with k.each(op.x.type.size) as at:
            own, inside = b.value(div(at, row)), b.value(mod(at, row))
            value = b.local(1, "uint8" if op.x.type.elem == "bool" else k.args[op.x].dtype)
            b.store(value, 0, k.math.convert(b.load(k.args[op.x], at), value.dtype))
            with b.loop("i", 0, op.index.shape[0]) as i:
                place = k.place(k.args[op.index], i, op.x.shape[0])
                with b.when(t.EQ(place, own)):
                    update = b.value(k.math.convert(b.load(k.args[op.updates], i * row + inside), value.dtype))
                    b.store(value, 0, joins[op.mode](b.value(b.load(value, 0)), update))
            k.store(k.math.convert(b.load(value, 0), k.out.dtype), coordinates(at, op.out.shape))
