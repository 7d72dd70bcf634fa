"""Normalizations, all in inference form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..op import Op, Value
from ..ties import Kept, Tie, same, same_but
from ..types import Tensor
from .check import floats, has_shape

if TYPE_CHECKING:
    import torch


class BatchNorm(Op, name="nn.batch_norm"):
    """(x - mean) / sqrt(var + eps) * gamma + beta with stored statistics; x (N, C, ...), the others (C,) (1502.03167)."""

    x: Value
    gamma: Value
    beta: Value
    mean: Value
    var: Value
    eps: float = 1e-5

    learned = ("gamma", "beta")

    def infer(self) -> Tensor:
        floats(self, "x", "gamma", "beta", "mean", "var")
        if self.x.type.rank < 2:
            raise self.fail(f"x must be (N, C, ...), got shape {list(self.x.shape)}")
        for name in ("gamma", "beta", "mean", "var"):
            has_shape(self, name, (self.x.shape[1],))
        return self.x.type

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        x, gamma, beta, mean, var = xs
        # torch's own kernel has no gradient for the statistics
        k = gamma * torch.rsqrt(var + self.eps)
        shape = (-1, *[1] * (x.dim() - 2))
        return torch.addcmul((beta - mean * k).reshape(shape), x, k.reshape(shape))

    def evaluate_training(self, *xs: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Normalized by the statistics of the batch; measured are its mean and unbiased variance (algorithm 2 of the paper)."""
        import torch
        import torch.nn.functional as F

        x, gamma, beta, mean, var = xs
        if x.numel() // x.shape[1] < 2:
            raise self.fail(f"a batch of shape {list(x.shape)} holds one value per channel, which has no variance: train with more images at a time")
        measured = {"mean": torch.zeros_like(mean), "var": torch.zeros_like(var)}
        # with a momentum of 1 torch's running statistics become those of the batch
        y = F.batch_norm(x, measured["mean"], measured["var"], gamma, beta, True, 1.0, self.eps)
        if x.dim() == 4 and y.requires_grad and x.is_contiguous(memory_format=torch.channels_last):
            # a gradient in another layout than x takes torch several times as long
            y.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))  # type: ignore[no-untyped-call]
        return y, measured

    def ties(self) -> Iterator[Tie]:
        yield from same_but(self.x, self.out)
        for v in (self.gamma, self.beta, self.mean, self.var):
            yield same(v, 0, self.x, 1)


class LayerNorm(Op, name="nn.layer_norm"):
    """Mean 0 and variance 1 over the last `axes` axes, then gamma and beta of that shape (1607.06450)."""

    row_wise = True

    x: Value
    gamma: Value | None = None
    beta: Value | None = None
    axes: int = 1
    eps: float = 1e-5

    learned = ("gamma", "beta")

    def infer(self) -> Tensor:
        floats(self, "x", "gamma", "beta")
        if not 1 <= self.axes <= self.x.type.rank:
            raise self.fail(f"axes must be from 1 to {self.x.type.rank}, got {self.axes}")
        for name in ("gamma", "beta"):
            has_shape(self, name, self.x.shape[-self.axes :])
        return self.x.type

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch.nn.functional as F

        x, gamma, beta = xs
        return F.layer_norm(x, x.shape[-self.axes :], gamma, beta, self.eps)

    def ties(self) -> Iterator[Tie]:
        """The normalized axes are barred: their mean and variance depend on every position."""
        return same_but(self.x, self.out, *range(self.x.type.rank - self.axes, self.x.type.rank))


class GroupNorm(Op, name="nn.group_norm"):
    """Mean 0 and variance 1 over each group of channels of each example; x (N, C, ...), gamma and beta (C,) (1803.08494).

    Instance norm is `groups = C`.
    """

    row_wise = True

    x: Value
    gamma: Value | None = None
    beta: Value | None = None
    groups: int = 1
    eps: float = 1e-5

    learned = ("gamma", "beta")

    def infer(self) -> Tensor:
        floats(self, "x", "gamma", "beta")
        if self.x.type.rank < 2 or self.groups < 1 or self.x.shape[1] % self.groups:
            raise self.fail(f"x must be (N, C, ...) with C a multiple of the {self.groups} groups, got shape {list(self.x.shape)}")
        for name in ("gamma", "beta"):
            has_shape(self, name, (self.x.shape[1],))
        return self.x.type

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        x, gamma, beta = xs
        return torch.group_norm(x, self.groups, gamma, beta, self.eps)

    def ties(self) -> Iterator[Tie]:
        """The channels of a group are removed together, since its mean and variance depend on all of them; pixels are barred."""
        yield same(self.x, 0, self.out, 0)
        yield same(self.x, 1, self.out, 1)
        for v in (self.gamma, self.beta):
            if v is not None:
                yield same(v, 0, self.x, 1)
        every = np.arange(self.x.shape[1])
        size = len(every) // self.groups
        yield Tie(self.x, 1, every, self.x, 1, every // size * size)

    def narrowed(self, kept: Kept, operands: dict[str, Any]) -> Op:
        return self.rebuilt(**operands, groups=int(kept(self.x, 1).sum()) * self.groups // self.x.shape[1])
