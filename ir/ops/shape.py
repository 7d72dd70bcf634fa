"""Operators that move elements and compute nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..op import Const, Op, Value
from ..ties import Kept, Tie, free, positions, same, same_but
from ..types import BitsAffine, Tensor, Uniform
from .check import axis_in_range, exactly, movable

if TYPE_CHECKING:
    import torch


class Reshape(Op, name="nn.reshape"):
    """x in row-major order under another shape; one -1 is inferred from the others (the batch)."""

    selects = True

    x: Value
    shape: tuple[int, ...]

    def infer(self) -> Tensor:
        elem = movable(self)
        given = math.prod(s for s in self.shape if s != -1)
        if self.shape.count(-1) > 1 or any(s < -1 for s in self.shape):
            raise self.fail(f"shape must hold sizes and at most one -1, got {list(self.shape)}")
        if (given < 1 or self.x.type.size % given) if -1 in self.shape else given != self.x.type.size:
            raise self.fail(f"shape {list(self.shape)} cannot hold the {self.x.type.size} elements of x {list(self.x.shape)}")
        return Tensor(tuple(self.x.type.size // given if s == -1 else s for s in self.shape), elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].reshape(self.shape)
        return y

    def ties(self) -> Iterator[Tie]:
        """Runs of axes with one product map to each other: one axis to one; several to one by the first that is not barred; one to several
        by the last, so that a split into groups keeps the groups. Several to several is barred."""
        x, y = self.x, self.out
        for ins, outs in _runs(x.shape, y.shape):
            if len(ins) == len(outs) == 1:
                yield same(x, ins[0], y, outs[0])
            elif len(outs) == 1:
                for axis in ins:
                    yield Tie(x, axis, _along(x.shape, ins, axis), y, outs[0], np.arange(y.shape[outs[0]]), choice=outs[0])
            elif len(ins) == 1:
                yield Tie(x, ins[0], np.arange(x.shape[ins[0]]), y, outs[-1], _along(y.shape, outs, outs[-1]))
        yield from (free(v, axis) for v in (x, y) for axis, size in enumerate(v.shape) if size == 1)

    def narrowed(self, kept: Kept, operands: dict[str, Any]) -> Op:
        sizes = [s if s == -1 or (k := kept(self.out, i)).all() else int(k.sum()) for i, s in enumerate(self.shape)]
        return self.rebuilt(**operands, shape=tuple(sizes))


def _runs(a: tuple[int, ...], b: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Shortest runs of axes of two shapes with equal products; axes of size 1 belong to none."""
    left, right = [i for i, s in enumerate(a) if s != 1], [i for i, s in enumerate(b) if s != 1]
    while left and right:
        ins, outs = [left.pop(0)], [right.pop(0)]
        while (m := math.prod(a[i] for i in ins)) != (n := math.prod(b[i] for i in outs)):
            (ins if m < n else outs).append((left if m < n else right).pop(0))
        yield ins, outs


def _along(shape: tuple[int, ...], run: list[int], axis: int) -> np.ndarray:
    """For each position of the flattened run of axes, the position along one of them."""
    inner = math.prod(shape[i] for i in run if i > axis)
    return np.arange(math.prod(shape[i] for i in run)) // inner % shape[axis]


class Transpose(Op, name="nn.transpose"):
    """y.shape[i] = x.shape[perm[i]]"""

    selects = True
    moves = True

    x: Value
    perm: tuple[int, ...]

    def infer(self) -> Tensor:
        elem = movable(self)
        if sorted(self.perm) != list(range(self.x.type.rank)):
            raise self.fail(f"perm must order the axes 0 to {self.x.type.rank - 1}, got {list(self.perm)}")
        return Tensor(tuple(self.x.shape[p] for p in self.perm), elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].permute(self.perm)
        return y

    def ties(self) -> Iterator[Tie]:
        return (same(self.x, p, self.out, i) for i, p in enumerate(self.perm))


class Expand(Op, name="nn.expand"):
    """Repeat dimensions of size 1, and add leading ones; -1 keeps that dimension of x."""

    selects = True
    moves = True

    x: Value
    shape: tuple[int, ...]

    def infer(self) -> Tensor:
        elem = movable(self)
        lead = len(self.shape) - self.x.type.rank
        old = (None,) * lead + self.x.shape
        if lead < 0 or any(s < -1 or (s == -1 and o is None) or (o not in (None, 1, s) and s != -1) for s, o in zip(self.shape, old)):
            raise self.fail(f"x {list(self.x.shape)} cannot expand to {list(self.shape)}")
        return Tensor(tuple(o if s == -1 and o is not None else s for s, o in zip(self.shape, old)), elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].expand(self.shape)
        return y

    def ties(self) -> Iterator[Tie]:
        lead = self.out.type.rank - self.x.type.rank
        for axis, size in enumerate(self.out.shape):
            if axis >= lead and self.x.shape[axis - lead] == size:
                yield same(self.x, axis - lead, self.out, axis)
            else:
                yield free(self.out, axis)
                if axis >= lead:
                    yield free(self.x, axis - lead)

    def narrowed(self, kept: Kept, operands: dict[str, Any]) -> Op:
        sizes = [s if s == -1 or (k := kept(self.out, i)).all() else int(k.sum()) for i, s in enumerate(self.shape)]
        return self.rebuilt(**operands, shape=tuple(sizes))


class Concat(Op, name="nn.concat"):
    """The tensors xs one after another along `axis`; their other dimensions agree."""

    selects = True
    moves = True

    xs: list[Value]
    axis: int

    def infer(self) -> Tensor:
        if not self.xs:
            raise self.fail("xs must hold at least one tensor, got none")
        first = self.xs[0].type
        axis_in_range(self, self.axis, first.rank)
        if not isinstance(first.elem, str) and first.elem.axis is not None:
            raise self.fail(f"xs must have one scale for the tensor, got {first}")
        for v in self.xs:
            if v.type.elem != first.elem:
                raise self.fail(f"xs must hold one element type, got {first} and {v.type}")
            if v.type.rank != first.rank or any(a != b for i, (a, b) in enumerate(zip(v.shape, first.shape)) if i != self.axis):
                raise self.fail(f"xs must agree but for axis {self.axis}, got shapes {list(first.shape)} and {list(v.shape)}")
        size = sum(v.shape[self.axis] for v in self.xs)
        return Tensor((*first.shape[: self.axis], size, *first.shape[self.axis + 1 :]), first.elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        return torch.cat(xs[0], self.axis)

    def ties(self) -> Iterator[Tie]:
        offset = 0
        for v in self.xs:
            yield from same_but(v, self.out, self.axis)
            every = np.arange(v.shape[self.axis])
            yield Tie(v, self.axis, every, self.out, self.axis, every + offset)
            offset += len(every)


class Slice(Op, name="nn.slice"):
    """x[start:stop:step] along `axis`; 0 <= start < stop <= size, step >= 1."""

    selects = True
    moves = True

    x: Value
    axis: int
    start: int
    stop: int
    step: int = 1

    def infer(self) -> Tensor:
        elem = movable(self)
        axis_in_range(self, self.axis, self.x.type.rank)
        size = self.x.shape[self.axis]
        if not 0 <= self.start < self.stop <= size or self.step < 1:
            raise self.fail(f"0 <= start < stop <= {size} and step >= 1 must hold on axis {self.axis}, got {self.start}:{self.stop}:{self.step}")
        length = -(-(self.stop - self.start) // self.step)
        return Tensor((*self.x.shape[: self.axis], length, *self.x.shape[self.axis + 1 :]), elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0][(slice(None),) * self.axis + (slice(self.start, self.stop, self.step),)]
        return y

    def ties(self) -> Iterator[Tie]:
        yield from same_but(self.x, self.out, self.axis)
        taken = np.arange(self.start, self.stop, self.step)
        yield Tie(self.x, self.axis, taken, self.out, self.axis, np.arange(len(taken)))

    def narrowed(self, kept: Kept, operands: dict[str, Any]) -> Op:
        """A slice where the kept positions are evenly spaced, else an index_select."""
        taken = np.arange(self.start, self.stop, self.step)[kept(self.out, self.axis)]
        places = positions(kept(self.x, self.axis))[taken]
        steps = set(np.diff(places).tolist()) or {1}
        if len(steps) > 1:
            return IndexSelect(operands.get("x", self.x), Const(places, loc=self.loc), self.axis, loc=self.loc)
        return self.rebuilt(**operands, start=int(places[0]), stop=int(places[-1]) + 1, step=steps.pop())


class IndexSelect(Op, name="nn.index_select"):
    """x at `index` (i64, 1-d, not negative) along `axis`; an embedding is axis 0 of its table."""

    selects = True
    moves = True

    x: Value
    index: Value
    axis: int

    learned = ("x",)

    def infer(self) -> Tensor:
        elem = movable(self)
        exactly(self, "i64", "index")
        axis_in_range(self, self.axis, self.x.type.rank)
        if self.index.type.rank != 1:
            raise self.fail(f"index must be 1-d, got shape {list(self.index.shape)}")
        size = self.x.shape[self.axis]
        if isinstance(self.index.op, Const) and not np.all((self.index.op.array >= 0) & (self.index.op.array < size)):
            raise self.fail(f"index must lie within 0 to {size - 1}, got {self.index.op.array.min()} to {self.index.op.array.max()}")
        return Tensor((*self.x.shape[: self.axis], self.index.shape[0], *self.x.shape[self.axis + 1 :]), elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        x, index = xs
        y: torch.Tensor = x.index_select(self.axis, index)
        return y

    def addresses(self) -> Iterator[tuple[Value, int]]:
        yield self.index, self.x.shape[self.axis]

    def ties(self) -> Iterator[Tie]:
        yield from same_but(self.x, self.out, self.axis)
        if isinstance(self.index.op, Const):
            yield Tie(self.x, self.axis, self.index.op.array, self.out, self.axis, np.arange(self.index.shape[0]))

    def narrowed(self, kept: Kept, operands: dict[str, Any]) -> Op:
        if isinstance(self.index.op, Const) and not (kept(self.x, self.axis).all() and kept(self.out, self.axis).all()):
            places = positions(kept(self.x, self.axis))[self.index.op.array[kept(self.out, self.axis)]]
            operands = operands | {"index": Const(places, loc=self.index.op.loc)}
        return self.rebuilt(**operands)


PAD_MODES = ("constant", "reflect", "replicate", "circular")


class Pad(Op, name="nn.pad"):
    """Lengthen both ends of every axis by pads (lo0, hi0, lo1, hi1, …); a negative pad crops.

    Filled with `value` (constant), the mirror image without its edge (reflect), the edge (replicate) or the other end (circular). A quantized
    x is filled with the stored integer nearest to `value`: its zero point for 0.
    """

    selects = True
    moves = True

    x: Value
    pads: tuple[int, ...]
    mode: str = "constant"
    value: float = 0.0

    def infer(self) -> Tensor:
        elem = movable(self)
        if len(self.pads) != 2 * self.x.type.rank:
            raise self.fail(f"pads must be {2 * self.x.type.rank} integers, two for each axis, got {list(self.pads)}")
        if self.mode not in PAD_MODES:
            raise self.fail(f"mode must be one of {', '.join(PAD_MODES)}, got {self.mode!r}")
        if isinstance(elem, BitsAffine) and self.mode == "constant":
            raise self.fail(f"a constant cannot fill {self.x.type}, which may hold no 0")
        if self.mode != "constant" and self.value != 0.0:
            raise self.fail(f"value belongs to mode 'constant', got {self.value} with mode {self.mode!r}")
        shape = []
        for size, lo, hi in zip(self.x.shape, self.pads[::2], self.pads[1::2]):
            limit = {"reflect": size - 1, "circular": size}.get(self.mode)
            if limit is not None and max(lo, hi) > limit:
                raise self.fail(f"{self.mode} can pad an axis of size {size} by at most {limit}, got {lo} and {hi}")
            if size + min(lo, 0) + min(hi, 0) < 1:
                raise self.fail(f"pads must leave something of x {list(self.x.shape)}, got {list(self.pads)}")
            shape.append(size + lo + hi)
        return Tensor(tuple(shape), elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch
        import torch.nn.functional as F

        x: torch.Tensor = xs[0]
        sides = list(zip(self.pads[::2], self.pads[1::2]))
        if self.mode == "constant":
            return F.pad(x, [p for side in reversed(sides) for p in side], value=self.fill)
        for axis, (lo, hi) in enumerate(sides):
            if lo or hi:
                x = x.index_select(axis, torch.tensor(self.sources(x.shape[axis], lo, hi), device=x.device))
        return x

    @property
    def fill(self) -> float:
        """What the result holds outside x when a constant fills it."""
        elem = self.x.type.elem
        if not isinstance(elem, Uniform):
            return self.value
        low, high = elem.range
        return int(min(max(np.rint(self.value / elem.scales[0]) + elem.zero_points[0], low), high))

    def ties(self) -> Iterator[Tie]:
        """Positions shifted by the padding; what a constant fills may be removed too. Other modes copy, and are barred where they pad."""
        for axis, (lo, hi) in enumerate(zip(self.pads[::2], self.pads[1::2])):
            if self.mode == "constant" or not (lo or hi):
                taken = np.arange(max(0, -lo), self.x.shape[axis] + min(0, hi))
                yield Tie(self.x, axis, taken, self.out, axis, taken + lo)

    def narrowed(self, kept: Kept, operands: dict[str, Any]) -> Op:
        pads = list(self.pads)
        for axis, (lo, hi) in enumerate(zip(self.pads[::2], self.pads[1::2])):
            x, y = kept(self.x, axis), kept(self.out, axis)
            pads[2 * axis] = int(y[:lo].sum()) if lo > 0 else -int(x[: max(0, -lo)].sum())
            pads[2 * axis + 1] = int(y[len(y) - hi :].sum()) if hi > 0 else -int(x[len(x) + hi :].sum())
        return self.rebuilt(**operands, pads=tuple(pads))

    def sources(self, size: int, lo: int, hi: int) -> list[int]:
        """Which element of an axis of length `size` each element of the result reads, for the modes that copy."""
        places = range(-lo, size + hi)
        if self.mode == "reflect":
            return [size - 1 - abs(size - 1 - abs(i)) for i in places]
        if self.mode == "replicate":
            return [min(max(i, 0), size - 1) for i in places]
        return [i % size for i in places]
