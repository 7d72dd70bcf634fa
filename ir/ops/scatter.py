"""Gather and scatter: reads and writes at indices that differ from element to element, or that repeat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..op import Const, Op, Value
from ..ties import Tie, same
from ..types import Tensor
from .check import axis_in_range, exactly, movable, plain

if TYPE_CHECKING:
    import torch


class Gather(Op, name="nn.gather"):
    """y[i, j, …] = x[i, index[i, j, …], …] along `axis`; index (i64, not negative) has x's rank, and at most its size in other axes."""

    selects = True
    alone = True

    x: Value
    index: Value
    axis: int

    def infer(self) -> Tensor:
        elem = movable(self)
        exactly(self, "i64", "index")
        axis_in_range(self, self.axis, self.x.type.rank)
        fits = [a <= b or axis == self.axis for axis, (a, b) in enumerate(zip(self.index.shape, self.x.shape))]
        if self.index.type.rank != self.x.type.rank or not all(fits):
            raise self.fail(f"index must be at most {list(self.x.shape)} but for axis {self.axis}, got shape {list(self.index.shape)}")
        size = self.x.shape[self.axis]
        if isinstance(self.index.op, Const) and not np.all((self.index.op.array >= 0) & (self.index.op.array < size)):
            raise self.fail(f"index must lie within 0 to {size - 1}, got {self.index.op.array.min()} to {self.index.op.array.max()}")
        return Tensor(self.index.shape, elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        x, index = xs
        y: torch.Tensor = x.gather(self.axis, index)
        return y

    def addresses(self) -> Iterator[tuple[Value, int]]:
        yield self.index, self.x.shape[self.axis]

    def ties(self) -> Iterator[Tie]:
        """The axes other than `axis` along which all of x is read."""
        for axis in range(self.x.type.rank):
            if axis != self.axis and self.x.shape[axis] == self.index.shape[axis]:
                yield same(self.x, axis, self.out, axis)
                yield same(self.index, axis, self.out, axis)


SCATTER_MODES = ("set", "add", "mul", "max", "min")


class Scatter(Op, name="nn.scatter"):
    """x with y[index[k]] = updates[k] for k = 0, 1, … in turn; x (N, ...), index (K,) i64 and not negative, updates (K, ...).

    mode: "set", or how an update joins what is there: "add", "mul", "max", "min". Single elements are scattered as rows of flat tensors.
    """

    alone = True

    x: Value
    index: Value
    updates: Value
    mode: str = "set"

    def infer(self) -> Tensor:
        elem = plain(self, "x", "updates", boolean=self.mode == "set")
        exactly(self, "i64", "index")
        if self.mode not in SCATTER_MODES:
            raise self.fail(f"mode must be one of {', '.join(SCATTER_MODES)}, got {self.mode!r}")
        if self.x.type.rank < 1 or self.index.type.rank != 1:
            raise self.fail(f"x must be (N, ...) and index (K,), got shapes {list(self.x.shape)} and {list(self.index.shape)}")
        if self.updates.shape != (*self.index.shape, *self.x.shape[1:]):
            raise self.fail(f"updates must have shape {[*self.index.shape, *self.x.shape[1:]]}, got {list(self.updates.shape)}")
        size = self.x.shape[0]
        if isinstance(self.index.op, Const) and not np.all((self.index.op.array >= 0) & (self.index.op.array < size)):
            raise self.fail(f"index must lie within 0 to {size - 1}, got {self.index.op.array.min()} to {self.index.op.array.max()}")
        return Tensor(self.x.shape, elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        x, index, updates = xs
        y: torch.Tensor
        if self.mode == "set":
            # the last update of an index wins, which torch does not promise
            last = torch.full((x.shape[0],), -1, dtype=torch.int64, device=x.device)
            last = last.scatter_reduce(0, index, torch.arange(index.numel(), device=x.device), "amax")
            column = last.reshape(-1, *[1] * (x.dim() - 1))
            y = torch.where(column < 0, x, updates[last.clamp(min=0)])
            return y
        mode = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[self.mode]
        rows = index.reshape(-1, *[1] * (x.dim() - 1)).expand(updates.shape)
        y = x.scatter_reduce(0, rows, updates, mode)
        return y

    def addresses(self) -> Iterator[tuple[Value, int]]:
        yield self.index, self.x.shape[0]

    def ties(self) -> Iterator[Tie]:
        """The axes of a row."""
        for axis in range(1, self.x.type.rank):
            yield same(self.x, axis, self.out, axis)
            yield same(self.updates, axis, self.out, axis)
