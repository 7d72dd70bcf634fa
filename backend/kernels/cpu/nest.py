"""Loop nests over tensors of any rank: dimensions collapsed at compile time, outer loops divided among threads, rows cut into vectors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tvm import tirx as t

from ...codegen.builder import Builder, Expr
from ...target import Target

#: Elements (weighted by the work on each) below which a parallel loop costs more than it gains.
PARALLEL = 1 << 15


def strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous tensor."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def broadcast_strides(shape: Sequence[int], out: Sequence[int]) -> tuple[int, ...]:
    """Strides by which a contiguous operand is read at the coordinates of `out`: 0 along the axes it is repeated on."""
    own = [s if size > 1 else 0 for size, s in zip(shape, strides_of(shape))]
    return (*[0] * (len(out) - len(shape)), *own)


def collapse(sizes: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """The same loop nest with fewer dimensions: those of size 1 are dropped, neighbours merge where every operand has one step over both.

    strides: one sequence for each operand. Returns sizes and strides.
    """
    kept: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis, size in enumerate(sizes):
        if size == 1:
            continue
        if kept and all(s[-1] == operand[axis] * size for s, operand in zip(steps, strides)):
            kept[-1] *= size
            for s, operand in zip(steps, strides):
                s[-1] = operand[axis]
        else:
            kept.append(size)
            for s, operand in zip(steps, strides):
                s.append(operand[axis])
    return kept, steps


def unravel(b: Builder, index: Expr, sizes: Sequence[int]) -> list[Expr]:
    """Coordinates of a flat index."""
    result: list[Expr] = []
    for size in reversed(sizes[1:]):
        result.append(b.let("i", t.floormod(index, size) if not isinstance(index, int) else index % size))
        index = b.let("i", t.floordiv(index, size) if not isinstance(index, int) else index // size)
    return [index, *reversed(result)] if sizes else []


def dot(index: Sequence[Expr], strides: Sequence[int]) -> Expr:
    """Flat offset of coordinates."""
    total: Expr = 0
    for i, s in zip(index, strides):
        if s:
            total = total + i * s
    return total


@contextlib.contextmanager
def loops(b: Builder, sizes: Sequence[int]) -> Iterator[list[Expr]]:
    """Nested serial loops over all coordinates."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(b.range("i", 0, size)) for size in sizes]


@contextlib.contextmanager
def tasks(b: Builder, sizes: Sequence[int], chunks: int, threads: int) -> Iterator[tuple[list[Expr], Expr]]:
    """Loops over all coordinates and over `chunks` parts of what is inside: (coordinates, chunk).

    With threads, as many of the outer loops as give every thread a few tasks become one parallel loop.
    """
    if threads == 1:
        with loops(b, [*sizes, chunks]) as index:
            yield index[:-1], index[-1]
        return
    heads = 0
    while heads < len(sizes) and math.prod(sizes[:heads]) * chunks < 4 * threads:
        heads += 1
    count = math.prod(sizes[:heads]) * chunks
    with contextlib.ExitStack() as stack:
        task = stack.enter_context(b.loop("task", 0, count, "parallel")) if count > 1 else 0
        *head, chunk = unravel(b, task, [*sizes[:heads], chunks])
        yield [*head, *stack.enter_context(loops(b, sizes[heads:]))], chunk


def chunks_for(rows: int, size: int, threads: int, grain: int) -> int:
    """Into how many parts rows of `size` are cut so that every thread has work, each part at least `grain` long."""
    return max(1, min(-(-4 * threads // rows), size // grain)) if threads > 1 and rows < 4 * threads else 1


def vectors(b: Builder, size: int, lanes: int, body: Callable[[Expr, int], None], unroll: int = 1, chunk: Expr = 0, chunks: int = 1) -> None:
    """`body(position, lanes)` over a row of `size` elements, or over one of `chunks` parts of it.

    The remainder after the whole vectors is one more vector that overlaps its neighbour, so the body must give the same when an element is
    computed twice; a row shorter than a vector is cut into shorter ones.
    """
    whole = size // lanes
    per = -(-whole // (unroll * chunks)) * unroll
    if chunks == 1:
        with b.range("v", 0, whole // unroll) as v:
            for u in range(unroll):
                body((v * unroll + u) * lanes, lanes)
        with b.range("v", whole // unroll * unroll, whole) as v:
            body(v * lanes, lanes)
    else:
        with b.loop("v", chunk * per, t.min(whole, (chunk + 1) * per)) as v:
            body(v * lanes, lanes)
    if size % lanes == 0:
        return
    with contextlib.ExitStack() as stack:
        if chunks > 1:
            stack.enter_context(b.when(t.EQ(chunk, chunks - 1)))
        if whole:
            body(size - lanes, lanes)
        else:
            for at, width in pieces(size, lanes):
                body(at, width)


def pieces(size: int, lanes: int) -> list[tuple[int, int]]:
    """A row cut into vectors of powers of two, longest first: (position, lanes)."""
    result = []
    at = 0
    while at < size:
        width = lanes
        while width > size - at:
            width //= 2
        result.append((at, width))
        at += width
    return result


def row(b: Builder, size: int, width: int, body: Callable[[Expr, int], None]) -> None:
    """`body(position, lanes)` over a row, every element once: vectors of `width`, then shorter and shorter ones."""
    whole = size // width
    with b.range("v", 0, whole) as v:
        body(v * width, width)
    for at, lanes in pieces(size % width, width):
        body(whole * width + at, lanes)


def widest(size: int, lanes: int) -> int:
    """The widest power of two up to `lanes` that a row of `size` fills."""
    return next(w for w in (1 << i for i in reversed(range(lanes.bit_length()))) if w <= max(size, 1))


def vector(target: Target, dtype: np.dtype) -> int:
    """Lanes of a vector register, at most 16 of small elements."""
    return max(1, min(target.lanes * 4 // dtype.itemsize, 16))
