"""Linear layers of stored integers: register tiles of rows times output vectors, over panels packed at compile time.

Loops: (row chunk, panel) > row tile > dword of K. The last dword of a row may reach into the next row, where weights are 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx as t

from ....ir.op import Value
from ...codegen.builder import Expr
from ...codegen.kernel_builder import KernelBuilder
from ...target import Target
from ...tile.fusion import Fusion
from ...tile.integer import IntLinear
from ..template import Params, Template, kernel
from .arithmetic.base import STEP, Arithmetic
from .arithmetic.integers import arithmetic_named, fitting
from .integer_tile import IntegerTile, max_rows, tile_cycles
from .register_tile import cover, runs
from .window import share, workers

#: Vectors of a panel.
VECTORS = 2


@dataclass(frozen=True)
class Shape:
    """M rows of K times N outputs in vectors of `lanes`."""

    m: int
    k: int
    n: int
    lanes: int

    @property
    def steps(self) -> int:
        return -(-self.k // STEP)

    @property
    def blocks(self) -> int:
        return -(-self.n // self.lanes)

    @property
    def panels(self) -> list[tuple[int, int, int, int]]:
        """(vectors, first vector, panels, outputs of the last vector); the last panel is an entry of its own where its last vector is not full."""
        vectors = min(VECTORS, self.blocks)
        whole, rest = divmod(self.blocks, vectors)
        live = self.n % self.lanes or self.lanes
        result = [(vectors, 0, whole, self.lanes)] if rest or live == self.lanes else [(vectors, 0, whole - 1, self.lanes)]
        if rest:
            result.append((rest, whole * vectors, 1, live))
        elif live != self.lanes:
            result.append((vectors, (whole - 1) * vectors, 1, live))
        return [p for p in result if p[2]]

    def weights(self, w: np.ndarray) -> np.ndarray:
        """(N, K) i8 -> (vector, lane, step, 4), zeros beyond N and K."""
        full = np.zeros((self.blocks * self.lanes, self.steps * STEP), np.int8)
        full[: self.n, : self.k] = w
        return full.reshape(self.blocks, self.lanes, self.steps, STEP)

    def pack(self, w: np.ndarray, arithmetic: Arithmetic) -> np.ndarray:
        """Panels, one forward stream each: [panel][step][vector][lane][4]."""
        full, parts = self.weights(w), []
        for vectors, first, count, _ in self.panels:
            panels = full[first : first + vectors * count].reshape(count, vectors, self.lanes, self.steps, STEP)
            parts.append(arithmetic.pack(np.ascontiguousarray(panels.transpose(0, 3, 1, 2, 4))).reshape(-1))
        return np.concatenate(parts)


@kernel(IntLinear)
class IntegerDense(Template):
    name = "integer_dense"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        return all(v is None or fusion.array(v) is not None for v in (op.w, op.b, op.zero))

    def variant(self, fusion: Fusion, target: Target) -> str:
        return " ".join(self._fitting(fusion, target)) if self.accepts(fusion, target) else ""

    def _fitting(self, fusion: Fusion, target: Target) -> list[str]:
        op: Any = fusion.anchor
        w = fusion.array(op.w)
        assert w is not None
        return fitting(target, str(op.x.type.elem), _shape(fusion, target).weights(w))

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        return [{"arithmetic": name} for name in self._fitting(fusion, target)]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        s, arithmetic = _shape(fusion, target), arithmetic_named(params["arithmetic"])
        return sum(count * tile_cycles(target, s.m, vectors, s.steps, arithmetic) for vectors, _, count, _ in s.panels)

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        op: Any = fusion.anchor
        s = _shape(fusion, target)
        w, b, zero = (None if v is None else fusion.array(v) for v in (op.w, op.b, op.zero))
        assert w is not None and zero is not None
        arithmetic = arithmetic_named(params["arithmetic"])
        sums = (0 if b is None else b.astype(np.int64)) - (int(zero) - arithmetic.offset(str(op.x.type.elem))) * w.sum(1, dtype=np.int64)
        bias = np.zeros(s.blocks * s.lanes, np.int64)
        bias[: s.n] = sums
        return {op.w: s.pack(w, arithmetic), op.zero: (bias & 0xFFFFFFFF).astype(np.uint32).view(np.int32)}

    def emit(self, k: KernelBuilder) -> None:
        s, arithmetic, b = _shape(k.fusion, k.target), arithmetic_named(k.params["arithmetic"]), k.b
        at, products = 0, []
        for vectors, first, count, live in s.panels:
            rows = min(s.m, 8 * max_rows(k.target, vectors, arithmetic))
            products.append((vectors, first, count, live, at, rows, count * -(-s.m // rows)))
            at += count * vectors * s.steps * s.lanes * arithmetic.each
        threads = k.threads if any(p[-1] > 1 for p in products) else 1
        with workers(b, threads) as worker:
            for vectors, first, count, live, weights, rows, tasks in products:
                with b.loop("task", *share(worker, tasks, threads)) as task:
                    panel, chunk = b.let("panel", t.floormod(task, count)), b.let("chunk", t.floordiv(task, count))
                    w_at = b.let("w_at", weights + panel * (vectors * s.steps * s.lanes * arithmetic.each))
                    vector = b.let("vector", first + panel * vectors)
                    whole, rest = divmod(s.m, rows)
                    if whole:
                        with b.when(chunk < whole):
                            _rows(k, s, arithmetic, vectors, live, w_at, vector, chunk * rows, rows)
                    if rest:
                        with b.when(chunk >= whole):
                            _rows(k, s, arithmetic, vectors, live, w_at, vector, whole * rows, rest)


def _shape(fusion: Fusion, target: Target) -> Shape:
    op: Any = fusion.anchor
    *lead, n = op.out.shape
    return Shape(math.prod(lead), op.w.shape[1], n, target.lanes)


def _rows(k: KernelBuilder, s: Shape, arithmetic: Arithmetic, vectors: int, live: int, w_at: Expr, vector: Expr, start: Expr, count: int) -> None:
    """Register tiles that cover `count` rows of a panel; the last vector has `live` outputs."""
    b, op = k.b, k.anchor
    for height, first, repeat in runs(cover(count, max_rows(k.target, vectors, arithmetic), vectors)):
        with b.range("tile", 0, repeat) as i:
            row = b.let("row", start + first + i * height)
            tile = IntegerTile(b, arithmetic, height, vectors, s.lanes)
            tile.start(lambda j, _: b.load(k.args[op.zero], (vector + j) * s.lanes, s.lanes))
            tile.steps(k.args[op.x], [(r, b.let("x_at", (row + r) * s.k)) for r in range(height)], k.args[op.w], w_at, s.steps)
            for j in range(vectors):
                lanes = live if j == vectors - 1 else s.lanes
                for r in range(height):
                    column = (vector + j) * s.lanes
                    k.finish(b.load(tile.acc[r][j], 0, lanes), (row + r) * s.n + column, column, 0, lanes)
