"""What a kernel template sees: the fused region, its buffers, and the tail as a function of an accumulator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tvm import tirx as t

from ..ir.op import Const, Op, Value
from ..ir.ops import Elementwise, Elu, Erf, Exp, Gelu, Log, Pow, Remainder, Reshape, Sigmoid, Silu, Softplus, Tanh
from ..ir.types import Tensor
from .kernels.micro import NextWeights
from .kernels.shuffles import shuffle
from .target import Target
from .tile import Fused
from .tir import Buffer, Builder, Expr, const, ramp, splat
from .tirmath import TirMath

#: Every buffer begins at a multiple of so many bytes.
ALIGN = 64
#: Elementwise operators of many instructions.
SLOW = (Elu, Erf, Exp, Gelu, Log, Pow, Remainder, Sigmoid, Silu, Softplus, Tanh)


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

    def at(self, plane: Expr, y: Expr, band: Expr = None) -> Expr:
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


@dataclass
class Kernel:
    """A kernel under construction. `args` are the buffers of the region's arguments (constants as the template packed them). following: what a
    template with `fetches = True` asks for while it multiplies, see `following`."""

    b: Builder
    region: Region
    params: dict[str, Any]
    target: Target
    threads: int
    args: dict[Value, Buffer]
    out: Buffer
    scratch: Buffer | None = None
    following: NextWeights | None = None
    math: TirMath = field(init=False)

    def __post_init__(self) -> None:
        self.math = TirMath(self.b)

    @property
    def anchor(self) -> Any:
        return self.region.anchor

    def finish(self, acc: Expr, offset: Expr, channel: Expr, image: Expr, lanes: int) -> None:
        """Run the tail on an accumulator and store it.

        offset: flat element of the result's first lane; channel: its channel (blocked: block * lanes; plain: index along
        the last axis, None when the lanes do not run along it); image: its batch index.
        """
        self.put(self.apply(acc, offset, channel, image, lanes), offset, channel, lanes)

    def put(self, value: Expr, offset: Expr, channel: Expr, lanes: int) -> None:
        """Store a value where a result belongs, all as for `finish`.

        Where others write to channel blocks of the result too, a block's lanes lie in up to two of them, and those of its channels alone are written.
        """
        lane = self.region.lane
        if lane < 0:
            self.b.store(self.out, offset, value, lanes)
            return
        layout = self.region.out.layout
        assert layout is not None
        live = t.min(layout.channels - channel, lanes)
        self.b.store_lanes(self.out, offset + lane, value, (0, t.min(live, lanes - lane)), lanes)
        if lane:
            self.b.store_lanes(self.out, self._next_block(offset, lanes), value, (lanes - lane, live), lanes)

    def get(self, offset: Expr, lanes: int) -> Expr:
        """What was `put` there."""
        lane = self.region.lane
        here = self.b.load(self.out, offset + max(lane, 0), lanes)
        if lane <= 0:
            return here
        behind = self.b.load(self.out, self._next_block(offset, lanes), lanes)
        return shuffle([self.b.let("here", here), self.b.let("behind", behind)], [i if i < lanes - lane else lanes + i for i in range(lanes)])

    def _next_block(self, offset: Expr, lanes: int) -> Expr:
        """Where lane 0 would lie of a vector whose lanes from `lanes - lane` on lie in the next block."""
        rows = self.region.map_rows(self.region.result)
        return offset + (rows.rows * rows.floats - lanes + self.region.lane)

    def finish_rows(self, rows: int, value: Callable[[int], Expr], offset: Expr, step: int, channel: Expr, image: Expr, lanes: int) -> None:
        """`finish` for `rows` accumulators whose results lie `step` elements apart.

        A tail with exponentials is long: written out for every row of a tile, its intermediate values spill. It runs in a loop
        instead, over results that were stored raw.
        """
        if not any(isinstance(op, SLOW) for op in self.region.tail):
            for i in range(rows):
                self.finish(value(i), offset + i * step, channel, image, lanes)
            return
        for i in range(rows):
            self.put(value(i), offset + i * step, channel, lanes)
        with self.b.loop("row", 0, rows) as row:
            at = self.b.let("at", offset + row * step)
            self.finish(self.get(at, lanes), at, channel, image, lanes)

    def apply(self, acc: Expr, offset: Expr, channel: Expr, image: Expr, lanes: int) -> Expr:
        """The tail alone: the final value of these lanes."""
        values: dict[Value, Expr] = {self.anchor.out: acc}
        out = self.region.out
        for op in self.region.tail:
            xs = []
            for v in op.operands:
                if v not in values:
                    values[v] = self._read(v, operand_kind(v.type, out), offset, channel, image, lanes)
                xs.append(values[v])
            values[op.out] = self.b.value(op.f(self.math, *xs))  # type: ignore[attr-defined]
        return values[self.region.result]

    def _read(self, v: Value, kind: str, offset: Expr, channel: Expr, image: Expr, lanes: int) -> Expr:
        buffer = self.args[v]
        if kind == "same":
            return self.b.load(buffer, offset, lanes)
        if kind == "scalar":
            return splat(self.b.load(buffer, 0), lanes)
        if kind == "channel" and channel is not None:
            return self.b.load(buffer, channel, lanes)
        if kind == "image":
            return self.b.load(buffer, image * self.region.map_rows(v).apart + channel, lanes)
        return self._gather(v, offset, lanes)

    def _gather(self, v: Value, offset: Expr, lanes: int) -> Expr:
        """Any operand that broadcasts, by the coordinates of each lane: right for all, fast for none."""
        place, shape = ramp(offset, lanes), self.region.out.shape
        index = const(0, "int32", lanes)
        for axis, size in enumerate(reversed(v.type.shape)):
            if size > 1:
                step = math.prod(v.type.shape[v.type.rank - axis :])
                along = t.floordiv(place, const(math.prod(shape[len(shape) - axis :]), "int32", lanes))
                index = index + t.floormod(along, const(size, "int32", lanes)) * const(step, "int32", lanes)
        return t.BufferLoad(self.args[v].raw, [index])
