"""Operators that legalize makes of moves of elements, plain or on blocked feature maps, and PReLU in a form that broadcasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...ir.op import Op, Value
from ...ir.ops import Elementwise, Math
from ...ir.ops.check import broadcast_type
from ...ir.types import Tensor
from .ops import Blocked, logical_type, unpack_torch

if TYPE_CHECKING:
    import torch


class DepthToSpace(Op, name="nn.depth_to_space"):
    """y[n, c, i, j] = x[n, (p * fw + q) * stride + c, (i + top) / fh, (j + left) / fw],   p = (i + top) mod fh, q = (j + left) mod fw.

    Channels are phase by phase, `stride` = C / (fh * fw) apart, of which the first `channels` are read; `crop` is (top, left).
    """

    feature_map = True

    x: Value
    factor: tuple[int, int]
    channels: int
    crop: tuple[int, int]
    size: tuple[int, int]

    def infer(self) -> Tensor:
        n, c, h, w = self.x.shape
        (fh, fw), (top, left), (oh, ow) = self.factor, self.crop, self.size
        if c % (fh * fw) or self.channels > c // (fh * fw):
            raise self.fail(f"{c} channels must hold {fh * fw} phases of at least {self.channels}")
        if min(top, left) < 0 or top + oh > h * fh or left + ow > w * fw:
            raise self.fail(f"{oh}x{ow} pixels from {self.crop} must lie in {h * fh}x{w * fw}")
        return self.x.type.with_shape((n, self.channels, oh, ow))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        (fh, fw), (top, left), (oh, ow) = self.factor, self.crop, self.size
        n, c, h, w = xs[0].shape
        phases = xs[0].reshape(n, fh, fw, c // (fh * fw), h, w)[:, :, :, : self.channels]
        y: torch.Tensor = phases.permute(0, 3, 4, 1, 5, 2).reshape(n, self.channels, h * fh, w * fw)
        return y[:, :, top : top + oh, left : left + ow].contiguous()


class TileDepthToSpace(Blocked, DepthToSpace, name="tile.depth_to_space"):
    plain = DepthToSpace


class ToNhwc(Op, name="tile.to_nhwc"):
    """(N, C, H, W), blocked or not -> plain (N, H, W, C), as matrix products and layer norms read it."""

    moves = True

    x: Value

    def infer(self) -> Tensor:
        n, c, h, w = logical_type(self.x.type).shape
        return Tensor((n, h, w, c), self.x.type.elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        layout = self.x.type.layout
        y: torch.Tensor = (xs[0] if layout is None else unpack_torch(xs[0], layout.channels)).permute(0, 2, 3, 1)
        return y


class FromNhwc(Op, name="nn.from_nhwc"):
    """(N, H, W, C) -> (N, C, H, W), a feature map."""

    feature_map = True

    x: Value

    def infer(self) -> Tensor:
        if self.x.type.rank != 4:
            raise self.fail(f"x must be (N, H, W, C), got {self.x.type}")
        n, h, w, c = self.x.shape
        return self.x.type.with_shape((n, c, h, w))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].permute(0, 3, 1, 2)
        return y


class TileFromNhwc(Blocked, FromNhwc, name="tile.from_nhwc"):
    plain = FromNhwc


class PadCrop(Op, name="nn.pad_crop"):
    """y[n, c, i, j] = x[n, c, rows[i], columns[j]], or `value` where an index is -1: a feature map cropped, subsampled or padded in any mode."""

    feature_map = True
    moves = True

    x: Value
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    value: float = 0.0

    def infer(self) -> Tensor:
        n, c, h, w = self.x.shape
        for name, index, size in (("rows", self.rows, h), ("columns", self.columns, w)):
            if not index or min(index) < -1 or max(index) >= size:
                raise self.fail(f"{name} must lie in -1 to {size - 1}")
        return self.x.type.with_shape((n, c, len(self.rows), len(self.columns)))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        y: torch.Tensor = xs[0]
        for axis, index in ((2, self.rows), (3, self.columns)):
            where = torch.tensor(index, device=y.device)
            y = y.index_select(axis, where.clamp(min=0))
            outside = (where < 0).reshape(-1, *[1] * (3 - axis))
            y = torch.where(outside, torch.full((), self.value, dtype=y.dtype), y)
        return y


class TilePadCrop(Blocked, PadCrop, name="tile.pad_crop"):
    plain = PadCrop


class AsStrided(Op, name="tile.as_strided"):
    """y[i, j, …] = x.flat[offset + i * strides[0] + j * strides[1] + …]: any chain of slices, transposes and expands, as one copy."""

    moves = True

    x: Value
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def infer(self) -> Tensor:
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if min((self.offset, *self.strides)) < 0 or last >= self.x.type.size:
            raise self.fail(f"elements {self.offset} to {last} must lie in x, which has {self.x.type.size}")
        return Tensor(self.shape, self.x.type.elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].contiguous().as_strided(self.shape, self.strides, self.offset)
        return y


class BroadcastPrelu(Elementwise, name="tile.prelu"):
    """x where x > 0, else w * x; w broadcasts to x."""

    x: Value
    w: Value

    def infer(self) -> Tensor:
        return broadcast_type(self, [self.x.type, self.w.type], self.x.type.elem)

    def f(self, m: Math, x: Any, w: Any) -> Any:
        return m.where(x > m.const(x, 0), x, w * x)
