"""Integer convolution as a matrix product over flat pixels: register tiles of any pixels of the map times output vectors.

A pointwise convolution reads its input in place. Any other one first gathers patches into scratch (im2col), [input block][kernel row][kernel
column][pixel][channel], the zero point outside the map; then both are the same product, whatever strides, dilations and groups are.
Loops: (image, pixel chunk, output group) > pixel tile > input block and tap > dword of channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx as t

from ......ir.op import Value
from .....codegen.builder import Buffer, Expr, splat
from .....codegen.kernel_builder import KernelBuilder
from .....target import Target
from .....tile.fusion import Fusion, RowLayout
from .....tile.integer import TileIntConv2d
from ....template import Params, Template, kernel
from ...arithmetic.base import Arithmetic
from ...arithmetic.integers import arithmetic_named, fitting
from ...integer_tail import packs
from ...integer_tile import IntegerTile, max_rows, tile_cycles
from ...register_tile import cover, runs
from ...window import Window, balance, share, tasks, workers
from ..template import conv_window
from .finish import finish_tile
from .geometry import Groups, whole_bias
from .widen import WIDE, widen, widened, widening


class IntegerConv(Template):
    """Base of the templates of integer convolutions: required constants, and the arithmetics that fit the weights."""

    def scratch_dtype(self, fusion: Fusion) -> str:
        op: Any = fusion.anchor
        return "int16" if conv_window(fusion).pointwise else "uint8" if op.x.type.elem == "u8" else "int8"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        g = conv_window(fusion)
        known = all(v is None or fusion.array(v) is not None for v in (op.w, op.b, op.zero))
        return known and g.lanes == 16 and g.block_in in (4, 16)

    def variant(self, fusion: Fusion, target: Target) -> str:
        return " ".join([*self.fitting(fusion, target), *["packs"] * packs(fusion, target)]) if self.accepts(fusion, target) else ""

    def fitting(self, fusion: Fusion, target: Target) -> list[str]:
        """Names of the arithmetics that are exact for the layer, the fastest first."""
        op: Any = fusion.anchor
        w = fusion.array(op.w)
        assert w is not None
        panels = [p.reshape(-1, 4) for p in Groups(conv_window(fusion), target.lanes).panels(w)]
        return fitting(target, str(op.x.type.elem), np.concatenate(panels))

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        op: Any = fusion.anchor
        w, b, zero = (None if v is None else fusion.array(v) for v in (op.w, op.b, op.zero))
        assert w is not None and zero is not None
        g = conv_window(fusion)
        arithmetic = arithmetic_named(params["arithmetic"])
        bias = whole_bias(w, b, int(zero) - arithmetic.offset(str(op.x.type.elem)), g.out_blocks * g.lanes)
        weights = Groups(g, target.lanes).pack(w, arithmetic)
        # the bias is packed with the zero point, since a layer may have no bias operand
        return {op.w: weights, op.zero: np.concatenate([bias, np.full(1, int(zero), np.int32)])}


@kernel(TileIntConv2d)
class IntegerGemm(IntegerConv):
    name = "integer_gemm"
    strided_batch = True

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        g, groups = conv_window(fusion), Groups(conv_window(fusion), target.lanes)
        pixels, depth = g.oh * g.ow, groups.span * g.block_in * g.kh * g.kw
        count = sum(number for _, _, number in groups.groups)
        names, result = self.fitting(fusion, target), []
        wide = widening(target, names) if g.pointwise else []
        for name in [*wide, *names]:
            fit = max(1, min(pixels, target.l2 // 2 // depth // (WIDE if name in wide else 1)))
            result.append({"arithmetic": name, "chunk": balance(pixels, fit, g.n, count, threads, g.small_weights), "packs": packs(fusion, target)})
        return result

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        g, groups = conv_window(fusion), Groups(conv_window(fusion), target.lanes)
        arithmetic = arithmetic_named(params["arithmetic"])
        steps = groups.dwords * g.kh * g.kw * arithmetic.steps
        work = sum(count * tile_cycles(target, g.oh * g.ow, vectors, steps, arithmetic) for vectors, _, count in groups.groups)
        patches = 0 if g.pointwise else 4.0 * g.oh * g.ow * g.in_blocks * g.kh * g.kw
        widening = 2.0 * g.oh * g.ow * g.in_blocks if arithmetic.wide else 0
        return g.n * (work + patches + widening)

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        g = conv_window(fusion)
        if g.pointwise:
            wide = arithmetic_named(params["arithmetic"]).wide
            return threads * WIDE * widened(g, min(params["chunk"], g.oh * g.ow)) if wide else 0
        return g.n * g.oh * g.ow * g.in_blocks * g.kh * g.kw * g.block_in

    def emit(self, k: KernelBuilder) -> None:
        g, inputs = conv_window(k.fusion), k.fusion.map_rows(k.anchor.x)
        source, steps = k.args[k.anchor.x], inputs.cut(1)
        if not g.pointwise:
            assert k.scratch is not None
            gather_patches(k, g, inputs, k.args[k.anchor.x], k.scratch)
            plane = g.oh * g.ow * g.block_in
            source, steps = k.scratch, (g.in_blocks * g.kh * g.kw * plane, plane)
        groups = Groups(g, k.target.lanes)
        products, at = [], 0
        for vectors, first, count in groups.groups:
            products.append(Product(k, groups, source, steps, vectors, first, count, at))
            at += count * products[-1].panel
        threads = k.threads if any(p.tasks > 1 for p in products) else 1
        with workers(k.b, threads) as worker:
            for product in products:
                product.emit(worker, *share(worker, product.tasks, threads))


def gather_patches(k: KernelBuilder, g: Window, rows: RowLayout, x: Buffer, patches: Buffer) -> None:
    """patches[image][block][r][s][oy][ox][channel] = x[image][block][oy*sh - top + r*dh][ox*sw - left + s*dw][channel], or the zero point."""
    b, width = k.b, g.block_in
    fill = splat(t.Cast(x.dtype, b.load(k.args[k.anchor.zero], g.out_blocks * g.lanes)), width)
    with b.loop("task", 0, g.n * g.in_blocks, tasks(k.threads, g.n * g.in_blocks)) as task, b.range("r", 0, g.kh) as r, b.loop("oy", 0, g.oh) as oy:
        iy = b.let("iy", oy * g.sh - g.top + r * g.dh)
        inside = t.all(iy >= 0, iy < g.h)
        for s in range(g.kw):
            columns = g.columns(0, s, g.ow)
            lo, hi = (columns[0], columns[-1] + 1) if columns else (0, 0)
            to = b.let("to", (((task * g.kh + r) * g.kw + s) * g.oh + oy) * g.ow)
            start = b.let("start", rows.pixels(width).at(task, iy) - g.left + s * g.dw)
            with b.when(inside), b.loop("ox", lo, hi) as ox:
                b.store(patches, (to + ox) * width, b.load(x, (start + ox * g.sw) * width, width), width)
            with b.when(t.Not(inside)), b.loop("ox", lo, hi) as ox:
                b.store(patches, (to + ox) * width, fill, width)
            for first, last in ((0, lo), (hi, g.ow)):
                with b.loop("ox", first, last) as ox:
                    b.store(patches, (to + ox) * width, fill, width)


@dataclass
class Product:
    """The code of all output groups of `vectors` vectors. weights: the offset of their packed weights."""

    k: KernelBuilder
    groups: Groups
    source: Buffer
    #: elements to the next image, and to the next channel block (and tap), of the source
    steps: tuple[int, int]
    vectors: int
    first: int
    count: int
    weights: int

    @property
    def g(self) -> Window:
        return self.groups.g

    @property
    def arithmetic(self) -> Arithmetic:
        return arithmetic_named(self.k.params["arithmetic"])

    @property
    def panel(self) -> int:
        """Elements of the packed weights of a group."""
        g = self.g
        return self.groups.dwords * g.kh * g.kw * self.vectors * self.groups.lanes * self.arithmetic.each * self.arithmetic.steps

    @property
    def chunk(self) -> int:
        return min(int(self.k.params["chunk"]), self.g.oh * self.g.ow)

    @property
    def chunks(self) -> int:
        return -(-self.g.oh * self.g.ow // self.chunk)

    @property
    def tasks(self) -> int:
        """The number of tasks that threads share: one for each image, chunk and group."""
        return self.g.n * self.chunks * self.count

    def emit(self, worker: Expr, start: Expr, stop: Expr) -> None:
        """Tasks from `start` to before `stop`, of one thread."""
        g, b, chunk, chunks = self.g, self.k.b, self.chunk, self.chunks
        rest = g.oh * g.ow % chunk
        with b.loop("task", start, stop) as task:
            self.image = b.let("image", t.floordiv(task, chunks * self.count))
            part = b.let("part", t.floormod(t.floordiv(task, self.count), chunks))
            group = b.let("group", t.floormod(task, self.count))
            self.vector = b.let("vector", self.first + group * self.vectors)
            self.at = b.let("at", self.image * self.steps[0] + self.groups.first(self.vector) * (g.kh * g.kw * self.steps[1]))
            self.w_at = b.let("panel", self.weights + group * self.panel)
            if self.arithmetic.wide:
                self._widen(worker, part, t.any(t.EQ(group, 0), t.EQ(task, start)))
            if chunks == 1 or not rest:
                self._pixels(part * chunk, rest or chunk)
            else:
                with b.when(part < chunks - 1):
                    self._pixels(part * chunk, chunk)
                with b.when(part >= chunks - 1):
                    self._pixels((chunks - 1) * chunk, rest)

    def _widen(self, worker: Expr, part: Expr, first: Expr) -> None:
        """Read from scratch, which `widen` fills once for a chunk, in the `first` task of it."""
        k, g, b, chunk = self.k, self.g, self.k.b, self.chunk
        assert k.scratch is not None
        at = b.let("wide", worker * widened(g, chunk))
        with b.when(first):
            widen(k, g, k.scratch, at, self.image, part * chunk, t.min(chunk, g.oh * g.ow - part * chunk), chunk)
        self.source, self.steps = k.scratch, (0, chunk * g.block_in)
        self.at = b.let("at", at + (self.groups.first(self.vector) - part) * (chunk * g.block_in))

    def _pixels(self, start: Expr, count: int) -> None:
        """Tiles that cover `count` pixels exactly."""
        b, heights = self.k.b, cover(count, max_rows(self.k.target, self.vectors, self.arithmetic), self.vectors)
        before = 0
        for height, first, repeat in runs(heights):
            with b.range("tile", 0, repeat) as i:
                self._tile(height, b.let("pixel", start + first + i * height), before + i, len(heights))
            before += repeat

    def _tile(self, height: int, pixel: Expr, number: Expr, tiles: int) -> None:
        """The tile `number` of `tiles` that share a panel of weights."""
        k, g, b, lanes = self.k, self.g, self.k.b, self.groups.lanes
        tile = IntegerTile(b, self.arithmetic, height, self.vectors, lanes)
        tile.start(lambda j, _: b.load(k.args[k.anchor.zero], (self.vector + j) * lanes, lanes))
        taps = g.kh * g.kw
        for depth in self.groups.depths:
            with b.loop("kt", 0, depth.blocks * taps, "rolled") as kt:
                at = b.let("x_at", self.at + (kt + depth.first * taps) * self.steps[1] + pixel * g.block_in)
                rows = [(i, at + i * g.block_in) for i in range(height)]
                steps = self.arithmetic.steps
                panel = b.let("w_at", self.w_at + (depth.before * taps + kt * depth.steps) * (steps * tile.panel))
                tile.fetch(k.args[k.anchor.w], panel + self.panel, steps * depth.steps, number, tiles)
                tile.steps(self.source, rows, k.args[k.anchor.w], panel, steps * depth.steps)
        finish_tile(k, self.groups, tile, self.vector, pixel, self.image)
