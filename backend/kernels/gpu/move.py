"""Data movement: each element of the result computes which element of an operand it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx as t

from ....ir.ops import Concat, Expand, Gather, IndexSelect, Pad, Slice, Transpose
from ...codegen.builder import Expr
from ...codegen.gpu import GpuKernel, choose, div, flat, mod
from ...tile.moves import AsStrided, DepthToSpace, FromNhwc, PadCrop, ToNhwc
from ...tile.ops import ChannelGather
from ..template import kernel
from .template import ElementTemplate


class Move(ElementTemplate):
    name = "gpu_move"


@kernel(Transpose, ToNhwc, FromNhwc)
class Permuted(Move):
    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        perm = op.perm if isinstance(op, Transpose) else (0, 2, 3, 1) if isinstance(op, ToNhwc) else (0, 3, 1, 2)
        return k.read(op.x, [index[perm.index(axis)] for axis in range(len(perm))])


@kernel(Expand)
class Expanded(Move):
    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        return k.read(op.x, index)


@kernel(Slice)
class Sliced(Move):
    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        return k.read(op.x, [i * op.step + op.start if axis == op.axis else i for axis, i in enumerate(index)])


@kernel(AsStrided)
class Strided(Move):
    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        place: Expr = op.offset
        for i, step in zip(index, op.strides):
            place = place + i * step
        return k.b.load(k.args[op.x], place)


@kernel(Concat)
class Concatenated(Move):
    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        return joined(k, op.xs, op.axis, index, index[op.axis])


@kernel(ChannelGather)
class Gathered(Move):
    """Channel gather: the channels form runs of one operand and one step; comparisons choose the run."""

    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        channel = index[1]
        source: Expr = chosen(channel, runs(op.channels))
        return joined(k, op.xs, 1, index, k.b.value(source))


@kernel(PadCrop)
class PaddedCropped(Move):
    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        row, column = (k.b.value(chosen(i, runs(table))) for i, table in zip(index[2:], (op.rows, op.columns)))
        inside = t.all(row >= 0, column >= 0)
        return choose(inside, k.read(op.x, [*index[:2], row, column]), t.const(op.value, k.args[op.x].dtype))


@kernel(Pad)
class Padded(Move):
    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        places: list[Expr] = []
        conditions: list[Expr] = []
        for i, size, lo, hi in zip(index, op.x.shape, op.pads[::2], op.pads[1::2]):
            if not lo and not hi:
                places.append(i)
            elif op.mode == "constant":
                at = k.b.value(i - lo)
                places.append(at)
                conditions += [at >= 0] * (lo > 0) + [at < size] * (hi > 0)
            else:
                places.append(k.b.value(chosen(i, runs(op.sources(size, lo, hi)))))
        value = k.read(op.x, places)
        if not conditions:
            return value
        fill = op.x.type.dtype.type(op.fill).item()
        return choose(t.all(*conditions) if len(conditions) > 1 else conditions[0], value, t.const(fill, str(value.ty.dtype)))


@kernel(IndexSelect)
class Indexed(Move):
    """The index is read when the kernel runs, constant or not."""

    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        place = k.place(k.args[op.index], index[op.axis], op.x.shape[op.axis])
        return k.read(op.x, [place if axis == op.axis else i for axis, i in enumerate(index)])


@kernel(Gather)
class GatheredElements(Move):
    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        place = k.place(k.args[op.index], flat(index, op.index.shape), op.x.shape[op.axis])
        return k.read(op.x, [place if axis == op.axis else i for axis, i in enumerate(index)])


@kernel(DepthToSpace)
class PixelsOfPhases(Move):
    def element(self, k: GpuKernel, op: Any, index: Sequence[Expr]) -> Expr:
        (fh, fw), (top, left) = op.factor, op.crop
        n, c, i, j = index
        i, j = k.b.value(i + top), k.b.value(j + left)
        phase = k.b.value(mod(i, fh) * fw + mod(j, fw))
        return k.read(op.x, [n, phase * (op.x.shape[1] // (fh * fw)) + c, div(i, fh), div(j, fw)])


def joined(k: GpuKernel, xs: Sequence[Any], axis: int, index: Sequence[Expr], place: Expr) -> Expr:
    """The element at `place` along the axis of concatenated operands."""
    ends = [sum(x.shape[axis] for x in xs[: i + 1]) for i in range(len(xs))]

    def among(first: int, last: int) -> Expr:
        if last - first == 1:
            start = ends[first - 1] if first else 0
            return k.read(xs[first], [place - start if a == axis else i for a, i in enumerate(index)])
        middle = (first + last) // 2
        return choose(place < ends[middle - 1], among(first, middle), among(middle, last))

    return among(0, len(xs))


#: First position, first value and step of a run.
Run = tuple[int, int, int]


def runs(table: Sequence[int]) -> list[Run]:
    """A table of integers, cut into runs with a constant step."""
    result: list[Run] = []
    at = 0
    while at < len(table):
        step = table[at + 1] - table[at] if at + 1 < len(table) else 0
        end = at + 1
        while end < len(table) and table[end] - table[end - 1] == step:
            end += 1
        if end == at + 2 and end < len(table):
            # two values with another step than the next ones are two runs of one value
            step, end = 0, at + 1
        result.append((at, table[at], step))
        at = end
    return result


def chosen(at: Expr, pieces: Sequence[Run]) -> Expr:
    """The value of a table at a position."""
    if len(pieces) == 1:
        first, value, step = pieces[0]
        return t.IntImm("int32", value) if not step else (at - first) * step + value
    middle = len(pieces) // 2
    return choose(at < pieces[middle][0], chosen(at, pieces[:middle]), chosen(at, pieces[middle:]))
