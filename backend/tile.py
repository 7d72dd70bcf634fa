"""The dialect the backend builds: blocked layouts, operators on them, and fused regions."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..ir.graph import Graph
from ..ir.op import Op, Value
from ..ir.ops import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, Conv2d, Elementwise, IndexSelect, Math, MaxPool2d, Upsample
from ..ir.ops.check import broadcast_type
from ..ir.types import Layout, Tensor

if TYPE_CHECKING:
    import torch


def block(layout: Layout | None) -> int:
    """Channels per block of an `NCHW<n>c` layout; 0 for a plain tensor."""
    match = re.fullmatch(r"NCHW(\d+)c", layout.name) if layout else None
    return int(match[1]) if match else 0


def blocked_type(type: Tensor, lanes: int) -> Tensor:
    """(N, C, H, W) -> (N, ceil(C / lanes), H, W, lanes)."""
    n, c, h, w = type.shape
    return replace(type, shape=(n, -(-c // lanes), h, w, lanes), layout=Layout(f"NCHW{lanes}c", c))


def logical_type(type: Tensor) -> Tensor:
    """The plain type a blocked one stands for."""
    if type.layout is None:
        return type
    n, _, h, w, _ = type.shape
    return replace(type, shape=(n, type.layout.channels, h, w), layout=None)


def pack_array(x: np.ndarray, lanes: int) -> np.ndarray:
    """(N, C, H, W) -> blocked, lanes past C are zero."""
    n, c, h, w = x.shape
    blocks = -(-c // lanes)
    padded = np.zeros((n, blocks * lanes, h, w), x.dtype)
    padded[:, :c] = x
    return np.ascontiguousarray(padded.reshape(n, blocks, lanes, h, w).transpose(0, 1, 3, 4, 2))


def pack_torch(x: torch.Tensor, lanes: int) -> torch.Tensor:
    n, c, h, w = x.shape
    blocks = -(-c // lanes)
    padded = x.new_zeros((n, blocks * lanes, h, w))
    padded[:, :c] = x
    return padded.reshape(n, blocks, lanes, h, w).permute(0, 1, 3, 4, 2).contiguous()


def unpack_torch(x: torch.Tensor, channels: int) -> torch.Tensor:
    n, blocks, h, w, lanes = x.shape
    return x.permute(0, 1, 4, 2, 3).reshape(n, blocks * lanes, h, w)[:, :channels].contiguous()


class Pack(Op, name="tile.pack"):
    """Plain (N, C, H, W) -> blocks of `lanes` channels."""

    x: Value
    lanes: int

    def infer(self) -> Tensor:
        if self.x.type.rank != 4 or self.x.type.layout is not None:
            raise self.fail(f"expected a plain 4-d tensor, got {self.x.type}")
        return blocked_type(self.x.type, self.lanes)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        return pack_torch(xs[0], self.lanes)


class Unpack(Op, name="tile.unpack"):
    """Blocked -> plain (N, C, H, W)."""

    x: Value

    def infer(self) -> Tensor:
        if self.x.type.layout is None:
            raise self.fail(f"expected a blocked tensor, got {self.x.type}")
        return logical_type(self.x.type)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        return unpack_torch(xs[0], self.x.type.layout.channels)  # type: ignore[union-attr]


class Blocked(Op):
    """Mixin: the same operator on blocked tensors. `lanes` is the block of the result, 0 for a plain one."""

    plain: ClassVar[type[Op]] = Op
    lanes: int = 0

    def logical(self) -> Op:
        """The operator on plain tensors that this one equals."""
        fields: dict[str, Any] = {}
        for f in self.plain.fields:
            v = getattr(self, f.name)
            if f.kind == "list":
                v = [Value(logical_type(o.type)) for o in v]
            elif f.kind != "attr" and v is not None:
                v = Value(logical_type(v.type))
            fields[f.name] = v
        return self.plain(**fields, loc=self.loc if "loc" in self.__dict__ else None)

    def infer(self) -> Tensor:
        result = self.logical().out.type
        return blocked_type(result, self.lanes) if self.lanes else result

    def evaluate(self, *xs: Any) -> torch.Tensor:
        def plain(x: Any, v: Any) -> Any:
            if isinstance(x, list):
                return [plain(a, b) for a, b in zip(x, v)]
            return x if v is None or v.type.layout is None else unpack_torch(x, v.type.layout.channels)

        result = self.logical().evaluate(*(plain(x, getattr(self, f.name)) for x, f in zip(xs, self.operand_fields)))
        return pack_torch(result, self.lanes) if self.lanes else result

    def macs(self) -> int:
        return self.logical().macs()


class TileConv2d(Blocked, Conv2d, name="tile.conv2d"):
    plain = Conv2d


class TileMaxPool2d(Blocked, MaxPool2d, name="tile.max_pool2d"):
    plain = MaxPool2d


class TileAvgPool2d(Blocked, AvgPool2d, name="tile.avg_pool2d"):
    plain = AvgPool2d


class TileAdaptiveAvgPool2d(Blocked, AdaptiveAvgPool2d, name="tile.adaptive_avg_pool2d"):
    plain = AdaptiveAvgPool2d


class TileAdaptiveMaxPool2d(Blocked, AdaptiveMaxPool2d, name="tile.adaptive_max_pool2d"):
    plain = AdaptiveMaxPool2d


class TileUpsample(Blocked, Upsample, name="tile.upsample"):
    plain = Upsample


class ChannelGather(Op, name="nn.channel_gather"):
    """result[:, i] = concat(xs, 1)[:, channels[i]]: any chain of concat, slice, shuffle and index_select over channels."""

    xs: list[Value]
    channels: tuple[int, ...]

    def infer(self) -> Tensor:
        total = sum(x.shape[1] for x in self.xs)
        if not self.channels or max(self.channels) >= total or min(self.channels) < 0:
            raise self.fail(f"channels must lie in 0..{total - 1}")
        n, _, *rest = self.xs[0].shape
        for x in self.xs:
            if (x.shape[0], *x.shape[2:]) != (n, *rest) or x.type.elem != self.xs[0].type.elem:
                raise self.fail(f"operands must agree except in channels: {self.xs[0].type} and {x.type}")
        return self.xs[0].type.with_shape((n, len(self.channels), *rest))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        import torch

        return torch.cat(xs[0], 1)[:, list(self.channels)]


class TileChannelGather(Blocked, ChannelGather, name="tile.channel_gather"):
    plain = ChannelGather


class DepthToSpace(Op, name="nn.depth_to_space"):
    """y[n, c, i, j] = x[n, (p * fw + q) * stride + c, (i + top) / fh, (j + left) / fw],   p = (i + top) mod fh, q = (j + left) mod fw.

    Channels are phase by phase, `stride` = C / (fh * fw) apart, of which the first `channels` are read; `crop` is (top, left).
    """

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


class ToRows(Op, name="tile.to_rows"):
    """(N, C, H, W), blocked or not -> plain (N, H, W, C): rows of channels, as matrix products and layer norms read them."""

    x: Value

    def infer(self) -> Tensor:
        n, c, h, w = logical_type(self.x.type).shape
        return Tensor((n, h, w, c), self.x.type.elem)

    def evaluate(self, *xs: Any) -> torch.Tensor:
        layout = self.x.type.layout
        y: torch.Tensor = (xs[0] if layout is None else unpack_torch(xs[0], layout.channels)).permute(0, 2, 3, 1)
        return y


class FromRows(Op, name="nn.from_rows"):
    """(N, H, W, C) -> (N, C, H, W): rows of channels become a map."""

    x: Value

    def infer(self) -> Tensor:
        if self.x.type.rank != 4:
            raise self.fail(f"x must be (N, H, W, C), got {self.x.type}")
        n, h, w, c = self.x.shape
        return self.x.type.with_shape((n, c, h, w))

    def evaluate(self, *xs: Any) -> torch.Tensor:
        y: torch.Tensor = xs[0].permute(0, 3, 1, 2)
        return y


class TileFromRows(Blocked, FromRows, name="tile.from_rows"):
    plain = FromRows


class Pixels(Op, name="nn.pixels"):
    """y[n, c, i, j] = x[n, c, rows[i], columns[j]], or `value` where an index is -1: a map cropped, subsampled or padded in any mode."""

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

        y = xs[0]
        for axis, index in ((2, self.rows), (3, self.columns)):
            where = torch.tensor(index, device=y.device)
            y = y.index_select(axis, where.clamp(min=0))
            outside = (where < 0).reshape(-1, *[1] * (3 - axis))
            y = torch.where(outside, torch.full((), self.value, dtype=y.dtype), y)
        return y


class TilePixels(Blocked, Pixels, name="tile.pixels"):
    plain = Pixels


class Strided(Op, name="tile.strided"):
    """y[i, j, …] = x.flat[offset + i * strides[0] + j * strides[1] + …]: any chain of slices, transposes and expands, as one copy."""

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


class Fused(Op, name="tile.fused"):
    """One kernel: an anchor and its elementwise tail, in sequence. Operands map one to one to the region's arguments.

    The later stages write their choice here: `template` and `params` (schedule), `offset` of the result and `scratch` in the arena, in
    bytes (plan; -1 where there is none: an output of the graph lies in the caller's memory).
    """

    args: list[Value]
    body: Graph
    template: str = ""
    params: dict[str, Any] = {}  # noqa: RUF012 - never written to
    offset: int = -1
    scratch: int = -1

    def infer_all(self) -> list[Tensor]:
        for a, b in zip(self.args, self.body.inputs, strict=True):
            if a.type != b.type:
                raise self.fail(f"argument %{b.name} of the region is {b.type}, the operand is {a.type}")
        return [v.type for v in self.body.outputs]

    def evaluate(self, *xs: Any) -> Any:
        from ..ir.evaluate import evaluate

        results = evaluate(self.body, xs[0])
        return results[0] if len(results) == 1 else tuple(results)

    def macs(self) -> int:
        return self.body.macs()


class Copy(Op, name="tile.copy"):
    """The same value in memory of its own (an output that is also an input, a constant or another output)."""

    x: Value

    def infer(self) -> Tensor:
        return self.x.type

    def evaluate(self, *xs: Any) -> torch.Tensor:
        x: torch.Tensor = xs[0]
        return x.clone()


__all__ = [
    "Blocked",
    "BroadcastPrelu",
    "ChannelGather",
    "Copy",
    "DepthToSpace",
    "FromRows",
    "Fused",
    "IndexSelect",
    "Pack",
    "Pixels",
    "Strided",
    "TileAdaptiveAvgPool2d",
    "TileAdaptiveMaxPool2d",
    "TileAvgPool2d",
    "TileChannelGather",
    "TileConv2d",
    "TileDepthToSpace",
    "TileFromRows",
    "TileMaxPool2d",
    "TilePixels",
    "TileUpsample",
    "ToRows",
    "Unpack",
    "block",
    "blocked_type",
    "logical_type",
    "pack_array",
]
