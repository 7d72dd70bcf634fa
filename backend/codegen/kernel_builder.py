"""The builder with which templates write kernels: the buffers of a fused op, and its epilogue as a function of an accumulator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tvm import tirx as t

from ...ir.op import Value
from ...ir.ops import Elementwise
from ..target import Target
from ..tile.fusion import Fusion, operand_kind
from .builder import Buffer, Builder, Expr, const, ramp, splat
from .prefetch import NextWeights
from .shuffles import shuffle
from .tir_math import TirMath


@dataclass
class KernelBuilder:
    """A kernel under construction.

    args: the buffers of the fusion's arguments, with constants as the template packed them. next_weights: the weights that a template with
    `prefetches_next_weights` prefetches while it multiplies, see `emit.next_weights`. faults: where `place` records indices out of range.
    """

    b: Builder
    fusion: Fusion
    params: dict[str, Any]
    target: Target
    threads: int
    args: dict[Value, Buffer]
    out: Buffer
    scratch: Buffer | None = None
    next_weights: NextWeights | None = None
    faults: Buffer | None = None
    math: TirMath = field(init=False)

    def __post_init__(self) -> None:
        self.math = TirMath(self.b)

    @property
    def anchor(self) -> Any:
        return self.fusion.anchor

    def place(self, table: Buffer, at: Expr, size: int, record: bool = True) -> Expr:
        """An element of an i64 table of indices, as i32. An index outside 0 .. size - 1 is recorded, and 0 is used instead.

        record: False where `record_faults` has checked the table before.
        """
        b = self.b
        if self.faults is None:
            return b.let("index", t.Cast("int32", b.load(table, at)))
        said = b.let("said", b.load(table, at))
        inside = t.Cast("uint64", said) < t.const(size, "uint64")
        if record:
            with b.when(t.Not(inside)), b.when(t.EQ(b.load(self.faults, 0), t.const(0, "int64"))):
                b.store(self.faults, 1, said)
                b.store(self.faults, 0, t.const(1, "int64"))
        return b.let("index", t.Cast("int32", t.Select(inside, said, t.const(0, "int64"))))

    def record_faults(self, table: Buffer, count: int, size: int) -> None:
        """Check all `count` elements of a table once, for kernels that read it repeatedly."""
        with self.b.loop("i", 0, count) as i:
            self.place(table, i, size)

    def finish(self, acc: Expr, offset: Expr, channel: Expr, image: Expr, lanes: int) -> None:
        """Run the epilogue on an accumulator and store it.

        offset: flat element of the result's first lane; channel: its channel (blocked: block * lanes; plain: index along
        the last axis, None when the lanes do not run along it); image: its batch index.
        """
        self.put(self.apply(acc, offset, channel, image, lanes), offset, channel, lanes)

    def put(self, value: Expr, offset: Expr, channel: Expr, lanes: int) -> None:
        """Store a value without the epilogue; arguments as for `finish`.

        Where the result shares channel blocks with other values (`lane_offset`), a vector covers up to two blocks, and only its channels are written.
        """
        lane = self.fusion.lane_offset
        if lane < 0:
            self.b.store(self.out, offset, value, lanes)
            return
        layout = self.fusion.out.layout
        assert layout is not None
        live = t.min(layout.channels - channel, lanes)
        self.b.store_lanes(self.out, offset + lane, value, (0, t.min(live, lanes - lane)), lanes)
        if lane:
            self.b.store_lanes(self.out, self._next_block(offset, lanes), value, (lanes - lane, live), lanes)

    def get(self, offset: Expr, lanes: int) -> Expr:
        """Load a value that was `put` there."""
        lane = self.fusion.lane_offset
        here = self.b.load(self.out, offset + max(lane, 0), lanes)
        if lane <= 0:
            return here
        behind = self.b.load(self.out, self._next_block(offset, lanes), lanes)
        return shuffle([self.b.let("here", here), self.b.let("behind", behind)], [i if i < lanes - lane else lanes + i for i in range(lanes)])

    def _next_block(self, offset: Expr, lanes: int) -> Expr:
        """Where lane 0 would lie if the vector were stored for its lanes in the next block, those from `lanes - lane` on."""
        rows = self.fusion.map_rows(self.fusion.result)
        return offset + (rows.rows * rows.elements - lanes + self.fusion.lane_offset)

    def finish_rows(self, rows: int, value: Callable[[int], Expr], offset: Expr, step: int, channel: Expr, image: Expr, lanes: int) -> None:
        """`finish` for `rows` accumulators whose results lie `step` elements apart.

        A long epilogue (with exponentials) unrolled for every row of a tile would spill its intermediate values. So it runs in a loop over
        accumulators that were stored first.
        """
        if not any(isinstance(op, Elementwise) and op.transcendental for op in self.fusion.epilogue):
            for i in range(rows):
                self.finish(value(i), offset + i * step, channel, image, lanes)
            return
        for i in range(rows):
            self.put(value(i), offset + i * step, channel, lanes)
        with self.b.loop("row", 0, rows) as row:
            at = self.b.let("at", offset + row * step)
            self.finish(self.get(at, lanes), at, channel, image, lanes)

    def apply(self, acc: Expr, offset: Expr, channel: Expr, image: Expr, lanes: int) -> Expr:
        """The epilogue alone: the final value of these lanes."""
        return self._run(acc, offset, channel, image, lanes, rounds=True)

    def unrounded(self, acc: Expr, offset: Expr, channel: Expr, image: Expr, lanes: int) -> Expr:
        """The epilogue without the final rounding: the f32 that its last op, one with `real`, rounds."""
        return self._run(acc, offset, channel, image, lanes, rounds=False)

    def _run(self, acc: Expr, offset: Expr, channel: Expr, image: Expr, lanes: int, rounds: bool) -> Expr:
        values: dict[Value, Expr] = {self.anchor.out: acc}
        out, result = self.fusion.out, self.fusion.result
        for op in self.fusion.epilogue:
            xs = []
            for v in op.operands:
                if v not in values and v not in op.by_element:  # type: ignore[attr-defined]
                    values[v] = self.args[v]
                if v not in values:
                    values[v] = self._read(v, operand_kind(v.type, out), offset, channel, image, lanes)
                xs.append(values[v])
            function = op.f if rounds or op.out is not result else op.real  # type: ignore[attr-defined]
            values[op.out] = self.b.value(function(self.math, *xs))
        return values[result]

    def _read(self, v: Value, kind: str, offset: Expr, channel: Expr, image: Expr, lanes: int) -> Expr:
        buffer = self.args[v]
        if kind == "same":
            return self.b.load(buffer, offset, lanes)
        if kind == "scalar":
            return splat(self.b.load(buffer, 0), lanes)
        if kind == "channel" and channel is not None:
            return self.b.load(buffer, channel, lanes)
        if kind == "image":
            return self.b.load(buffer, image * self.fusion.map_rows(v).stride + channel, lanes)
        return self._gather(v, offset, lanes)

    def _gather(self, v: Value, offset: Expr, lanes: int) -> Expr:
        """Load an operand of any broadcast shape by the coordinates of each lane: always correct, never fast."""
        place, shape = ramp(offset, lanes), self.fusion.out.shape
        index = const(0, "int32", lanes)
        for axis, size in enumerate(reversed(v.type.shape)):
            if size > 1:
                step = math.prod(v.type.shape[v.type.rank - axis :])
                along = t.floordiv(place, const(math.prod(shape[len(shape) - axis :]), "int32", lanes))
                index = index + t.floormod(along, const(size, "int32", lanes)) * const(step, "int32", lanes)
        return t.BufferLoad(self.args[v].raw, [index])
