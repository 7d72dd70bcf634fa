"""Scans and sorting: operators along one axis whose results depend on the elements before them, or on the order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..op import Op, Value
from ..ties import Tie, same_but
from ..types import Elem, Tensor
from .check import axis_in_range, floats, movable, plain

if TYPE_CHECKING:
    import torch


class Scan(Op):
    """y[i] combines x[0] … x[i] along `axis` (not negative)."""

    row_wise = True

    x: Value
    axis: int

    def infer(self) -> Tensor:
        axis_in_range(self, self.axis, self.x.type.rank)
        return Tensor(self.x.shape, self.element())

    def element(self) -> Elem:
        """Element type of the result: integers and bools add up and multiply in i64, as in torch."""
        elem = plain(self, "x", boolean=True)
        return elem if self.x.type.is_float else "i64"

    def ties(self) -> Iterable[Tie]:
        return same_but(self.x, self.out, self.axis)


class CumSum(Scan, name="nn.cum_sum"):
    """y[i] = x[0] + … + x[i] along the axis; integers and bools give i64."""

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].cumsum(self.axis)
        return y


class CumProd(Scan, name="nn.cum_prod"):
    """y[i] = x[0] * … * x[i] along the axis; integers and bools give i64."""

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].cumprod(self.axis)
        return y


class CumMax(Scan, name="nn.cum_max"):
    """The largest of x[0] … x[i] along the axis; NaN from the first NaN on."""

    selects = True

    def element(self) -> Elem:
        return movable(self, boolean=False)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].cummax(self.axis).values
        return y


class CumMin(Scan, name="nn.cum_min"):
    """The smallest of x[0] … x[i] along the axis; NaN from the first NaN on."""

    selects = True

    def element(self) -> Elem:
        return movable(self, boolean=False)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].cummin(self.axis).values
        return y


class LogCumSumExp(Scan, name="nn.log_cum_sum_exp"):
    """y[i] = log(exp(x[0]) + … + exp(x[i])) along the axis, each sum relative to its own largest term"""

    def element(self) -> Elem:
        return floats(self, "x")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].logcumsumexp(self.axis)
        return y


class ArgSort(Op, name="nn.arg_sort"):
    """Indices (i64) that sort x along `axis`, ascending or descending; the sort is stable, and NaN is above all numbers."""

    x: Value
    axis: int
    descending: bool = False

    def infer(self) -> Tensor:
        plain(self, "x")
        axis_in_range(self, self.axis, self.x.type.rank)
        return Tensor(self.x.shape, "i64")

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        return torch.argsort(xs[0], dim=self.axis, descending=self.descending, stable=True)

    def ties(self) -> Iterable[Tie]:
        return same_but(self.x, self.out, self.axis)
