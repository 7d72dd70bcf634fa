"""Data movement: every operator here is one nest of copies."""

from __future__ import annotations

import math
from typing import Any

from .....ir.ops import Concat, Expand, IndexSelect, Pad, Slice, Transpose
from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.fusion import Fusion, operand_kind
from ....tile.moves import AsStrided, TilePadCrop, ToNhwc
from ....tile.ops import ChannelGather
from ...template import Template, kernel
from ..nest import strides_of
from .copies import FILL, Nest, Segment, Source, segments


class Mover(Template):
    """Base of the templates of moves. The epilogue must not depend on the channel."""

    name = "move"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return fusion.out.layout is None and all(v.type.layout is None for v in fusion.anchor.operands) and self.epilogue_fits(fusion)

    def epilogue_fits(self, fusion: Fusion) -> bool:
        """Whether the epilogue reads nothing but scalars and operands of the result's shape."""
        return all(operand_kind(v.type, fusion.out) in ("same", "scalar") for v in fusion.extra)


@kernel(Transpose, Slice, Expand, ToNhwc, AsStrided)
class StridedCopy(Mover):
    """Operators whose whole result is one box."""

    def emit(self, k: KernelBuilder) -> None:
        op = k.anchor
        strides = list(strides_of(op.x.shape))
        axes = [[Segment(size)] for size in op.out.shape]
        offset = 0
        if isinstance(op, AsStrided):
            strides, offset = list(op.strides), op.offset
        elif isinstance(op, (Transpose, ToNhwc)):
            strides = [strides[p] for p in (op.perm if isinstance(op, Transpose) else (0, 2, 3, 1))]
        elif isinstance(op, Slice):
            axes[op.axis] = [Segment(op.out.shape[op.axis], op.start, op.step)]
        else:
            lead = op.out.type.rank - op.x.type.rank
            strides = [0] * lead + [0 if a != b else s for a, b, s in zip(op.x.shape, op.out.shape[lead:], strides)]
        Nest(k, axes, [Source(k.args[op.x], tuple(strides), offset)]).emit()


@kernel(Concat, ChannelGather)
class ConcatCopy(Mover):
    """Several operands along one axis."""

    def emit(self, k: KernelBuilder) -> None:
        op = k.anchor
        axis = op.axis if isinstance(op, Concat) else 1
        axes = [[Segment(size)] for size in op.out.shape]
        places = [(source, i) for source, x in enumerate(op.xs) for i in range(x.shape[axis])]
        axes[axis] = segments([places[c] for c in op.channels] if isinstance(op, ChannelGather) else places)
        Nest(k, axes, [Source(k.args[x], strides_of(x.shape)) for x in op.xs]).emit()


@kernel(Pad)
class Padded(Mover):
    def emit(self, k: KernelBuilder) -> None:
        op = k.anchor
        axes = [_sides(op, size, lo, hi) for size, lo, hi in zip(op.x.shape, op.pads[::2], op.pads[1::2])]
        Nest(k, axes, [Source(k.args[op.x], strides_of(op.x.shape))], fill=op.x.type.dtype.type(op.value).item()).emit()


@kernel(TilePadCrop)
class BlockedPadCrop(Mover):
    """`pad_crop` on blocked feature maps: the lanes of a block are one more axis, which moves as a whole."""

    name = "pad_crop"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        return bool(op.lanes) and op.x.shape[-1:] == fusion.out.shape[-1:] and self.epilogue_fits(fusion)

    def emit(self, k: KernelBuilder) -> None:
        op = k.anchor
        planes, lanes = math.prod(op.x.shape[:2]), op.lanes
        rows, columns = (segments((FILL if i < 0 else None, max(i, 0)) for i in index) for index in (op.rows, op.columns))
        axes = [[Segment(planes)], rows, columns, [Segment(lanes)]]
        fill = op.x.type.dtype.type(op.value).item()
        Nest(k, axes, [Source(k.args[op.x], strides_of((planes, *op.x.shape[2:])))], fill=fill).emit()


def _sides(op: Pad, size: int, lo: int, hi: int) -> list[Segment]:
    """One axis: the padding before, the part of x that is left, the padding after."""
    if not lo and not hi:
        return [Segment(size)]
    if op.mode == "constant":
        first, last = max(-lo, 0), size + min(hi, 0)
        sides = [Segment(max(lo, 0), source=FILL), Segment(last - first, first), Segment(max(hi, 0), source=FILL)]
        return [s for s in sides if s.count > 0]
    return segments((None, i) for i in op.sources(size, lo, hi))


@kernel(IndexSelect)
class Indexed(Mover):
    """The index is read when the kernel runs, constant or not."""

    def emit(self, k: KernelBuilder) -> None:
        op = k.anchor
        axes = [[Segment(size)] for size in op.out.shape]
        Nest(k, axes, [Source(k.args[op.x], strides_of(op.x.shape))], table=(op.axis, k.args[op.index], op.x.shape[op.axis])).emit()
