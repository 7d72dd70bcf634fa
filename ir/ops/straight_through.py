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


def straight_through_where(inside: torch.Tensor, value: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`value`, bit for bit, whose gradient flows into x where the boolean `inside` holds, and is 0 elsewhere; all of one shape."""
    y: torch.Tensor = _functions()[2].apply(x, value.detach(), inside)
    return y


def with_gradient(x: torch.Tensor, backward: Any) -> torch.Tensor:
    """x itself; in the backward pass `backward(gradient)` replaces its gradient."""
    y: torch.Tensor = _functions()[1].apply(x, backward)
    return y


@cache
def _functions() -> tuple[Any, Any, Any]:
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

    class StraightThroughWhere(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, value: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(inside)
            return value.view_as(value)

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
            # a product, for torch.where takes several times as long on a CPU
            return gradients[0] * ctx.saved_tensors[0], None, None

    return StraightThrough, WithGradient, StraightThroughWhere
