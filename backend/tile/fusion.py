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

#: Every buffer begins at a multiple of so many bytes.
ALIGN = 64

def root(v: Value) -> Value:
    """The value whose memory a chain of reshapes shows."""
    while isinstance(v.op, Reshape):
        v = v.op.x
    return v


@dataclass(frozen=True)
class Region:
    """A `tile.fused` op, split into its anchor and its elementwise tail.

    Several anchors in one region are a chain. Each with its tail is a stage, and a stage is a region too: `stages` gives it as one.
    """

    op: Fused
    stage: int | None = None

    @property
    def ops(self) -> list[Op]:
        ops = self.op.body.ops
        if self.stage is None:
            return ops
        starts = [*_anchors(ops), len(ops)]
        return ops[starts[self.stage] : starts[self.stage + 1]]

    @property
    def stages(self) -> list[Region]:
        """One region for each anchor; an ordinary region is its only stage."""
        return [Region(self.op, i) for i in range(len(_anchors(self.op.body.ops)))]

    @property
    def anchor(self) -> Op:
        """The first anchor of a chain."""
        return self.ops[0]

    @property
    def tail(self) -> list[Op]:
        """Every op when the region has no anchor of its own."""
        ops = self.ops
        return ops if isinstance(ops[0], Elementwise) else ops[1:]

    @property
    def result(self) -> Value:
        outputs = self.op.body.outputs
        return outputs[0] if self.stage is None else self.ops[-1].out

    @property
    def out(self) -> Tensor:
        return self.result.type

    @property
    def lane(self) -> int:
        """At which lane of a channel block the result begins that shares blocks with others; -1 where it has its own."""
        return self.op.lane if self.result in self.op.body.outputs else -1

    def size(self, v: Value) -> int:
        """Elements from the first to behind the last of an argument or of the result."""
        holder = self._holder(v)
        if holder is None:
            return v.type.size
        parts, nbytes = holder.parts
        return (nbytes + (parts - 1) * holder.apart) // v.type.dtype.itemsize

    def map_rows(self, v: Value) -> MapRows:
        """Where the rows of an argument or of the result lie, a blocked map."""
        _, blocks, h, w, lanes = v.type.shape
        holder = self._holder(v)
        if holder is None or (holder.bands == 1 and not holder.apart):
            return MapRows(blocks, h, w * lanes, 1, blocks * h * w * lanes)
        return MapRows(blocks, h // holder.bands, w * lanes, holder.bands, holder.apart // v.type.dtype.itemsize)

    def _holder(self, v: Value) -> Fused | None:
        """The region that makes an argument or the result; None where no region does."""
        if v in self.op.body.outputs:
            return self.op
        source = self.op.args[self.op.body.inputs.index(v)].op if v in self.op.body.inputs else None
        return source if isinstance(source, Fused) else None

    @property
    def extra(self) -> list[Value]:
        """What the tail reads besides values of the region."""
        own = {op.out for op in self.ops}
        return [v for op in self.tail for v in op.operands if v not in own]

    @property
    def alike(self) -> list[Value]:
        """The result, and what the tail reads at the same places: they lie in memory alike."""
        return [self.result, *(v for v in self.extra if operand_kind(v.type, self.out) == "same")]

    def array(self, arg: Value | None) -> np.ndarray | None:
        """The constant behind an argument of the region; None for a missing or computed operand."""
        if arg is None:
            return None
        op = self.op.args[self.op.body.inputs.index(arg)].op
        return op.array if isinstance(op, Const) else None


@dataclass(frozen=True)
class MapRows:
    """Where the rows of a blocked map lie: in images, or where it is one image in `bands`, in bands, `apart` floats from each other.

    In either, `rows` rows of the first channel block lie one after the other, then those of the next of `blocks`; a row has `floats`. Images may
    lie further apart than they are long: those of a part of a concat.
    """

    blocks: int
    rows: int
    floats: int
    bands: int
    apart: int

    def pixels(self, lanes: int) -> MapRows:
        """The same, counted in pixels of `lanes` floats."""
        return replace(self, floats=self.floats // lanes, apart=self.apart // lanes)

    def cut(self, bands: int) -> tuple[int, int]:
        """Floats from an image, or from one of `bands` bands, to the next, and from a channel block to the next. A map that is not in bands is cut
        where it lies."""
        return (self.apart if bands == self.bands else self.rows // bands * self.floats), self.rows * self.floats

    @property
    def image(self) -> int:
        """Floats of an image or band."""
        return self.blocks * self.rows * self.floats

    def at(self, plane: Any, y: Any, band: Any = None) -> Any:
        """The first float of row y of a plane, image * blocks + block. band: to go on behind the last row of a band, where the next plane lies,
        rather than in the next band."""
        place = (plane * self.rows + y) * self.floats
        if self.bands == 1:
            return place if self.apart == self.image else place + t.floordiv(plane, self.blocks) * (self.apart - self.image)
        return place + (t.floordiv(y, self.rows) if band is None else band) * (self.apart - self.rows * self.floats)


def _anchors(ops: list[Op]) -> list[int]:
    """Where the stages of a region's ops begin."""
    return [i for i, op in enumerate(ops) if i == 0 or not isinstance(op, Elementwise)]


def operand_kind(operand: Tensor, out: Tensor) -> str:
    """How the tail may read an extra operand: `same` shape, `scalar`, per `channel`, per `image` (and channel); else `other`."""
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
