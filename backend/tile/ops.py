"""The main part of the `tile` dialect: blocked layouts, operators on them, and fused operators."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Op, Value
from ...ir.ops import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, Conv2d, IndexSelect, MaxPool2d, Upsample
from ...ir.types import Layout, Tensor
from .half import NBYTES, rounded

if TYPE_CHECKING:
    import torch


#: Element types of integer feature maps.
INTEGERS = ("u8", "i8", "i32")
#: Channels in a block of an integer feature map, on every target: 16 bytes of stored integers fill a 128-bit vector register.
INTEGER_BLOCK = 16


def block(layout: Layout | None) -> int:
    """Channels per block of an `NCHW<n>c` layout; 0 for a plain tensor."""
    match = re.fullmatch(r"NCHW(\d+)c", layout.name) if layout else None
    return int(match[1]) if match else 0


def blocked_type(type: Tensor, lanes: int) -> Tensor:
    """(N, C, H, W) -> (N, ceil(C / lanes), H, W, lanes)."""
    n, c, h, w = type.shape
    return replace(type, shape=(n, -(-c // lanes), h, w, lanes), layout=Layout(f"NCHW{lanes}c", c))


def logical_type(type: Tensor) -> Tensor:
    """The plain type of a blocked type."""
    if type.layout is None:
        return type
    n, _, h, w, _ = type.shape
    return replace(type, shape=(n, type.layout.channels, h, w), layout=None)


def pack_array(x: np.ndarray, lanes: int) -> np.ndarray:
    """(N, C, H, W) -> blocked; lanes past C are zero."""
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

    feature_map = True

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


class Fused(Op, name="tile.fused"):
    """One kernel: an anchor and its elementwise epilogue, in sequence. Operands map one to one to the arguments of the body.

    The stages of lowering write these fields:

    template, params, chosen: the kernel template, its parameters, and how they were chosen (select-kernels).
    alias: it has no kernel, since its result shares the memory of its operands (alias-concats).
    lane_offset: the result shares channel blocks with other values, so the kernel stores only its own channels, from this lane of the first
    block on; -1 where it shares none (alias-concats, plan-memory).
    partitions: into how many partitions of rows the result is divided, one for each thread (partition-rows).
    offset, scratch: of the result and of the scratch in the arena, in bytes; -1 where there is none: an output of the graph is in the caller's
    memory (plan-memory).
    half: numbers of the f32 operands that are `half_elem` in memory, f16 or bf16, and -1 where the result is (store-half). Their kernel reads and
    writes them as f32. Where `half_elem` is tf32 they stay f32 in memory, and the kernel may round them before it multiplies.
    stride: bytes from one partition to the next, or with a single one from one image to the next; 0 where these are contiguous (plan-memory).
    """

    args: list[Value]
    body: Graph
    template: str = ""
    params: dict[str, Any] = {}  # noqa: RUF012 - never written to
    chosen: str = ""
    offset: int = -1
    scratch: int = -1
    alias: bool = False
    partitions: int = 1
    stride: int = 0
    lane_offset: int = -1
    half: tuple[int, ...] = ()
    half_elem: str = "f16"

    @property
    def nbytes(self) -> int:
        """Bytes of the result in memory."""
        return self.out.type.size * self.itemsize

    @property
    def itemsize(self) -> int:
        """Bytes of an element of the result in memory."""
        return NBYTES[self.half_elem] if -1 in self.half else self.out.type.dtype.itemsize

    @property
    def spans(self) -> tuple[int, int]:
        """The number of pieces of the result, which are `stride` apart, and the bytes of one."""
        count = self.partitions if self.partitions > 1 or not self.stride else self.out.shape[0]
        nbytes = self.nbytes // count
        return count, nbytes if self.lane_offset <= 0 else nbytes + nbytes // self.out.shape[1]

    def infer_all(self) -> list[Tensor]:
        for a, b in zip(self.args, self.body.inputs, strict=True):
            if a.type != b.type:
                raise self.fail(f"argument %{b.name} of the fusion is {b.type}, the operand is {a.type}")
        return [v.type for v in self.body.outputs]

    def evaluate(self, *xs: Any) -> Any:
        from ...ir.evaluate import evaluate

        results = evaluate(self.body, [rounded(x, self.half_elem) if i in self.half else x for i, x in enumerate(xs[0])])
        if -1 in self.half:
            return rounded(results[0], self.half_elem)
        return results[0] if len(results) == 1 else tuple(results)

    def macs(self) -> int:
        return self.body.macs()


class Copy(Op, name="tile.copy"):
    """The same value in its own memory (for an output that is also an input, a constant or another output)."""

    x: Value

    def infer(self) -> Tensor:
        return self.x.type

    def evaluate(self, *xs: Any) -> torch.Tensor:
        x: torch.Tensor = xs[0]
        return x.clone()


__all__ = [
    "INTEGERS",
    "INTEGER_BLOCK",
    "Blocked",
    "ChannelGather",
    "Copy",
    "Fused",
    "IndexSelect",
    "Pack",
    "TileAdaptiveAvgPool2d",
    "TileAdaptiveMaxPool2d",
    "TileAvgPool2d",
    "TileChannelGather",
    "TileConv2d",
    "TileMaxPool2d",
    "TileUpsample",
    "Unpack",
    "block",
    "blocked_type",
    "logical_type",
    "pack_array",
]
