"""Straight-through estimators: a value that has no useful gradient, with the gradient of another function (Bengio et al., 1308.3432)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def straight_through(value: torch.Tensor, surrogate: torch.Tensor) -> torch.Tensor:
    """`value`, bit for bit, whose gradient flows into `surrogate` (of the same shape) unchanged."""
    y: torch.Tensor = _functions()[0].apply(surrogate, value.detach())
    return y


def with_gradient(x: torch.Tensor, backward: Any) -> torch.Tensor:
    """x itself; in the backward pass `backward(gradient)` replaces its gradient."""
    y: torch.Tensor = _functions()[1].apply(x, backward)
    return y


@cache
def _functions() -> tuple[Any, Any]:
    import torch

    class StraightThrough(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, surrogate: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            return value.view_as(value)

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
            return gradients[0], None

    class WithGradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, backward: Any) -> torch.Tensor:
            ctx.change = backward
            return x.view_as(x)

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
            return ctx.change(gradients[0]), None

    return StraightThrough, WithGradient
