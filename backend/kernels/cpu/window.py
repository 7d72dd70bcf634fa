"""The geometry of a convolution or pool on blocked tensors, and the border arithmetic of their kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tvm import tirx as t

from ....ir.op import Value
from ....ir.types import Tensor
from ...codegen.builder import Builder, Expr
from ...tile.ops import block, logical_type
from .register_tile import cover, runs

#: Weights count as few up to this many times the elements of the layer's input.
FEW = 4


@dataclass(frozen=True)
class Window:
    """A window sliding over a map: (N, C, H, W) -> (N, O, OH, OW)."""

    n: int
    c: int
    h: int
    w: int
    o: int
    oh: int
    ow: int
    kh: int
    kw: int
    sh: int
    sw: int
    top: int
    left: int
    dh: int = 1
    dw: int = 1
    groups: int = 1
    block_in: int = 0
    lanes: int = 0

    @property
    def pointwise(self) -> bool:
        """Whether output pixel i reads only input pixel i."""
        return (self.kh, self.kw, self.sh, self.sw, self.top, self.left) == (1, 1, 1, 1, 0, 0) and (self.h, self.w) == (self.oh, self.ow)

    @property
    def depthwise(self) -> bool:
        """Whether every channel is convolved separately."""
        return 1 < self.groups == self.c == self.o

    @property
    def small_weights(self) -> bool:
        """Whether the weights are few relative to the input: then threads divide the feature map, and each reads all weights.

        Weights that every thread reads are cheaper than as many activations that move from one thread's cache to another's.
        """
        return self.o * self.c // self.groups * self.kh * self.kw <= FEW * self.n * self.c * self.h * self.w

    @property
    def out_blocks(self) -> int:
        return -(-self.o // self.lanes)

    @property
    def in_blocks(self) -> int:
        return -(-self.c // self.block_in) if self.block_in else self.c

    def columns(self, x: int, s: int, count: int, width: int | None = None) -> list[int]:
        """Of output columns x .. x + count - 1, those (counted from x) whose tap s is inside the map. After a row follows the next one."""
        w = self.w if width is None else width
        return [i for i in range(count) if 0 <= (x + i) % self.ow * self.sw - self.left + s * self.dw < w]

    @property
    def whole_rows(self) -> tuple[int, int]:
        """First and one past the last of the output rows all whose taps lie inside the map (none where the first is not the smaller)."""
        return -(-self.top // self.sh), min(self.oh, (self.h - 1 + self.top - (self.kh - 1) * self.dh) // self.sh + 1)

    def rows(self, b: Builder, oy: Expr) -> tuple[Expr, Expr]:
        """First and one past the last kernel row that lies inside the map for output row oy."""
        return span(
            b, oy * self.sh - self.top, self.kh, self.dh, self.h, self.top > 0, (self.oh - 1) * self.sh - self.top + (self.kh - 1) * self.dh >= self.h
        )


def span(b: Builder, start: Expr, taps: int, dilation: int, size: int, low: bool, high: bool) -> tuple[Expr, Expr]:
    """Taps r with 0 <= start + r * dilation < size, as a range; `low`/`high` say whether a border can be crossed at all."""
    if isinstance(start, int):
        valid = [r for r in range(taps) if 0 <= start + r * dilation < size]
        return (valid[0], valid[-1] + 1) if valid else (0, 0)
    first: Expr = 0
    last: Expr = taps
    if low:
        first = b.let("r0", t.max(0, t.floordiv(dilation - 1 - start, dilation)))
    if high:
        last = b.let("r1", t.min(taps, t.floordiv(size - 1 - start, dilation) + 1))
    return first, last


def window(
    x: Value, out: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, ...], dilation: tuple[int, int], groups: int = 1
) -> Window:
    """The window of an op on physical types."""
    plain_in, plain_out = logical_type(x.type), logical_type(out)
    n, c, h, w = plain_in.shape
    _, o, oh, ow = plain_out.shape
    return Window(
        n, c, h, w, o, oh, ow, kernel[0], kernel[1], stride[0], stride[1], padding[0], padding[2], dilation[0], dilation[1], groups,
        block(x.type.layout), block(out.layout),
    )  # fmt: skip


@dataclass(frozen=True)
class Row:
    """An output row of a channel block that is computed separately.

    source: where an input row begins in the anchor's operand, in elements; result: where this one begins in k.out.
    """

    oy: Expr
    source: Callable[[Expr], Expr]
    result: Expr
    block: Expr
    image: Expr


def tiles_of(b: Builder, layout: list[tuple[int, int, int]], kind: str = "serial") -> Iterator[tuple[int, Expr, int | None, Expr]]:
    """The code of every tile of a row that `column_tiles` covers: (width, first column, that column if it is a known number, number of the tile)."""
    number = 0
    for width, x, repeat in layout:
        with b.range("tile", 0, repeat, kind) as i:
            yield width, b.let("ox", x + i * width), x if repeat == 1 else None, number + i
        number += repeat


def column_tiles(g: Window, biggest: int, vectors: int) -> list[tuple[int, int, int]]:
    """Cover an output row by tiles: (width, first column, count). Border tiles are separate, equal inner neighbours are one loop."""
    result: list[tuple[int, int, int]] = []
    joins = False
    for width, x, count in runs(cover(g.ow, biggest, vectors)):
        for at in range(x, x + count * width, width):
            inner = all(len(g.columns(at, s, width)) == width for s in (0, g.kw - 1))
            if inner and joins and result[-1][0] == width:
                result[-1] = (width, result[-1][1], result[-1][2] + 1)
            else:
                result.append((width, at, 1))
            joins = inner
    return result


def tasks(threads: int, count: int) -> str:
    """Kind of an outermost loop over `count` tasks."""
    return "parallel" if threads > 1 and count > 1 else "serial"


@contextmanager
def workers(b: Builder, threads: int) -> Iterator[Expr]:
    """A loop over threads, for kernels that give each its own scratch: the thread's number, 0 where there is only one."""
    if threads == 1:
        yield 0
    else:
        with b.loop("worker", 0, threads, "parallel") as worker:
            yield worker


def share(worker: Expr, count: Expr, threads: int) -> tuple[Expr, Expr]:
    """First and one past the last of the pieces of work, of `count`, that a worker does."""
    return (0, count) if threads == 1 else (t.floordiv(worker * count, threads), t.floordiv((worker + 1) * count, threads))


def chunk_lengths(first: int, size: int, unit: int = 1) -> list[int]:
    """Chunk lengths worth measuring for a loop of `size`: the given one, then a whole, a half, a quarter and so on, in multiples of `unit`."""
    units = -(-size // unit)
    return list(dict.fromkeys([first, *(min(size, unit * -(-units // n)) for n in (1, 2, 4, 8, 16))]))


def balance(size: int, fit: int, images: int, groups: int, threads: int, rows: bool = False) -> int:
    """Chunk length, at most `fit`, for a loop over (image, chunk of `size`, group): the busiest thread gets the least, then chunks are long.

    TVM hands every thread one contiguous range of tasks. rows: threads divide the feature map, not the groups, so that each finds its
    operands in its own cache if earlier kernels did the same.
    """

    def busiest(chunk: int) -> float:
        work = [min(chunk, size - at) for _ in range(images) for at in range(0, size, chunk) for _ in range(groups)]
        share = -(-len(work) // threads)
        return max(sum(work[i : i + share]) for i in range(0, len(work), share))

    if rows and threads > 1 and images % threads and size >= threads:
        chunks = (-(-size // fit) + threads - 1) // threads * threads
        return -(-size // chunks)
    if threads == 1 or images * groups % threads == 0:
        chunks = -(-size // fit)
        return -(-size // chunks)
    return min(range(1, fit + 1), key=lambda c: (round(busiest(c) * (1 + 0.02 / c), 6), -c))


def planes_and_parts(b: Builder, task: Expr, blocks: int, chunks: int) -> tuple[Expr, Expr]:
    """(image * channel blocks + block, chunk) of a task: (image, chunk, block) in this order, so that threads divide rows before channels."""
    per_image = chunks * blocks
    image, part = b.let("image", t.floordiv(task, per_image)), b.let("part", t.floordiv(t.floormod(task, per_image), blocks))
    return b.let("plane", image * blocks + t.floormod(task, blocks)), part


@contextmanager
def rows_of_planes(b: Builder, out: Tensor, threads: int) -> Iterator[tuple[Expr, Expr, Expr, Expr]]:
    """Loops over every row of a blocked map, of which threads divide rows before channels: (image, channel block, plane, row)."""
    n, blocks, height, *_ = out.shape
    chunks = min(threads, height)
    with b.loop("task", 0, n * blocks * chunks, tasks(threads, n * blocks * chunks)) as task:
        plane, part = planes_and_parts(b, task, blocks, chunks)
        image, block = b.let("image", t.floordiv(plane, blocks)), b.let("block", t.floormod(plane, blocks))
        with b.loop("oy", *share(part, height, chunks)) as oy:
            yield image, block, plane, oy
