"""A depthwise convolution and the pointwise ones around it in one kernel, row by row, so that the maps between them never leave the cache.

    conv2d 1x1 (expand) -> depthwise -> conv2d 1x1 (project)      whole inverted residual (Sandler et al., MobileNetV2, CVPR 2018)
    depthwise -> conv2d 1x1;  conv2d 1x1 -> depthwise             its two halves

Each segment keeps its epilogue; a residual add is the epilogue of the last one. A step makes `rows` output rows: for each channel group of the
expanded map, new input rows are expanded into a ring, and the depthwise rows are computed from them while they are in L1;
then all groups are projected. Scratch of a worker: ring [block][row % ring][column][lane], depthwise rows [block][row][column][lane].
Threads take consecutive steps; the rows that two of them need are expanded twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from tvm import tirx as t

from .....ir.op import Value
from ....codegen.builder import Buffer, Expr
from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.fusion import Fusion, RowLayout, operand_kind
from ....tile.ops import TileConv2d
from ...cost import beyond_l2
from ...template import Params, chain_kernel
from ..register_tile import Tile, cover, max_rows, runs, tile_cycles
from ..window import Row, Window, share, workers
from .depthwise import Depthwise, columns_in_registers, depthwise_cycles, depthwise_row
from .gemm import Gemm
from .template import Channels, ConvTemplate, conv_window

#: Extra floats between the channel blocks of scratch: distances of powers of two would use the same sets of L1.
PAD = 16
#: Bytes a cycle at which products read weights from L2, and from beyond it: much of the first hides behind the arithmetic.
FROM_L2, FROM_L3 = 128, 16
#: Output rows of a step, the best first on the networks measured: more cost L1, fewer read the weights more often.
ROWS = (2, 4, 1, 7, 14)


@dataclass(frozen=True)
class Plan:
    """The numbers of one kernel. A fusion without an expanding or without a projecting convolution has None there."""

    expand: Window | None
    depthwise: Window
    project: Window | None
    rows: int
    threads: int

    @property
    def steps(self) -> int:
        """Steps of one image."""
        return -(-self.depthwise.oh // self.rows)

    @property
    def ring(self) -> int:
        """Rows of the expanded map that a step reads."""
        d = self.depthwise
        return min(d.h, d.sh * (self.rows - 1) + (d.kh - 1) * d.dh + 1)

    @property
    def ring_block(self) -> int:
        """Floats of one channel block of the ring."""
        return self.ring * self.depthwise.w * self.depthwise.lanes + PAD

    @property
    def rows_block(self) -> int:
        """Floats of one channel block of the depthwise rows."""
        return self.rows * self.depthwise.ow * self.depthwise.lanes + PAD

    @property
    def sizes(self) -> tuple[int, int]:
        """Floats of the ring and of the depthwise rows of one worker."""
        blocks = self.depthwise.in_blocks
        return blocks * self.ring_block if self.expand else 0, blocks * self.rows_block if self.project else 0


def make_plan(fusion: Fusion, params: Params, threads: int) -> Plan:
    stages = split(fusion)
    assert stages is not None
    expand, depthwise, project = (None if s is None else conv_window(s) for s in stages)
    assert depthwise is not None
    return Plan(expand, depthwise, project, params["rows"], threads)


def split(fusion: Fusion) -> tuple[Fusion | None, Fusion, Fusion | None] | None:
    """The (expand, depthwise, project) segments of a chain; None where it is not such a sequence."""
    stages = fusion.segments
    if len(stages) not in (2, 3) or not all(isinstance(s.anchor, TileConv2d) for s in stages):
        return None
    deep = [i for i, s in enumerate(stages) if conv_window(s).depthwise]
    if len(deep) != 1 or (len(stages) == 3 and deep != [1]):
        return None
    at = deep[0]
    return (stages[0] if at else None, stages[at], stages[-1] if at < len(stages) - 1 else None)


class Rows(ConvTemplate):
    """Base of the three templates, which differ in their segments."""

    name = ""
    strided_batch = True
    masked_stores = True
    prefetches_next_weights = True
    expands = projects = True

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        stages = split(fusion)
        if stages is None or (stages[0] is not None, stages[2] is not None) != (self.expands, self.projects):
            return False
        expand, depthwise, project = stages
        for before, after in zip(fusion.segments, fusion.segments[1:]):
            if _anchor(after).x is not before.result or len(before.result.uses) != 1 or not all(_in_rows(before, v) for v in before.extra):
                return False
        pointwise = all(conv_window(s).pointwise and Gemm().accepts(s, target) for s in (expand, project) if s is not None)
        return pointwise and Depthwise().accepts(depthwise, target)

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        """Steps whose feature maps fit L2: beyond it, separate kernels are as fast."""
        whole = make_plan(fusion, {"rows": 1}, threads).depthwise.oh
        result: list[Params] = [{"rows": rows} for rows in dict.fromkeys(min(r, whole) for r in (*ROWS, whole))]
        return [p for p in result if self.scratch(fusion, target, p, threads) <= threads * target.l2] or result[:1]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        p = make_plan(fusion, params, 1)
        d = p.depthwise
        total, weights = depthwise_cycles(d), 0
        for g in (p.expand, p.project):
            if g is not None:
                total += g.n * g.oh * row_cycles(g, target)
                weights += 4 * g.c * g.out_blocks * g.lanes
        scratch = 4 * sum(p.sizes)
        # every step reads all weights again
        if weights + scratch > target.l1:
            total += d.n * p.steps * weights / (FROM_L2 if weights + scratch <= target.l2 else FROM_L3)
        if scratch > target.l2:
            total += beyond_l2(4 * d.n * d.in_blocks * d.lanes * (d.h * d.w * self.expands + d.oh * d.ow * self.projects))
        return total

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        packed: dict[Value, np.ndarray] = {}
        for stage in fusion.segments:
            template = Depthwise() if conv_window(stage).depthwise else ConvTemplate()
            packed |= template.pack(stage, target, params)
        return packed

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        return 4 * threads * sum(make_plan(fusion, params, threads).sizes)

    def row_partitioned(self, fusion: Fusion, target: Target, params: Params) -> list[list[Value]]:
        return [[_anchor(fusion).x], fusion.segments[-1].same_layout]

    def emit(self, k: KernelBuilder) -> None:
        _Code(k, make_plan(k.fusion, k.params, k.threads)).emit()


@chain_kernel
class InvertedResidual(Rows):
    name = "inverted_residual"


@chain_kernel
class DepthwisePointwise(Rows):
    name = "depthwise_pointwise"
    expands = False


@chain_kernel
class PointwiseDepthwise(Rows):
    name = "pointwise_depthwise"
    projects = False


def row_cycles(g: Window, target: Target) -> float:
    """Modelled cycles of one row of a pointwise convolution."""
    return sum(count * tile_cycles(target, g.ow, vectors, g.c) for vectors, _, count in Channels(g).vectors)


def _anchor(stage: Fusion) -> Any:
    return stage.anchor


def _in_rows(stage: Fusion, operand: Value) -> bool:
    """Whether an epilogue can read an operand when its results are in scratch, where their offsets are not those of the operand."""
    return operand_kind(operand.type, stage.out) in ("scalar", "channel", "image")


@dataclass
class _Code:
    """The code of all steps. `worker` is a thread's number."""

    k: KernelBuilder
    p: Plan
    worker: Expr = 0

    def emit(self) -> None:
        k, p, b = self.k, self.p, self.k.b
        stages = split(k.fusion)
        assert stages is not None
        self.inputs, self.results = k.fusion.map_rows(k.anchor.x), k.fusion.map_rows(k.fusion.result)
        self.expand, self.depthwise, self.project = (None if s is None else self._kernel(s) for s in stages)
        with workers(b, p.threads) as self.worker:
            start, stop = share(self.worker, p.depthwise.n * p.steps, p.threads)
            with b.loop("step", start, stop) as step:
                self.image, part = b.let("image", t.floordiv(step, p.steps)), b.let("part", t.floormod(step, p.steps))
                first = b.let("first", part * p.rows)
                rows = (first, b.let("last", t.min(p.depthwise.oh, first + p.rows)))
                if p.expand is None:
                    self._depthwise_rows(0, p.depthwise.in_blocks, rows)
                else:
                    fresh = t.any(t.EQ(step, start), t.EQ(part, 0))
                    self._expand_and_depthwise(self._new_rows(part, fresh), rows)
                if p.project is not None:
                    self._project_rows(rows)

    def _kernel(self, stage: Fusion) -> KernelBuilder:
        """The kernel builder of one segment: it reads the previous segment's result in scratch, and writes its own there unless it is the last."""
        k, scratch, first, last = self.k, self.k.scratch, self.k.fusion.segments[0], self.k.fusion.segments[-1]
        x: Buffer | None = k.args[_anchor(stage).x] if stage == first else scratch
        out = k.out if stage == last else scratch
        assert x is not None and out is not None
        return replace(k, fusion=stage, args={**k.args, _anchor(stage).x: x}, out=out)

    def _new_rows(self, part: Expr, fresh: Expr) -> tuple[Expr, Expr]:
        """Rows of the expanded map that a step reads and the step before it did not. fresh: no step came before."""
        b, d, rows = self.k.b, self.p.depthwise, self.p.rows
        above = d.sh * (rows - 1) + (d.kh - 1) * d.dh + 1 - d.top
        begin = b.let("begin", t.max(0, part * (rows * d.sh) - d.top))
        known = t.min(d.h, (part - 1) * (rows * d.sh) + above)
        lo = b.let("lo", t.Select(fresh, begin, t.max(begin, known)))
        return lo, b.let("hi", t.max(lo, t.min(d.h, part * (rows * d.sh) + above)))

    def _place(self, part: str) -> Expr:
        """Where this worker's ring or depthwise rows begin in the scratch."""
        ring, rows = self.p.sizes
        return self.worker * (ring + rows) + (ring if part == "rows" else 0)

    def _map_row(self, rows: RowLayout, plane: Expr, y: Expr) -> Expr:
        """Float where a row of the first or the last map lies. With partitions that is a division, which TVM would write into every load."""
        place = rows.at(plane, y)
        return self.k.b.let("row", place) if rows.partitions == 1 else self.k.b.value(place)

    def _ring_row(self, block: Expr, y: Expr) -> Expr:
        """Float where a row of the expanded map lies in the ring."""
        p = self.p
        return self._place("ring") + block * p.ring_block + t.floormod(y, p.ring) * (p.depthwise.w * p.depthwise.lanes)

    def _expand_and_depthwise(self, new: tuple[Expr, Expr], rows: tuple[Expr, Expr]) -> None:
        """A channel group at a time, so that its new rows are still in L1 when they are read."""
        k, b, g = self.expand, self.k.b, self.p.expand
        assert k is not None and g is not None
        for vectors, first, count in Channels(g).vectors:
            with b.range("group", 0, count) as group:
                block = b.let("block", first + group * vectors)
                with b.loop("y", *new) as y:
                    x = self._map_row(self.inputs, self.image * g.in_blocks, y)
                    places = [b.let("to", self._ring_row(block + j, y)) for j in range(vectors)]
                    self._product(k, g, block, x, self.inputs.rows * self.inputs.elements, places)
                self._depthwise_rows(block, vectors, rows)

    def _depthwise_rows(self, first: Expr, blocks: int, rows: tuple[Expr, Expr]) -> None:
        k, b, p, g = self.depthwise, self.k.b, self.p, self.p.depthwise
        assert k is not None
        with b.range("db", 0, blocks) as db:
            block = b.let("dblock", first + db)
            plane = b.let("plane", self.image * g.in_blocks + block)
            source = partial(self._ring_row, block) if p.expand is not None else partial(self.inputs.at, plane)
            with b.loop("oy", *rows) as oy:
                result = self.results.at(plane, oy) if p.project is None else self._depthwise_row(block, oy - rows[0])
                depthwise_row(k, g, columns_in_registers(g, k.target), Row(oy, source, b.let("result", result), block, self.image))

    def _depthwise_row(self, block: Expr, row: Expr) -> Expr:
        """Float where a depthwise row of this step lies."""
        return self._place("rows") + block * self.p.rows_block + row * (self.p.depthwise.ow * self.p.depthwise.lanes)

    def _project_rows(self, rows: tuple[Expr, Expr]) -> None:
        k, b, g = self.project, self.k.b, self.p.project
        assert k is not None and g is not None
        many = 4 * g.c * g.out_blocks * g.lanes > k.target.l2 // 2
        for vectors, first, count in Channels(g).vectors:
            with b.range("group", 0, count) as group:
                block = b.let("block", first + group * vectors)
                with b.loop("oy", *rows) as oy:
                    plane, row = b.let("plane", self.image * g.out_blocks + block), b.let("row", oy - rows[0])
                    x = b.let("x", self._depthwise_row(0, row))
                    places = [self._map_row(self.results, plane + j, oy) for j in range(vectors)]
                    self._product(k, g, block, x, self.p.rows_block, places, (row, self.p.rows) if many else None)

    def _product(
        self, k: KernelBuilder, g: Window, block: Expr, x: Expr, plane: int, places: list[Expr], turn: tuple[Expr, int] | None = None
    ) -> None:
        """A row of a pointwise convolution, for the output blocks from `block` on.

        x: where the row begins in the anchor's operand; plane: elements between channel blocks there; places: where it begins in each output block.
        turn: this row's number among all that read the same weights; together they prefetch those of the next blocks, which L2 does not hold.
        """
        b, lanes, op, vectors = k.b, g.lanes, k.anchor, len(places)
        weights, number = b.let("weights", block * (g.c * lanes)), 0
        tiles = cover(g.ow, max_rows(k.target, vectors), vectors)
        for height, first, repeat in runs(tiles):
            with b.range("tile", 0, repeat) as i:
                at = b.let("pixel", (first + i * height) * lanes)
                tile = Tile(b, height, vectors, lanes, next_weights=k.next_weights, by_element=k.target.by_element)
                tile.start(None if op.b is None else lambda j: b.load(k.args[op.b], (block + j) * lanes, lanes))
                here = None if turn is None else (turn[0] * len(tiles) + number + i, turn[1] * len(tiles))
                tile.blocks(k.args[op.x], b.let("at", x + at), plane, k.args[op.w], weights, g.c, turn=here)
                for j in range(vectors):
                    k.finish_rows(height, partial(tile.value, j=j), places[j] + at, lanes, (block + j) * lanes, self.image, lanes)
            number += repeat
