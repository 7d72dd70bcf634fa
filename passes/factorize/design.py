"""What the factorizations share: the factors of one convolution, a design that makes them, and which convolutions may be factorized."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.graph import unattached
from ...ir.op import Const, Loc, Op
from ...ir.ops import Conv2d
from .response import F64, Response

if TYPE_CHECKING:
    from ..reconstruct import Replay


class Factors(ABC):
    """The arrays of the small convolutions that replace one, whatever the design."""

    @abstractmethod
    def kernel(self) -> F64:
        """The one kernel (N, C, kh, kw) that they compose to."""

    @abstractmethod
    def build(self, conv: Conv2d, bias: F64 | None) -> Op:
        """Unattached ops that replace `conv`, with a bias (N,)."""


class Design(ABC):
    """A factorization of a given size."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The size as the option writes it: `rank=2`."""

    @abstractmethod
    def start(self, w: F64) -> Factors:
        """Factors of the weights (N, C, kh, kw) alone."""

    @abstractmethod
    def fit(self, w: F64, response: Response) -> Factors:
        """Factors refitted to the convolution's wanted responses to its patches."""

    def refuses(self, conv: Conv2d) -> str | None:
        """Why the design does not fit a convolution, if it does not."""
        return None

    def opened(self, factors: Factors, replay: Replay, conv: Conv2d) -> Factors:
        """The factors with biases before their ReLUs, for designs that have ReLUs."""
        return factors


@dataclass(frozen=True)
class Cost:
    """Multiply-accumulates at the graph's batch, and parameters."""

    macs: int
    parameters: int


def cost(last: Op) -> Cost:
    """The cost of unattached ops, up to `last`."""
    ops = unattached(last)
    floats = [op.array.size for op in ops if isinstance(op, Const) and op.array.dtype.kind != "i"]
    return Cost(sum(op.macs() for op in ops), sum(floats))


def cost_of(conv: Conv2d) -> Cost:
    """The cost of a convolution of a graph."""
    return Cost(conv.macs(), conv.w.type.size + (0 if conv.b is None else conv.b.type.size))


def unfit(conv: Conv2d) -> str | None:
    """Why a convolution cannot be factorized, if it cannot."""
    if conv.groups > 1:
        return "depthwise" if conv.depthwise else f"grouped ({conv.groups} groups)"
    if conv.kernel == (1, 1):
        return "its kernel is 1x1"
    if not isinstance(conv.w.op, Const) or (conv.b is not None and not isinstance(conv.b.op, Const)):
        return "its weights are not constant"
    if not np.isfinite(weights_of(conv)).all():
        return "its weights are not finite"
    return None


def weights_of(conv: Conv2d) -> F64:
    """The constant weights (N, C, kh, kw) in float64."""
    assert isinstance(conv.w.op, Const)
    return conv.w.op.array.astype(np.float64)


def bias_of(conv: Conv2d) -> F64 | None:
    """The constant bias (N,) in float64."""
    return conv.b.op.array.astype(np.float64) if conv.b is not None and isinstance(conv.b.op, Const) else None


def small_conv(conv: Conv2d, x: Any, part: str, w: F64, b: F64 | None = None, **geometry: Any) -> Conv2d:
    """A convolution that is a part of `conv`: arrays in its dtype, the part's name appended to its module path."""
    assert isinstance(conv.w.op, Const)
    loc, dtype = part_of(conv, part), conv.w.op.array.dtype
    weight = Const(w.astype(dtype), loc=loc)
    return Conv2d(x, weight, None if b is None else Const(b.astype(dtype), loc=loc), **geometry, loc=loc)


def part_of(conv: Conv2d, part: str) -> Loc:
    """The location of a part of a convolution."""
    return Loc(f"{conv.loc.path}.{part}" if conv.loc.path else part, conv.loc.file, conv.loc.line)


def share_of(share: float, full: int) -> int:
    """A share of a full rank, at least 1."""
    return max(1, min(full, round(share * full)))


def lowest(replay: Replay, op: Op) -> F64:
    """The smallest value of each channel of a convolution's result over all calibration images, in the current network."""
    found = [replay.current(op.out, i).amin((0, 2, 3)).double().numpy() for i in range(replay.chunks)]
    result: F64 = np.min(found, axis=0)
    return result


def beyond_middle(conv: Conv2d) -> Sequence[int]:
    """How far each border's padding goes beyond the middle tap; negative where a 1x1 kernel at the middle tap would have to skip pixels."""
    top, bottom, left, right = conv.padding
    (kh, kw), (dh, dw) = conv.kernel, conv.dilation
    up, before = kh // 2 * dh, kw // 2 * dw
    return (top - up, bottom - ((kh - 1) * dh - up), left - before, right - ((kw - 1) * dw - before))


def taps_of(conv: Conv2d) -> int:
    """Taps of the kernel."""
    return math.prod(conv.kernel)
