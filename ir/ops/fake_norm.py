"""A convolution and the batch norm after it as one layer whose folded weights are fake-quantized, for training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..op import Op, Value
from ..types import Tensor
from .check import floats, has_shape
from .conv import Conv, Conv2d
from .fake import Fake
from .norm import BatchNorm

if TYPE_CHECKING:
    import torch


class FakeConvNorm2d(Conv, name="quant.fake_conv_norm2d"):
    """conv2d(x, fake(w k), (b - mean) k + beta), k = gamma / sqrt(var + eps): the layer that fold-bn makes, its weights fake-quantized.

    Operands and geometry of nn.conv2d and nn.batch_norm. While training it is batch_norm(conv2d(x, fake(w k)) / k + b) with the statistics of
    the batch, and k of the running ones, which do not jump from batch to batch (Jacob et al., 1712.05877, section 3.2; Krishnamoorthi,
    1806.08342, section 3.2.2). Weights are i8 from -127 to 127, with a scale per output channel, or one for all where `per_channel` is false.
    """

    windowed = True
    feature_map = True
    contraction = True

    gamma: Value
    beta: Value
    mean: Value
    var: Value
    eps: float = 1e-5
    per_channel: bool = True

    learned = ("w", "b", "gamma", "beta")

    def infer(self) -> Tensor:
        floats(self, "x", "w", "b", "gamma", "beta", "mean", "var")
        shape = self.out_shape()
        for name in ("gamma", "beta", "mean", "var"):
            has_shape(self, name, (shape[1],))
        return Tensor(shape, self.x.type.elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        x, w, b, gamma, beta, mean, var = xs
        k = self.factor(gamma, var)
        return self._conv(x, self._fake(w, k), self.bias(k, beta, mean, b))

    def evaluate_training(self, *xs: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Normalized by the mean and the variance of the batch, which are returned for the running statistics."""
        x, w, b, gamma, beta, mean, var = xs
        k = self.factor(gamma, var)
        y = self._conv(x, self._fake(w, k, training=True), None) / k.reshape(-1, 1, 1)
        norm = BatchNorm(self.out, self.gamma, self.beta, self.mean, self.var, self.eps, loc=self.loc)
        return norm.evaluate_training(y if b is None else y + b.reshape(-1, 1, 1), gamma, beta, mean, var)

    def factor(self, gamma: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
        """k, (O,); never 0, so that a channel whose gamma is 0 still has a gradient."""
        import torch

        k = gamma * torch.rsqrt(var + self.eps)
        least = torch.finfo(k.dtype).tiny
        return torch.where(k.abs() < least, torch.full_like(k, least), k)

    def bias(self, k: torch.Tensor, beta: torch.Tensor, mean: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor:
        """The bias of the folded layer, (O,)."""
        return beta - mean * k if b is None else (b - mean) * k + beta

    def folded(self, w: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """The weights of the folded layer, before they are rounded."""
        return w * k.reshape(-1, 1, 1, 1)

    def fake(self, w: Value | Op) -> Fake:
        """The operator that rounds these weights."""
        return Fake(w, None, None, "i8", 0 if self.per_channel else None, True, loc=self.loc)

    def _fake(self, w: torch.Tensor, k: torch.Tensor, training: bool = False) -> torch.Tensor:
        fake = self.fake(self.w)
        arguments = (self.folded(w, k), None, None)
        result: torch.Tensor = fake.evaluate_training(*arguments)[0] if training else fake.evaluate(*arguments)
        return result

    def _conv(self, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor:
        geometry = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        return Conv2d(self.x, self.w, **geometry).evaluate(x, w, b)
