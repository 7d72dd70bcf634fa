"""Pointwise convolution that multiplies only by weights that are not zero: rows of pairs (channel, weight), vectors of pixels.

Feature maps are blocked, so a vector holds the channels of one pixel, and single zeros would save nothing. So a chunk of pixels is transposed
into scratch, where a vector holds neighbouring pixels of one channel. Each output then adds weight times channel for its own weights, and a
block of outputs is transposed back for the epilogue (Elsen et al., 1911.09723, do the same with feature maps in that layout throughout).
Loops: (image, chunk) > output block > output > weight > vector of the chunk. The code is the same for all layers of a shape: it reads the positions
of the weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx as t

from .....ir.op import Value
from ....codegen.builder import Expr, const, splat
from ....codegen.kernel_builder import KernelBuilder
from ....codegen.shuffles import transposed
from ....target import Target
from ....tile.fusion import Fusion
from ....tile.ops import TileConv2d
from ...template import Params, Template, kernel
from ..conv.template import conv_window, padded_bias
from ..window import Window, share, workers

#: Layers with a smaller share of zeros are never considered.
LEAST = 0.5
#: Vectors of pixels in a chunk: more share the reading of a weight, fewer keep the chunk in the first caches.
VECTORS = (4, 2, 8)
#: Cycles of a vector multiply-add, by where the chunk of pixels is; further cycles of a weight and of an output.
#: They are in the measured proportion to those of `gemm`: bench/sparse_kernels.py.
IN_L1, IN_L2, BEYOND = 0.5, 0.85, 2.0
PER_WEIGHT, PER_OUTPUT = 1.0, 8.0
#: Bytes of a first-level cache that the chunk may take.
L1 = 32 << 10


class SparseConv(Template):
    """Base of the kernels for floats and for integers, whose sums are floats too."""

    #: Cycles of a vector that is transposed, converted on the way where it is not of floats.
    per_transposed = 4.0

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        g = conv_window(fusion)
        return g.pointwise and g.groups == 1 and g.lanes > 0 and g.block_in == g.lanes and zeros(fusion, op.w) >= LEAST

    def code(self, k: KernelBuilder, g: Window, image: Expr, at: Expr, chunk: int) -> Chunk:
        """The code of a chunk of pixels."""
        return Chunk(k, g, image, at, chunk)

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        g = conv_window(fusion)
        most = -(-g.oh * g.ow // target.lanes)
        return [{"vectors": v} for v in dict.fromkeys(min(v, most) for v in VECTORS)]

    def variant(self, fusion: Fusion, target: Target) -> str:
        op: Any = fusion.anchor
        return f"zeros {zeros(fusion, op.w):.2f}" if self.accepts(fusion, target) else ""

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        op: Any = fusion.anchor
        w = fusion.array(op.w)
        assert w is not None
        g, vectors, weights = conv_window(fusion), params["vectors"], int(np.count_nonzero(w))
        pixels = -(-g.oh * g.ow // target.lanes)
        chunks = -(-pixels // vectors)
        size = g.in_blocks * g.lanes * vectors * target.lanes * 4
        add = IN_L1 if size <= L1 else IN_L2 if size <= target.l2 // 2 else BEYOND
        # with few vectors the additions of one output wait for each other: four cycles
        adds = weights * (pixels * add + chunks * (PER_WEIGHT + max(0.0, 4 - vectors) / 2))
        moved = pixels * g.lanes * (g.in_blocks + g.out_blocks) * self.per_transposed
        return float(g.n * (adds + chunks * g.out_blocks * g.lanes * PER_OUTPUT + moved))

    def weights(self, fusion: Fusion, target: Target, params: Params) -> np.ndarray:
        """The weights that are not zero, and their places."""
        op: Any = fusion.anchor
        g = conv_window(fusion)
        w = fusion.array(op.w)
        assert w is not None
        return pack_rows(w[:, :, 0, 0], g.out_blocks * g.lanes, params["vectors"] * target.lanes)

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        g = conv_window(fusion)
        return 4 * threads * scratch_elements(g, params["vectors"] * target.lanes)

    def note(self, fusion: Fusion, target: Target, chosen: str) -> str:
        """Which kernel a layer with zeros runs on, and why."""
        op: Any = fusion.anchor
        share = zeros(fusion, op.w)
        if share < LEAST:
            return ""
        here = f"{100 * share:.0f} % zeros"
        if chosen == self.name:
            return f"{here}: sparse kernel"
        if not self.accepts(fusion, target):
            return f"{here}: dense kernel ({chosen}), for it is not an ungrouped 1x1 convolution of stride 1 on a blocked map"
        cost = min(self.cost(fusion, target, p) for p in self.candidates(fusion, target, 1))
        return f"{here}: dense kernel ({chosen}), for the sparse one would take {cost:,.0f} cycles, as modelled"

    def emit_chunks(self, k: KernelBuilder) -> None:
        """The code; `emit` of a subclass calls it, beside the facts that hold for it."""
        g, b = conv_window(k.fusion), k.b
        chunk, pixels = k.params["vectors"] * k.target.lanes, g.oh * g.ow
        chunks, rest = -(-pixels // chunk), pixels % chunk
        threads = k.threads if g.n * chunks > 1 else 1
        with workers(b, threads) as worker, b.loop("task", *share(worker, g.n * chunks, threads)) as task:
            code = self.code(k, g, b.let("image", t.floordiv(task, chunks)), worker * scratch_elements(g, chunk), chunk)
            part = b.let("part", t.floormod(task, chunks))
            if not rest:
                code.emit(b.let("pixel", part * chunk), chunk)
            elif chunks == 1:
                code.emit(0, rest)
            else:
                with b.when(part < chunks - 1):
                    code.emit(b.let("pixel", part * chunk), chunk)
                with b.when(part >= chunks - 1):
                    code.emit((chunks - 1) * chunk, rest)


@kernel(TileConv2d)
class SparsePointwise(SparseConv):
    name = "sparse_pointwise"
    strided_batch = True
    masked_stores = True

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        op: Any = fusion.anchor
        g = conv_window(fusion)
        packed = {op.w: self.weights(fusion, target, params)}
        if op.b is not None:
            packed[op.b] = padded_bias(fusion.array(op.b), g.o, g.lanes)
        return packed

    def emit(self, k: KernelBuilder) -> None:
        self.emit_chunks(k)


def zeros(fusion: Fusion, w: Value) -> float:
    """The share of a layer's weights that is zero; 0 where they are not constant."""
    array = fusion.array(w)
    return 0.0 if array is None or not array.size else 1 - np.count_nonzero(array) / array.size


def scratch_elements(g: Window, chunk: int) -> int:
    """Scratch of a thread: a chunk of all input channels, and one of a block of outputs."""
    return (g.in_blocks + 1) * g.lanes * chunk


def pack_rows(w: np.ndarray, rows: int, chunk: int) -> np.ndarray:
    """(O, C) -> i32: where each of `rows` outputs begins and the last ends, in pairs; then the pairs: place of the channel in scratch, bits of the
    weight."""
    output, channel = np.nonzero(w)
    starts = np.searchsorted(output, np.arange(rows + 1)).astype(np.int32)
    pairs = np.stack([(channel * chunk).astype(np.int32), np.ascontiguousarray(w[output, channel], np.float32).view(np.int32)], axis=1)
    return np.concatenate([starts, pairs.reshape(-1)])


class Chunk:
    """The code of one chunk of pixels of an image; `at`: where the thread's scratch begins. A channel block has one vector or several."""

    def __init__(self, k: KernelBuilder, g: Window, image: Expr, at: Expr, chunk: int):
        self.k, self.g, self.image, self.at, self.chunk, self.lanes = k, g, image, at, chunk, k.target.lanes
        self.source, self.result = k.fusion.map_rows(k.anchor.x).cut(1), k.fusion.map_rows(k.fusion.result).cut(1)
        assert k.scratch is not None
        self.scratch = k.scratch
        self.tile = at + g.in_blocks * g.lanes * chunk

    def emit(self, pixel: Expr, count: int) -> None:
        """`count` pixels from `pixel` on."""
        g, b, lanes = self.g, self.k.b, self.lanes
        vectors = -(-count // lanes)
        with b.loop("block", 0, g.in_blocks) as block, b.range("part", 0, g.lanes // lanes) as part:
            at = b.let("x_at", self.image * self.source[0] + block * self.source[1] + pixel * g.lanes + part * lanes)
            to = b.let("to", self.at + (block * g.lanes + part * lanes) * self.chunk)
            self._each_vector(count, lambda v, live: self._transpose_in(at, to, v, live))
        with b.loop("out_block", 0, g.out_blocks) as block:
            with b.loop("lane", 0, g.lanes) as lane:
                self._output(b.let("output", block * g.lanes + lane), b.let("to", self.tile + lane * self.chunk), vectors)
            offset = b.let("offset", self.image * self.result[0] + block * self.result[1] + pixel * g.lanes)
            self._each_vector(count, lambda v, live: self._transpose_out(offset, block, v, live))

    def _each_vector(self, count: int, write: Any) -> None:
        """write(number, live pixels) for the vectors of a chunk: whole ones in a loop."""
        whole, rest = divmod(count, self.lanes)
        if whole:
            with self.k.b.range("v", 0, whole) as v:
                write(v, self.lanes)
        if rest:
            write(whole, rest)

    def _transpose_in(self, at: Expr, to: Expr, v: Expr, live: int) -> None:
        """scratch[channel][pixel] = x[pixel][channel]; pixels that are not live are 0."""
        b, lanes = self.k.b, self.lanes
        rows = [b.let("row", self.read(at + (v * lanes + i) * self.g.lanes)) if i < live else const(0.0, lanes=lanes) for i in range(lanes)]
        for channel, vector in enumerate(transposed(rows)):
            b.store(self.scratch, to + channel * self.chunk + v * lanes, vector, lanes)

    def read(self, at: Expr) -> Expr:
        """A vector of channels of one pixel, as floats."""
        return self.k.b.load(self.k.args[self.k.anchor.x], at, self.lanes)

    def bias(self, output: Expr) -> Expr | None:
        """What the sums of an output start with, a float; None for 0."""
        k = self.k
        return None if k.anchor.b is None else k.b.load(k.args[k.anchor.b], output)

    def _output(self, output: Expr, to: Expr, vectors: int) -> None:
        """All sums of one output, of a chunk of pixels."""
        k, b, lanes = self.k, self.k.b, self.lanes
        w, bias = k.args[k.anchor.w], self.bias(output)
        sums = [b.local(lanes) for _ in range(vectors)]
        start = const(0.0, lanes=lanes) if bias is None else b.let("bias", splat(bias, lanes))
        for s in sums:
            b.store(s, 0, start, lanes)
        pairs = self.g.out_blocks * self.g.lanes + 1
        first, last = b.let("first", b.load(w, output)), b.let("last", b.load(w, output + 1))
        with b.loop("number", 0, last - first) as number:
            place = b.let("place", pairs + 2 * (first + number))
            row = b.let("row", self.at + b.load(w, place))
            weight = b.let("weight", splat(t.reinterpret("float32", b.load(w, place + 1)), lanes))
            for v, s in enumerate(sums):
                b.store(s, 0, b.load(s, 0, lanes) + weight * b.load(self.scratch, row + v * lanes, lanes), lanes)
        for v, s in enumerate(sums):
            b.store(self.scratch, to + v * lanes, b.load(s, 0, lanes), lanes)

    def _transpose_out(self, offset: Expr, block: Expr, v: Expr, live: int) -> None:
        """The epilogue on the sums of a block of outputs, pixel by pixel."""
        b, lanes = self.k.b, self.lanes
        parts = []
        for part in range(0, self.g.lanes, lanes):
            rows = [b.let("row", b.load(self.scratch, self.tile + (part + i) * self.chunk + v * lanes, lanes)) for i in range(lanes)]
            parts.append([b.value(p) for p in transposed(rows)[:live]])
        self.write([list(pixel) for pixel in zip(*parts)], b.let("at", offset + v * (lanes * self.g.lanes)), block)

    def write(self, pixels: list[list[Expr]], at: Expr, block: Expr) -> None:
        """The epilogue on neighbouring pixels, each the vectors of a channel block, and their stores."""
        lanes = self.lanes
        self.k.finish_rows(len(pixels), lambda i: pixels[i][0], at, lanes, block * lanes, self.image, lanes)
