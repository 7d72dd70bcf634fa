"""Reductions, arg-reductions, and operators along one axis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..op import Op, Value
from ..ties import Tie, same, same_but
from ..types import Elem, Tensor
from .check import axis_in_range, floats, movable, plain

if TYPE_CHECKING:
    import torch


class Reduce(Op):
    """Base of reductions over `axes` (non-negative, ascending; none: x itself), which stay as size 1 with `keepdim`."""

    row_wise = True

    x: Value
    axes: tuple[int, ...]
    keepdim: bool = False

    def out_shape(self) -> tuple[int, ...]:
        dims = self.x.type.rank
        if list(self.axes) != sorted(set(self.axes)) or any(not 0 <= a < dims for a in self.axes):
            raise self.fail(f"axes must ascend within 0 to {dims - 1}, got {list(self.axes)}")
        if self.keepdim:
            return tuple(1 if i in self.axes else s for i, s in enumerate(self.x.shape))
        return tuple(s for i, s in enumerate(self.x.shape) if i not in self.axes)

    def ties(self) -> Iterable[Tie]:
        return _left(self.x, self.axes, self.keepdim, self.out)


def _left(x: Value, reduced: tuple[int, ...], keepdim: bool, out: Value) -> list[Tie]:
    """The axes that a reduction leaves; the reduced ones are barred, since the result depends on every position."""
    left = [axis for axis in range(x.type.rank) if axis not in reduced]
    return [same(x, axis, out, axis if keepdim else i) for i, axis in enumerate(left)]


def _summed(op: Op) -> Elem:
    """Integers and bools add up in i64, as in torch."""
    elem = plain(op, "x", boolean=True)
    return elem if op.operands[0].type.is_float else "i64"


class Mean(Reduce, name="nn.mean"):
    def infer(self) -> Tensor:
        return Tensor(self.out_shape(), floats(self, "x"))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].mean(self.axes, self.keepdim) if self.axes else xs[0]
        return y


class Sum(Reduce, name="nn.sum"):
    """Sum; integers and bools give i64."""

    def infer(self) -> Tensor:
        return Tensor(self.out_shape(), _summed(self))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        (x,) = xs
        y: torch.Tensor = x.sum(self.axes, self.keepdim) if self.axes else x if x.is_floating_point() else x.long()
        return y


class Prod(Reduce, name="nn.prod"):
    """Product; integers and bools give i64."""

    def infer(self) -> Tensor:
        return Tensor(self.out_shape(), _summed(self))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        (x,) = xs
        y: torch.Tensor = x if x.is_floating_point() else x.long()
        for axis in reversed(self.axes):
            y = y.prod(axis, self.keepdim)
        return y


class ReduceMax(Reduce, name="nn.max"):
    selects = True

    def infer(self) -> Tensor:
        return Tensor(self.out_shape(), movable(self))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].amax(self.axes, self.keepdim) if self.axes else xs[0]
        return y


class ReduceMin(Reduce, name="nn.min"):
    selects = True

    def infer(self) -> Tensor:
        return Tensor(self.out_shape(), movable(self))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].amin(self.axes, self.keepdim) if self.axes else xs[0]
        return y


class ArgReduce(Op):
    """Index (i64) of an extreme along one axis; the first of equals."""

    x: Value
    axis: int
    keepdim: bool = False

    def infer(self) -> Tensor:
        plain(self, "x")
        axis_in_range(self, self.axis, self.x.type.rank)
        shape = self.x.shape
        return Tensor((*shape[: self.axis], *((1,) if self.keepdim else ()), *shape[self.axis + 1 :]), "i64")

    def ties(self) -> Iterable[Tie]:
        return _left(self.x, (self.axis,), self.keepdim, self.out)


class ArgMax(ArgReduce, name="nn.arg_max"):
    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].argmax(self.axis, self.keepdim)
        return y


class ArgMin(ArgReduce, name="nn.arg_min"):
    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].argmin(self.axis, self.keepdim)
        return y


class AlongAxis(Op):
    """One float operand, whose type the result keeps; `axis` is not negative."""

    row_wise = True

    x: Value
    axis: int

    def infer(self) -> Tensor:
        axis_in_range(self, self.axis, self.x.type.rank)
        return Tensor(self.x.shape, floats(self, "x"))

    def ties(self) -> Iterable[Tie]:
        return same_but(self.x, self.out, self.axis)


class Softmax(AlongAxis, name="nn.softmax"):
    """exp(x) / sum of exp(x) along the axis"""

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].softmax(self.axis)
        return y


class LogSoftmax(AlongAxis, name="nn.log_softmax"):
    """x - log(sum of exp(x)) along the axis"""

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].log_softmax(self.axis)
        return y
