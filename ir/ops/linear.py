"""Matrix products."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..op import Op, Value
from ..ties import Tie, computed, same, same_but
from ..types import Tensor
from .check import broadcast, floats, has_shape, rank
from .tied import broadcast_ties

if TYPE_CHECKING:
    import torch


class Dense(Op):
    """Geometry of a product with a weight matrix: x (..., K), w (N, K), b (N,) -> (..., N)."""

    row_wise = True
    contraction = True

    x: Value
    w: Value
    b: Value | None = None

    learned = ("w", "b")

    def out_shape(self) -> tuple[int, ...]:
        n, k = rank(self, "w", 2, "(N, K)")
        if self.x.type.rank < 1 or self.x.shape[-1] != k:
            raise self.fail(f"x must end in the {k} columns of w, got x {list(self.x.shape)} and w {list(self.w.shape)}")
        has_shape(self, "b", (n,))
        return (*self.x.shape[:-1], n)

    def macs(self) -> int:
        return math.prod(self.out.shape) * self.w.shape[1]


class Linear(Dense, name="nn.linear"):
    """x @ w.T + b"""

    def infer(self) -> Tensor:
        return Tensor(self.out_shape(), floats(self, "x", "w", "b"))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch.nn.functional as F

        x, w, b = xs
        return F.linear(x, w, b)

    def ties(self) -> Iterator[Tie]:
        """Columns of w with the last axis of x, rows with the last of the result."""
        last = self.x.type.rank - 1
        yield from same_but(self.x, self.out, last)
        if computed(self.w):
            yield same(self.w, 1, self.x, last)
            yield same(self.w, 0, self.out, last)
            if self.b is not None:
                yield same(self.b, 0, self.out, last)


class Matmul(Op, name="nn.matmul"):
    """a (..., M, K) @ b (..., K, N) -> (..., M, N); leading dimensions broadcast."""

    row_wise = True
    contraction = True

    a: Value
    b: Value

    learned = ("a", "b")

    def infer(self) -> Tensor:
        elem = floats(self, "a", "b")
        a, b = self.a.shape, self.b.shape
        if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
            raise self.fail(f"operands must be (..., M, K) and (..., K, N), got {list(a)} and {list(b)}")
        return Tensor((*broadcast(self, a[:-2], b[:-2]), a[-2], b[-1]), elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        a, b = xs
        return torch.matmul(a, b)

    def ties(self) -> Iterator[Tie]:
        """Rows of a, columns of b, leading axes; K only where b is a constant matrix, whose rows are removed with it."""
        ra, rb, ro = self.a.type.rank, self.b.type.rank, self.out.type.rank
        yield from broadcast_ties((self.a, self.b), self.out, trailing=2)
        yield same(self.a, ra - 2, self.out, ro - 2)
        yield same(self.b, rb - 1, self.out, ro - 1)
        if computed(self.b) and rb == 2:
            yield same(self.a, ra - 1, self.b, 0)

    def macs(self) -> int:
        return math.prod(self.out.shape) * self.a.shape[-1]
