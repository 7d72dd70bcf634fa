"""Activation functions: elementwise operators of one operand (and prelu of two)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..op import Value
from ..ties import Tie, free, same, same_but
from ..types import Tensor
from .check import floats
from .elementwise import NumericUnary, Unary
from .namespace import Math
from .straight_through import straight_through_where

if TYPE_CHECKING:
    import torch


class Relu(NumericUnary, name="nn.relu"):
    """max(x, 0)"""

    passes_scale = True

    def f(self, m: Math, x: Any) -> Any:
        return m.max(x, m.const(x, 0))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        (x,) = xs
        with torch.no_grad():
            value = super().evaluate(x)
        # the gradient at 0 is 0, as torch's; that of torch.maximum is 1/2
        return straight_through_where(x > 0, value, x) if x.requires_grad and torch.is_grad_enabled() else value


class Clip(NumericUnary, name="nn.clip"):
    """min(max(x, min), max), the bounds rounded to x's type; an infinite bound does not clamp. relu6 = clip 0, 6."""

    passes_scale = True

    min: float = -math.inf
    max: float = math.inf

    def infer(self) -> Tensor:
        if not self.min <= self.max:
            raise self.fail(f"min must not exceed max, got {self.min} and {self.max}")
        if not self.x.type.is_float and any(math.isfinite(b) and b != int(b) for b in (self.min, self.max)):
            raise self.fail(f"bounds must be whole numbers for {self.x.type.elem}, got {self.min} and {self.max}")
        return super().infer()

    def f(self, m: Math, x: Any) -> Any:
        if self.min > -math.inf:
            x = m.max(x, m.const(x, self.min))
        return m.min(x, m.const(x, self.max)) if self.max < math.inf else x


class LeakyRelu(Unary, name="nn.leaky_relu"):
    """x where x > 0, else slope * x"""

    slope: float = 0.01

    def f(self, m: Math, x: Any) -> Any:
        return m.where(x > m.const(x, 0), x, m.const(x, self.slope) * x)


class Prelu(Unary, name="nn.prelu"):
    """x where x > 0, else w * x; x (N, C, ...), w (C,) per channel or (1,)."""

    w: Value

    learned = ("w",)

    def infer(self) -> Tensor:
        floats(self, "x", "w")
        channels = self.x.shape[1] if self.x.type.rank > 1 else 1
        if self.w.shape not in ((channels,), (1,)):
            raise self.fail(f"w must have shape [{channels}] or [1] for x of shape {list(self.x.shape)}, got {list(self.w.shape)}")
        return self.x.type

    def f(self, m: Math, x: Any, w: Any) -> Any:
        return m.where(x > m.const(x, 0), x, w * x)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        x, w = xs
        return super().evaluate(x, w.reshape(-1, *[1] * (x.dim() - 2)) if x.dim() > 1 else w)

    def ties(self) -> Iterable[Tie]:
        per_channel = self.x.type.rank > 1 and self.w.shape[0] == self.x.shape[1]
        return [*same_but(self.x, self.out), same(self.w, 0, self.x, 1) if per_channel else free(self.w, 0)]


class Sigmoid(Unary, name="nn.sigmoid"):
    """1 / (1 + exp(-x))"""

    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return m.sigmoid(x)


class HardSigmoid(Unary, name="nn.hard_sigmoid"):
    """clip(x + 3, 0, 6) / 6"""

    def f(self, m: Math, x: Any) -> Any:
        return m.min(m.max(x + m.const(x, 3), m.const(x, 0)), m.const(x, 6)) * m.const(x, 1 / 6)


class HardSwish(Unary, name="nn.hard_swish"):
    """x * clip(x + 3, 0, 6) / 6 (MobileNetV3, 1905.02244)"""

    def f(self, m: Math, x: Any) -> Any:
        return x * m.min(m.max(x + m.const(x, 3), m.const(x, 0)), m.const(x, 6)) * m.const(x, 1 / 6)


class Silu(Unary, name="nn.silu"):
    """x * sigmoid(x)"""

    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        return x * m.sigmoid(x)


class Gelu(Unary, name="nn.gelu"):
    """x * Phi(x) (1606.08415): by erf ("none"), or x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) ("tanh")."""

    transcendental = True

    approximate: str = "none"

    def infer(self) -> Tensor:
        if self.approximate not in ("none", "tanh"):
            raise self.fail(f"approximate must be 'none' or 'tanh', got {self.approximate!r}")
        return super().infer()

    def f(self, m: Math, x: Any) -> Any:
        half, one = m.const(x, 0.5), m.const(x, 1)
        if self.approximate == "none":
            return half * x * (one + m.erf(x * m.const(x, math.sqrt(0.5))))
        inner = m.const(x, math.sqrt(2 / math.pi)) * (x + m.const(x, 0.044715) * x * x * x)
        return half * x * (one + m.tanh(inner))


class Elu(Unary, name="nn.elu"):
    """x where x > 0, else alpha * (exp(x) - 1)"""

    transcendental = True

    alpha: float = 1.0

    def f(self, m: Math, x: Any) -> Any:
        zero = m.const(x, 0)
        # expm1 sees no positive x, whose overflow would turn the gradient of the branch not taken into 0 * inf
        return m.where(x > zero, x, m.const(x, self.alpha) * m.expm1(m.min(x, zero)))


class Softplus(Unary, name="nn.softplus"):
    """log(1 + exp(x)), and x itself above 20 (torch's threshold)."""

    transcendental = True

    def f(self, m: Math, x: Any) -> Any:
        limit = m.const(x, 20)
        return m.where(x > limit, x, m.log1p(m.exp(m.min(x, limit))))
