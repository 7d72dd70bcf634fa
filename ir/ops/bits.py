"""Low-bit networks simulated in floats: quantizers of weights, activations and gradients, with straight-through gradients.

Filters are the rows of a weight: index 0 of w (O, ...).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..op import Op, Value
from ..types import Tensor
from .check import floats
from .elementwise import Unary
from .namespace import Math
from .straight_through import straight_through, straight_through_where, with_gradient

if TYPE_CHECKING:
    import torch


class WeightQuantizer(Op):
    """Base of operators that turn a trained weight w into one of few levels, of the same type. `freeze-bits` folds them into constants."""

    w: Value

    learned = ("w",)

    def infer(self) -> Tensor:
        floats(self, "w")
        if self.w.type.rank < 2:
            raise self.fail(f"w must be (O, ...) with a filter for each O, got shape {list(self.w.shape)}")
        return self.w.type

    def levels(self, w: torch.Tensor) -> torch.Tensor:
        """The quantized weight."""
        raise NotImplementedError(f"{type(self).__name__}.levels")

    def surrogate(self, w: torch.Tensor) -> torch.Tensor:
        """The function whose gradient is used; by default w itself."""
        return w

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        with torch.no_grad():
            value = self.levels(xs[0])
        return straight_through(value, self.surrogate(xs[0]))


class BinarizeWeight(WeightQuantizer, name="bits.binarize_weight"):
    """alpha sign(w), alpha = mean |w| of each filter, sign(0) = 1; the gradient is that of w (BWN, Rastegari et al., 1603.05279)."""

    def levels(self, w: torch.Tensor) -> torch.Tensor:
        alpha = per_filter(w.abs().flatten(1).mean(1), w)
        return alpha.where(w >= 0, -alpha)


class TernarizeWeight(WeightQuantizer, name="bits.ternarize_weight"):
    """alpha sign(w) where |w| > delta, else 0; delta = threshold * mean |w| of each filter, alpha the mean of those |w|; the gradient is that
    of w (TWN, Li et al., 1605.04711)."""

    threshold: float = 0.7

    def levels(self, w: torch.Tensor) -> torch.Tensor:
        size = w.abs().flatten(1)
        large = size > self.threshold * size.mean(1, keepdim=True)
        # a filter that is all zeros has no large weight
        alpha = (size * large).sum(1) / large.sum(1).clamp(min=1)
        return per_filter(alpha, w) * w.sign() * large.reshape(w.shape)


class DorefaWeight(WeightQuantizer, name="bits.dorefa_weight"):
    """2 quantize_k(tanh w / (2 max |tanh w|) + 1/2) - 1, rounding straight through; the maximum is that of the whole weight.

    With one bit mean |w| sign(w) of the whole weight, sign(0) = 1, and the gradient is that of w (DoReFa, Zhou et al., 1606.06160, section 2.3).
    """

    bits: int

    def infer(self) -> Tensor:
        check_bits(self, self.bits)
        return super().infer()

    def levels(self, w: torch.Tensor) -> torch.Tensor:
        if self.bits == 1:
            alpha = w.abs().mean().expand_as(w)
            return alpha.where(w >= 0, -alpha)
        steps = (1 << self.bits) - 1
        return 2 * ((self.surrogate(w) / 2 + 0.5) * steps).round() / steps - 1

    def surrogate(self, w: torch.Tensor) -> torch.Tensor:
        """tanh w / max |tanh w|; the maximum has a gradient too, as in the paper's own code."""
        import torch

        if self.bits == 1:
            return w
        bent = torch.tanh(w)
        # a weight that is all zeros stays zero
        return bent / bent.abs().max().clamp(min=torch.finfo(w.dtype).tiny)


class Sign(Unary, name="bits.sign"):
    """-1 where x < 0, else 1; the gradient is that of clip(x, -1, 1) (XNOR-Net, Rastegari et al., 1603.05279)."""

    def f(self, m: Math, x: Any) -> Any:
        return m.where(x < m.const(x, 0), m.const(x, -1), m.const(x, 1))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        (x,) = xs
        with torch.no_grad():
            # 1 - 2 (x < 0): torch.where of two scalars takes five times as long
            value, inside = (x < 0).to(x.dtype).mul_(-2).add_(1), x.abs() <= 1
        return straight_through_where(inside, value, x)


class QuantizeActivation(Unary, name="bits.quantize_activation"):
    """quantize_k(clip(x, 0, 1)), quantize_k(r) = round((2^k - 1) r) / (2^k - 1); the gradient is that of the clip (DoReFa, 1606.06160)."""

    bits: int

    def infer(self) -> Tensor:
        check_bits(self, self.bits)
        return super().infer()

    def f(self, m: Math, x: Any) -> Any:
        steps = m.const(x, (1 << self.bits) - 1)
        return m.rint(m.min(m.max(x, m.const(x, 0)), m.const(x, 1)) * steps) / steps

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        (x,) = xs
        with torch.no_grad():
            value, inside = super().evaluate(x), (x >= 0) & (x <= 1)
        return straight_through_where(inside, value, x)


class QuantizeGradient(Unary, name="bits.quantize_gradient"):
    """x itself; its gradient dr becomes 2 m [quantize_k(dr / 2m + 1/2 + noise / (2^k - 1)) - 1/2], m = max |dr| of each example, noise uniform
    in -1/2 .. 1/2 and drawn anew each time (DoReFa, 1606.06160, section 2.5)."""

    bits: int

    def infer(self) -> Tensor:
        check_bits(self, self.bits)
        if not self.x.type.rank:
            raise self.fail("x must have examples along its first dimension, got a scalar")
        return super().infer()

    def f(self, m: Math, x: Any) -> Any:
        return x

    def evaluate(self, *xs: Any) -> torch.Tensor:
        return with_gradient(xs[0], self.quantized)

    def quantized(self, dr: torch.Tensor) -> torch.Tensor:
        """The quantized gradient."""
        import torch

        steps = (1 << self.bits) - 1
        double = 2 * dr.abs().flatten(1).amax(1).clamp(min=torch.finfo(dr.dtype).tiny).reshape(-1, *[1] * (dr.dim() - 1))
        share = dr / double + 0.5 + (torch.rand_like(dr) - 0.5) / steps
        return double * ((share * steps).round() / steps - 0.5)


def per_filter(values: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """One value for each filter, shaped to multiply w."""
    return values.reshape(-1, *[1] * (w.dim() - 1))


def check_bits(op: Op, bits: int) -> None:
    if not 1 <= bits <= 8:
        raise op.fail(f"bits must be from 1 to 8, got {bits}")
