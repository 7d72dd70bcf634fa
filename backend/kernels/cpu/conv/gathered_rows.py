"""A gather of channels (concat, slice, shuffle) with its epilogue, and the depthwise convolution or pooling that reads it, in one kernel.

    gather(a, b, …) -> epilogue -> depthwise | max_pool | avg_pool -> epilogue

Loops: (image, step of output rows). The rows that a step reads are gathered in scratch, for all channels, since a vector of an operand has
lanes for several blocks of the result; then its output rows are computed from there, block by block. Rows that two steps read are gathered twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from tvm import tirx as t

from .....ir.op import Op, Value
from ....codegen.builder import Expr
from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.fusion import Fusion
from ....tile.ops import TileAvgPool2d, TileChannelGather, TileConv2d, TileMaxPool2d
from ...packed import Packed
from ...template import Params, Template, kernel
from ..chunks import Chunk
from ..movement.channel_gather import gather_rows
from ..pool import Pool, pool_rows, pool_window
from ..window import Row, Window, share, workers
from .depthwise import Depthwise, depthwise_row
from .gathered import behind_gather
from .streamed_depthwise import StreamedDepthwise
from .template import conv_window

#: The gathered rows of a step may fill 1 / PART of L2.
PART = 4


@dataclass(frozen=True)
class Step:
    """What is gathered at once: the input rows of `rows` output rows."""

    g: Window
    rows: int

    @classmethod
    def of(cls, g: Window, target: Target, threads: int) -> Step:
        """As many output rows as fit, but few enough that there are steps for all threads."""
        fit = target.l2 // PART // (4 * g.w * g.lanes * g.in_blocks)
        most = g.oh if g.n % threads == 0 else -(-g.oh // threads)
        return cls(g, max(1, min(most, (fit - (g.kh - 1) * g.dh - 1) // g.sh + 1)))

    @property
    def reads(self) -> int:
        """Input rows at most."""
        return min(self.g.h, (self.rows - 1) * self.g.sh + (self.g.kh - 1) * self.g.dh + 1)

    @property
    def plane(self) -> int:
        """Floats of a channel block."""
        return self.reads * self.g.w * self.g.lanes

    @property
    def elements(self) -> int:
        return self.g.in_blocks * self.plane


class GatheredRows(Template):
    """The kernel of the template `alone`, with the gather before it."""

    strided_batch = True
    masked_stores = True
    #: The template that reads a map, of which operators, by what window, and its code for some output rows.
    alone: Template
    anchors: tuple[type[Op], ...]
    window: Callable[[Fusion], Window]
    rows: Callable[[KernelBuilder, Window, Chunk], None]

    def step(self, fusion: Fusion, target: Target, threads: int) -> Step:
        return Step.of(self.window(fusion.segments[1]), target, threads)

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        reader = behind_gather(fusion, target)
        return reader is not None and isinstance(reader.anchor, self.anchors) and self.alone.accepts(reader, target)

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        return self.alone.candidates(fusion.segments[1], target, threads)

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        return self.alone.cost(fusion.segments[1], target, params)

    def pack(self, fusion: Fusion, target: Target, params: Params) -> Mapping[Value, np.ndarray | Packed]:
        return self.alone.pack(fusion.segments[1], target, params)

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        return 4 * threads * self.step(fusion, target, threads).elements

    def row_partitioned(self, fusion: Fusion, target: Target, params: Params) -> list[list[Value]]:
        return [*([x] for x in fusion.anchor.xs), fusion.segments[1].same_layout]  # type: ignore[attr-defined]

    def emit(self, k: KernelBuilder) -> None:
        gather, reader = k.fusion.segments
        b, step, scratch = k.b, self.step(k.fusion, k.target, k.threads), k.scratch
        assert scratch is not None
        g, steps, results = step.g, -(-step.g.oh // step.rows), k.fusion.map_rows(k.fusion.result)
        bring = replace(k, fusion=gather, out=scratch)
        compute = replace(k, fusion=reader, args={**k.args, reader.anchor.operands[0]: scratch})
        with workers(b, k.threads) as worker:
            place = b.let("place", worker * step.elements)
            with b.loop("task", *share(worker, g.n * steps, k.threads)) as task:
                image, part = b.let("image", t.floordiv(task, steps)), b.let("part", t.floormod(task, steps))
                first, last = b.let("first", part * step.rows), b.let("last", t.min(g.oh, (part + 1) * step.rows))
                top = b.let("top", t.max(0, first * g.sh - g.top))
                bottom = b.let("bottom", t.max(top, t.min(g.h, (last - 1) * g.sh - g.top + (g.kh - 1) * g.dh + 1)))
                gather_rows(bring, image, (top, bottom), place, step.plane)
                with b.loop("block", 0, g.in_blocks) as block:
                    plane = b.let("plane", image * g.in_blocks + block)
                    source = partial(_row, b.let("start", place + block * step.plane), top, g.w * g.lanes)

                    def row(oy: Expr) -> Row:
                        return Row(oy, source, b.let("result", results.at(plane, oy)), block, image)

                    self.rows(compute, g, Chunk(plane, block, first, last, row))


def _row(start: Expr, top: Expr, elements: int, y: Expr) -> Expr:
    """Where row y of a block lies in scratch."""
    return start + (y - top) * elements


def depthwise_rows(k: KernelBuilder, g: Window, chunk: Chunk) -> None:
    with k.b.loop("oy", chunk.start, chunk.stop) as oy:
        depthwise_row(k, g, k.params["width"], chunk.row(oy))


@kernel(TileChannelGather)
class GatheredDepthwise(GatheredRows):
    name = "gathered_depthwise"
    fuses_gather_into = (Depthwise.name, StreamedDepthwise.name)
    alone = Depthwise()
    anchors = (TileConv2d,)
    window = staticmethod(conv_window)
    rows = staticmethod(depthwise_rows)


@kernel(TileChannelGather)
class GatheredPool(GatheredRows):
    name = "gathered_pool"
    fuses_gather_into = (Pool.name,)
    alone = Pool()
    anchors = (TileMaxPool2d, TileAvgPool2d)
    window = staticmethod(pool_window)
    rows = staticmethod(pool_rows)
