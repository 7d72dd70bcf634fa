"""The read-only view of a fused op that kernels and stages share: its anchor, its epilogue, and where its operands and result lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tvm import tirx as t

from ...ir.op import Const, Op, Value
from ...ir.ops import Elementwise, Reshape
from ...ir.types import Tensor
from .ops import Fused

#: Alignment of every buffer in bytes.
ALIGN = 64


def root(v: Value) -> Value:
    """The value whose memory a chain of reshapes refers to."""
    while isinstance(v.op, Reshape):
        v = v.op.x
    return v


@dataclass(frozen=True)
class Fusion:
    """A `tile.fused` op, split into its anchor and its elementwise epilogue.

    Several anchors in one fused op are a chain. Each anchor with its epilogue is a segment, which is a `Fusion` too: see `segments`.
    """

    op: Fused
    segment: int | None = None

    @property
    def ops(self) -> list[Op]:
        ops = self.op.body.ops
        if self.segment is None:
            return ops
        starts = [*_anchors(ops), len(ops)]
        return ops[starts[self.segment] : starts[self.segment + 1]]

    @property
    def segments(self) -> list[Fusion]:
        """One fusion for each anchor; an ordinary fusion is its only segment."""
        return [Fusion(self.op, i) for i in range(len(_anchors(self.op.body.ops)))]

    @property
    def anchor(self) -> Op:
        """The first anchor of a chain."""
        return self.ops[0]

    @property
    def epilogue(self) -> list[Op]:
        """The ops after the anchor; every op of a fusion of only elementwise ops."""
        ops = self.ops
        return ops if isinstance(ops[0], Elementwise) else ops[1:]

    @property
    def result(self) -> Value:
        outputs = self.op.body.outputs
        return outputs[0] if self.segment is None else self.ops[-1].out

    @property
    def out(self) -> Tensor:
        return self.result.type

    @property
    def lane_offset(self) -> int:
        """The lane of a channel block at which the result starts, where it shares blocks with other values; -1 where it does not."""
        return self.op.lane_offset if self.result in self.op.body.outputs else -1

    def size(self, v: Value) -> int:
        """Extent of an argument or of the result in elements, strides included."""
        holder = self._holder(v)
        if holder is None:
            return v.type.size
        parts, nbytes = holder.spans
        return (nbytes + (parts - 1) * holder.stride) // v.type.dtype.itemsize

    def map_rows(self, v: Value) -> RowLayout:
        """The row layout of an argument or of the result, which is a blocked feature map."""
        _, blocks, h, w, lanes = v.type.shape
        holder = self._holder(v)
        if holder is None or (holder.partitions == 1 and not holder.stride):
            return RowLayout(blocks, h, w * lanes, 1, blocks * h * w * lanes)
        return RowLayout(blocks, h // holder.partitions, w * lanes, holder.partitions, holder.stride // v.type.dtype.itemsize)

    def _holder(self, v: Value) -> Fused | None:
        """The fusion that makes an argument or the result; None where no fusion does."""
        if v in self.op.body.outputs:
            return self.op
        source = self.op.args[self.op.body.inputs.index(v)].op if v in self.op.body.inputs else None
        return source if isinstance(source, Fused) else None

    @property
    def extra(self) -> list[Value]:
        """Operands of the epilogue that are not computed in the fused op."""
        own = {op.out for op in self.ops}
        return [v for op in self.epilogue for v in op.operands if v not in own]

    @property
    def same_layout(self) -> list[Value]:
        """The result, and operands that the epilogue reads with the same indices: they have the same layout in memory."""
        return [self.result, *(v for v in self.extra if operand_kind(v.type, self.out) == "same")]

    @property
    def addresses(self) -> list[tuple[Value, int]]:
        """Arguments that are indices and not known at compile time, and the size of the axis that they index."""
        return [(v, size) for op in self.ops for v, size in op.addresses() if self.array(v) is None]

    def half(self, v: Value) -> bool:
        """Whether an argument or the result is a narrower float than its type (`half.py`)."""
        return (-1 if v is self.result else self.op.body.inputs.index(v)) in self.op.half

    def array(self, arg: Value | None) -> np.ndarray | None:
        """The array of an argument of the fusion that is constant; None for a missing or computed operand."""
        if arg is None or arg not in self.op.body.inputs:
            return None
        op = self.op.args[self.op.body.inputs.index(arg)].op
        return op.array if isinstance(op, Const) else None


@dataclass(frozen=True)
class RowLayout:
    """The layout of the rows of a blocked feature map.

    A map is a sequence of images, or one image in `partitions` of rows. `stride`: elements from one image or partition to the next, which may be
    more than it holds (a part of a concat). Each holds, for each of `blocks` channel blocks, `rows` contiguous rows of `elements`.
    """

    blocks: int
    rows: int
    elements: int
    partitions: int
    stride: int

    def pixels(self, lanes: int) -> RowLayout:
        """The same, counted in pixels of `lanes` elements."""
        return replace(self, elements=self.elements // lanes, stride=self.stride // lanes)

    def cut(self, partitions: int) -> tuple[int, int]:
        """Elements from one image (or one of `partitions`) to the next, and from one channel block to the next.

        A map that is not partitioned is divided in its usual layout.
        """
        return (self.stride if partitions == self.partitions else self.rows // partitions * self.elements), self.rows * self.elements

    @property
    def image(self) -> int:
        """Elements of an image or partition."""
        return self.blocks * self.rows * self.elements

    def at(self, plane: Any, y: Any, partition: Any = None) -> Any:
        """The first element of row y of a plane, image * blocks + block.

        partition: fixes the partition; a y after its last row then refers to the next plane in memory, not to the next partition.
        """
        place = (plane * self.rows + y) * self.elements
        if self.partitions == 1:
            return place if self.stride == self.image else place + t.floordiv(plane, self.blocks) * (self.stride - self.image)
        return place + (t.floordiv(y, self.rows) if partition is None else partition) * (self.stride - self.rows * self.elements)


def _anchors(ops: list[Op]) -> list[int]:
    """Where the segments of a fusion's ops start."""
    return [i for i, op in enumerate(ops) if i == 0 or not isinstance(op, Elementwise)]


def operand_kind(operand: Tensor, out: Tensor) -> str:
    """How the epilogue may read an extra operand: `same` shape, `scalar`, per `channel`, per `image` (and channel); else `other`."""
    if operand.shape == out.shape:
        return "same"
    if operand.size == 1:
        return "scalar"
    if out.layout is not None:
        n, blocks, _, _, lanes = out.shape
        if operand.shape == (1, blocks, 1, 1, lanes):
            return "channel"
        return "image" if operand.shape == (n, blocks, 1, 1, lanes) else "other"
    return "channel" if operand.shape[-1:] == out.shape[-1:] and operand.size == out.shape[-1] else "other"
