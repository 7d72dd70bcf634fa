"""Matrix products: register tiles of rows times output vectors, over panels of `vectors` * lanes columns.

A constant matrix is packed into panels at compile time, [matrix][panel][K][columns], one forward stream. A computed one is packed into
scratch by the kernel itself where there are enough rows, and else read in place. Loops: (matrix, row chunk, panel) > row tile > K.

With few rows, reading the weights is the cost: panels are as wide as registers allow, and every weight vector is used for all rows at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from tvm import tirx as t

from ....ir.op import Value
from ....ir.ops import Linear, Matmul
from ...codegen.builder import Buffer, Expr
from ...codegen.kernel_builder import KernelBuilder
from ...codegen.prefetch import LINE, shared_prefetch
from ...target import Target
from ...tile.fusion import Fusion
from ..packed import Packed
from ..template import Params, Template, kernel
from .nest import vector
from .register_tile import Tile, cover, runs
from .window import share, tasks, workers

#: Rows from which a computed matrix is worth packing, and the bytes of one of its rows from which reading it in place is slow.
PACK_ROWS, PACK_BYTES = 48, 1024
#: Cache lines of weights to prefetch ahead of use where a single tile reads them.
PREFETCH_DISTANCE = 16
#: Most rows of a dense layer that is bound by memory.
ROWS = 4
#: Multiples of the second-level cache that prefetched weights may fill, to be still in the third when they are read, after other kernels.
ROOM = 8


@dataclass(frozen=True)
class Panels:
    """`count` neighbouring panels of `vectors` vectors from block `first` on; only the first `live` columns of the last block exist."""

    vectors: int
    first: int
    count: int
    live: int


@dataclass(frozen=True)
class Geometry:
    """`matrices` products (M, K) @ (K, N), whose operands may repeat over some of the leading dimensions."""

    fusion: Fusion
    target: Target

    @cached_property
    def op(self) -> Any:
        return self.fusion.anchor

    @property
    def linear(self) -> bool:
        return isinstance(self.op, Linear)

    @property
    def left(self) -> Value:
        value: Value = self.op.x if self.linear else self.op.a
        return value

    @property
    def right(self) -> Value:
        value: Value = self.op.w if self.linear else self.op.b
        return value

    @cached_property
    def flat(self) -> bool:
        """Whether there is one right matrix for all rows, so that the leading dimensions are just more rows."""
        return self.linear or math.prod(self.right.shape[:-2]) == 1

    @cached_property
    def batch(self) -> tuple[int, ...]:
        return () if self.flat else self.fusion.anchor.out.shape[:-2]

    @property
    def m(self) -> int:
        shape: tuple[int, ...] = self.op.out.shape
        return math.prod(shape[:-1]) if self.flat else shape[-2]

    @property
    def k(self) -> int:
        return self.left.shape[-1]

    @property
    def n(self) -> int:
        width: int = self.op.out.shape[-1]
        return width

    @property
    def matrices(self) -> int:
        return math.prod(self.batch)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the sums; an epilogue may round them to narrower integers."""
        dtype: np.dtype = self.op.out.type.dtype
        return dtype

    @cached_property
    def lanes(self) -> int:
        return vector(self.target, self.dtype)

    @property
    def constant(self) -> bool:
        return self.fusion.array(self.right) is not None

    @property
    def packed(self) -> int:
        """Elements of all right matrices in panels."""
        return self.right_matrices * self.k * self.blocks * self.lanes

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def blocks(self) -> int:
        return -(-self.n // self.lanes)

    @property
    def packs(self) -> bool:
        """Whether the kernel packs the right matrix itself."""
        return not self.constant and self.m >= PACK_ROWS and self.n * self.itemsize >= PACK_BYTES

    @property
    def right_matrices(self) -> int:
        return math.prod(self.right.shape[:-2]) if not self.flat else 1

    def panels(self, vectors: int) -> list[Panels]:
        """Panels of nearly equal width, at most `vectors`; one that ends in a partial block is separate."""
        count = -(-self.blocks // vectors)
        base, wider = divmod(self.blocks, count)
        widths = [base + 1] * wider + [base] * (count - wider)
        result: list[Panels] = []
        first = 0
        for i, width in enumerate(widths):
            live = i == count - 1 and self.n % self.lanes
            if result and result[-1].vectors == width and not live:
                last = result[-1]
                result[-1] = Panels(width, last.first, last.count + 1, self.lanes)
            else:
                result.append(Panels(width, first, 1, live or self.lanes))
            first += width
        return result

    def matrix_of(self, index: Expr, operand: Value) -> Expr:
        """Which matrix of an operand the product `index` reads."""
        lead = operand.shape[:-2]
        if self.flat or math.prod(lead) == 1:
            return 0
        shape = (1,) * (len(self.batch) - len(lead)) + lead
        result: Expr = 0
        stride, inner = 1, 1
        for size, own in zip(reversed(self.batch), reversed(shape)):
            if own > 1:
                result = result + t.floormod(t.floordiv(index, inner), size) * stride
                stride *= own
            inner *= size
        return index if shape == self.batch else result


def tile_rows(target: Target, vectors: int) -> int:
    """Rows of a register tile beside the weight vectors, a broadcast, and one register to spare: with none, compilers spill."""
    return max(1, min((target.registers - vectors - 2) // vectors, 24 if target.registers == 32 else 12))


@kernel(Linear, Matmul)
class Dense(Template):
    name = "dense"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        g = Geometry(fusion, target)
        return g.op.out.type.elem in ("f32", "f64", "i32") and (g.constant or not g.linear)

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        g = Geometry(fusion, target)
        result = []
        for vectors in sorted({min(v, g.blocks) for v in (1, 2, 3, 4)}):
            rows = tile_rows(target, vectors)
            fit = max(1, target.l2 // 2 // (g.k * g.itemsize) // rows) * rows
            if threads > 1 and g.matrices * sum(p.count for p in g.panels(vectors)) < 4 * threads:
                # too few panels for the threads: they divide rows
                fit = min(fit, -(-g.m // (2 * threads)))
            chunks = -(-g.m // max(fit, 1))
            result.append({"vectors": vectors, "chunk": min(g.m, -(-g.m // chunks // rows) * rows)})
        return sorted(result, key=lambda p: self.cost(fusion, target, p))

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        g = Geometry(fusion, target)
        total = 0.0
        for p in g.panels(params["vectors"]):
            biggest = tile_rows(target, p.vectors)
            tiles = cover(min(g.m, 8 * biggest), biggest, p.vectors)
            for m in tiles:
                loads = m + p.vectors
                step = max(m * p.vectors / 2, 4.25, loads / 2) + 0.05 * loads
                total += p.count * (g.k * step + 20 + 3 * m * p.vectors) * max(1.0, g.m / sum(tiles))
        # the cost of streaming the weights is the same for all
        return total * g.matrices + g.right_matrices * g.k * g.n * g.itemsize / 8

    def pack(self, fusion: Fusion, target: Target, params: Params) -> Mapping[Value, np.ndarray | Packed]:
        g = Geometry(fusion, target)
        array = fusion.array(g.right)
        if array is None:
            return {}
        matrices = array.T[None] if g.linear else array.reshape(-1, g.k, g.n)
        places = [(p.first * g.lanes, p.vectors * g.lanes, p.count) for p in g.panels(params["vectors"])]
        size = len(matrices) * g.k * g.blocks * g.lanes
        return {g.right: Packed(size, str(g.dtype), array, ("dense", g.linear, g.k, g.n, *places), partial(_write_panels, matrices, places))}

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        g = Geometry(fusion, target)
        return g.packed * g.itemsize if g.packs and g.itemsize == 4 else 0

    def streamed_weights(self, fusion: Fusion, target: Target) -> tuple[Value, int] | None:
        """The weights, where there are few rows and all weights stay in the third-level cache."""
        g = Geometry(fusion, target)
        streams = g.constant and g.m <= ROWS and g.right.type.elem == "f32" and g.right.type.nbytes <= ROOM * target.l2
        return (g.right, g.packed) if streams else None

    def emit(self, k: KernelBuilder) -> None:
        g = Geometry(k.fusion, k.target)
        source = k.args[g.right]
        if k.scratch is not None:
            _pack(k, g, source, k.scratch)
            source = k.scratch
        products = [_Product(k, g, source, panels, g.constant or k.scratch is not None) for panels in g.panels(k.params["vectors"])]
        threads = k.threads if any(p.tasks > 1 for p in products) else 1
        # one loop over threads around all products: none has to wait for another
        with workers(k.b, threads) as worker:
            for product in products:
                product.emit(*share(worker, product.tasks, threads))


def _write_panels(matrices: np.ndarray, places: Sequence[tuple[int, int, int]], packed: np.ndarray) -> None:
    """Matrices (number, K, N) into panels (first column, width, count), with zeros beyond N."""
    k = matrices.shape[1]
    rows = packed.reshape(len(matrices), -1)
    for first, width, count in places:
        panels = rows[:, first * k : (first + count * width) * k].reshape(-1, count, k, width)
        for i in range(count):
            columns = matrices[:, :, first + i * width : first + (i + 1) * width]
            panels[:, i, :, : columns.shape[-1]] = columns
            panels[:, i, :, columns.shape[-1] :] = 0


def _pack(k: KernelBuilder, g: Geometry, source: Buffer, panels: Buffer) -> None:
    """The right matrices, [matrix][K][N], into panels."""
    b, lanes = k.b, g.lanes
    with b.loop("task", 0, g.right_matrices * g.k, tasks(k.threads, g.right_matrices * g.k)) as task:
        matrix, row = b.let("matrix", t.floordiv(task, g.k)), b.let("row", t.floormod(task, g.k))
        for p in g.panels(k.params["vectors"]):
            width = p.vectors * lanes
            with b.range("panel", 0, p.count) as i:
                to = b.let("to", matrix * (g.k * g.blocks * lanes) + (p.first * lanes + i * width) * g.k + row * width)
                at = b.let("at", task * g.n + p.first * lanes + i * width)
                for j in range(p.vectors):
                    b.store(panels, to + j * lanes, b.load(source, at + j * lanes, lanes), lanes)


@dataclass
class _Product:
    """The code of all panels of one width."""

    k: KernelBuilder
    g: Geometry
    right: Buffer
    panels: Panels
    packed: bool

    @property
    def chunk(self) -> int:
        rows: int = self.k.params["chunk"]
        return rows

    @property
    def chunks(self) -> int:
        return -(-self.g.m // self.chunk)

    @property
    def tasks(self) -> int:
        """Number of tasks to divide among threads: one for each matrix, chunk and panel."""
        return self.g.matrices * self.chunks * self.panels.count

    def emit(self, start: Expr, stop: Expr) -> None:
        """Tasks from `start` to before `stop`."""
        g, b, p = self.g, self.k.b, self.panels
        chunk, chunks, rest = self.chunk, self.chunks, self.g.m % self.chunk
        with b.loop("task", start, stop) as task:
            matrix = b.let("matrix", t.floordiv(task, chunks * p.count))
            part = b.let("part", t.floormod(t.floordiv(task, p.count), chunks))
            panel = b.let("panel", t.floormod(task, p.count))
            self.column = b.let("column", (p.first + panel * p.vectors) * g.lanes)
            right = g.matrix_of(matrix, g.right)
            if self.packed:
                self.at = b.let("at", right * (g.k * g.blocks * g.lanes) + self.column * g.k)
            else:
                self.at = b.let("at", right * (g.k * g.n) + self.column)
            self.left = b.let("left", g.matrix_of(matrix, g.left) * (g.m * g.k))
            self.out = b.let("out", matrix * (g.m * g.n))
            for first, rows, condition in self._chunks(part, chunks, chunk, rest):
                if condition is None:
                    self._rows(first, rows)
                else:
                    with b.when(condition):
                        self._rows(first, rows)

    @staticmethod
    def _chunks(part: Expr, chunks: int, chunk: int, rest: int) -> Iterator[tuple[Expr, int, Expr]]:
        """(first row, rows, when) of the full chunks and of the last one."""
        if not rest or chunks == 1:
            yield part * chunk, rest or chunk, None
        else:
            yield part * chunk, chunk, part < chunks - 1
            yield (chunks - 1) * chunk, rest, part >= chunks - 1

    def _rows(self, start: Expr, count: int) -> None:
        """Register tiles that cover `count` rows exactly."""
        b = self.k.b
        tiles = cover(count, tile_rows(self.k.target, self.panels.vectors), self.panels.vectors)
        done = 0
        for height, first, repeat in runs(tiles):
            with b.range("tile", 0, repeat) as i:
                self._tile(height, b.let("row", start + first + i * height), done + i, len(tiles))
            done += repeat

    def _tile(self, height: int, row: Expr, index: Expr, tiles: int) -> None:
        """One register tile, `index` of the `tiles` that share a panel: each prefetches its part of the next panel."""
        k, g, b, p = self.k, self.g, self.k.b, self.panels
        lanes = g.lanes
        tile = Tile(b, height, p.vectors, lanes, str(g.dtype))
        bias = k.args[g.op.b] if g.linear and g.op.b is not None else None
        tile.start(None if bias is None else lambda j: b.load(bias, self.column + j * lanes, lanes))
        x = k.args[g.left]
        base = b.let("x", self.left + row * g.k)
        step = p.vectors * lanes if self.packed else g.n

        fetch = None
        if self.packed and g.itemsize == 4:
            fetch = shared_prefetch(b, self.right, self.at + (PREFETCH_DISTANCE * LINE if tiles == 1 else g.k * step), g.k * step, index, tiles)
        tile.channels(x, [(r, base + r * g.k) for r in range(height)], self.right, self.at, g.k, down=step, prefetch=fetch)
        for j in range(p.vectors):
            live = p.live if j == p.vectors - 1 else lanes
            for i in range(height):
                column = self.column + j * lanes
                value = b.load(tile.acc[i][j], 0, live)
                k.finish(value, b.let("offset", self.out + (row + i) * g.n + column), column, 0, live)
