"""A gather of channels (concat, slice, shuffle) with its epilogue, and the pointwise convolution that reads it, in one kernel.

    gather(a, b, …) -> epilogue -> conv2d 1x1 -> epilogue

The channels of a chunk of pixels are gathered in scratch, where they stay in the first caches, and all outputs are computed from there. So a
concat costs a few instructions for each vector that is multiplied by all outputs, and so does a batch norm and relu after it (Huang et al.,
DenseNet, CVPR 2017). Chunks are those of the convolution alone.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from tvm import tirx as t

from .....ir.op import Value
from ....codegen.builder import Expr
from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.fusion import Fusion, operand_kind
from ....tile.ops import TileChannelGather, TileConv2d
from ...template import Params, Template, kernel
from ..movement.channel_gather import ChannelGatherKernel, Sources
from ..window import share, workers
from .direct import Direct
from .gemm import Gemm, Product, output_groups
from .template import Channels, conv_window


@kernel(TileChannelGather)
class GatheredGemm(Template):
    """`gemm` with the gather before it, in one kernel."""

    name = "gathered_gemm"
    strided_batch = True
    masked_stores = True
    prefetches_next_weights = True
    fuses_gather_into = (Gemm.name, Direct.name)

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        conv = behind_gather(fusion, target)
        return conv is not None and isinstance(conv.anchor, TileConv2d) and conv_window(conv).pointwise and Gemm().accepts(conv, target)

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        return Gemm().candidates(fusion.segments[1], target, threads)

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        return Gemm().cost(fusion.segments[1], target, params)

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        return Gemm().pack(fusion.segments[1], target, params)

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        g = conv_window(fusion.segments[1])
        return 4 * threads * g.in_blocks * chunk_of(fusion, params) * g.lanes

    def row_partitioned(self, fusion: Fusion, target: Target, params: Params) -> list[list[Value]]:
        return [*([x] for x in fusion.anchor.xs), fusion.segments[1].same_layout]  # type: ignore[attr-defined]

    def emit(self, k: KernelBuilder) -> None:
        _Code(k).emit()


def behind_gather(fusion: Fusion, target: Target) -> Fusion | None:
    """The second of two segments, where the first is a gather into scratch; None for any other fusion."""
    stages = fusion.segments
    if len(stages) != 2 or not isinstance(stages[0].anchor, TileChannelGather):
        return None
    gather, reader = stages
    alone = reader.anchor.operands[0] is gather.result and len(gather.result.uses) == 1
    # pixels have other offsets in scratch than in an operand of the epilogue
    near = all(operand_kind(v.type, gather.out) in ("scalar", "channel", "image") for v in gather.extra)
    return reader if alone and near and ChannelGatherKernel().accepts(gather, target) else None


def chunk_of(fusion: Fusion, params: Params) -> int:
    g, wanted = conv_window(fusion.segments[1]), int(params["chunk"])
    return min(wanted, g.oh * g.ow)


class _Code:
    """Tasks are (image or partition, chunk of pixels, part of the outputs).

    Outputs are divided only where there are too few chunks for all threads.
    """

    def __init__(self, k: KernelBuilder):
        assert k.scratch is not None
        gather, conv = k.fusion.segments
        anchor: Any = conv.anchor
        self.conv = replace(k, fusion=conv, args={**k.args, anchor.x: k.scratch})
        self.sources = sources = Sources(replace(k, fusion=gather, out=k.scratch), conv.map_rows(conv.result))
        g = conv_window(conv)
        self.chunk = min(chunk_of(k.fusion, k.params), sources.pixels)
        self.chunks = -(-sources.pixels // self.chunk)
        self.parts = 1 if sources.count * self.chunks % k.threads == 0 else k.threads
        self.plane = self.chunk * g.lanes
        self.scratch = chunk_of(k.fusion, k.params) * g.in_blocks * g.lanes
        part = replace(g, n=sources.count, h=g.h // sources.partitions, oh=g.oh // sources.partitions)
        self.products = [
            Product(self.conv, part, Channels(g), k.scratch, (0, self.plane), sources.result, *group, cached=True)
            for group in output_groups(g)
        ]  # fmt: skip

    def emit(self) -> None:
        k, b, pixels, parts = self.conv, self.conv.b, self.sources.pixels, self.parts
        rest = pixels % self.chunk
        with workers(b, k.threads) as worker:
            start, stop = share(worker, self.sources.count * self.chunks * parts, k.threads)
            self.place = b.let("place", worker * self.scratch)
            with b.loop("task", start, stop) as task:
                chunk, part = b.let("chunk", t.floordiv(task, parts)), b.let("part", t.floormod(task, parts))
                number, first = b.let("number", t.floordiv(chunk, self.chunks)), b.let("first", t.floormod(chunk, self.chunks) * self.chunk)
                # a worker's first task, and the first part of any chunk; later parts find the pixels in scratch
                fresh = t.any(t.EQ(task, start), t.EQ(part, 0)) if parts > 1 else None
                if not rest:
                    self._chunk(number, first, self.chunk, part, fresh)
                    return
                with b.when(first < pixels - rest):
                    self._chunk(number, first, self.chunk, part, fresh)
                with b.when(first >= pixels - rest):
                    self._chunk(number, pixels - rest, rest, part, fresh)

    def _chunk(self, number: Expr, first: Expr, count: int, part: Expr, fresh: Expr | None) -> None:
        """All outputs, or a part of them, for `count` pixels of an image or partition from the first on."""
        b = self.conv.b
        source = b.let("source", self.place - first * self.sources.lanes)
        with nullcontext() if fresh is None else b.when(fresh):
            self.sources.gather(number, first, first + count, source, self.plane)
        for product in self.products:
            with b.loop("group", *share(part, product.count, self.parts)) as group:
                product.begin(number, group, source)
                product.pixels(first, count)
