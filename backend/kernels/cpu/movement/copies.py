"""Nests of copies: each output index maps to an input index, axis by axis.

An output axis is a list of segments; each walks an axis of an operand forwards, backwards or not at all, chooses an operand, or is filled.
The nest loops over axes until what is left is one box with fixed strides, and copies the box by vectors:

    runs               both sides contiguous: whole vectors, the last one overlapping its neighbour
    transposed         the input is contiguous along another axis: register tiles, transposed by log2 rounds of interleaving
    interleaved        one of the two axes is short (pixel shuffle, NHWC images of 3 channels): one shuffle for each vector
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from tvm import tirx as t

from ....codegen.builder import Buffer, Expr, const, splat
from ....codegen.kernel_builder import KernelBuilder
from ....codegen.shuffles import shuffle, transposed
from ..nest import PARALLEL, strides_of, vector

#: The longer side of a short axis that is handled by shuffles instead of by square tiles.
SHORT = 4
#: Tiles side by side that are copied before the next line of tiles, so that the memory in use stays within the caches and the TLB.
STRIP = 4


@dataclass(frozen=True)
class Segment:
    """`count` elements of an output axis: they read indices first, first + step, … of the operand's axis.

    source: the operand they choose, None where another axis does; FILL is no operand at all.
    """

    count: int
    first: int = 0
    step: int = 1
    source: int | None = None


FILL = -1


@dataclass(frozen=True)
class Source:
    """An operand, for each output axis the distance of its elements, and where the first one lies."""

    buffer: Buffer
    strides: tuple[int, ...]
    offset: int = 0


@dataclass(frozen=True)
class Dim:
    """A loop of a box: iterations, and the steps in elements on both sides."""

    count: int
    read: int
    write: int


def power_of_two(limit: int) -> int:
    """The largest power of two up to a limit."""
    return 1 << limit.bit_length() - 1


@dataclass
class Nest:
    """One copy under construction. `axes`: the segments of every output axis; `table`: an axis whose input index is read at run time, the buffer
    with the indices, and the size that they must be below."""

    k: KernelBuilder
    axes: list[list[Segment]]
    sources: list[Source]
    fill: float | int | bool = 0
    table: tuple[int, Buffer, int] | None = None

    def __post_init__(self) -> None:
        out = self.k.fusion.out
        self.b = self.k.b
        self.dtype = self.k.out.dtype
        self.lanes = vector(self.k.target, out.dtype)
        self.shared = self.k.threads > 1 and out.size >= PARALLEL
        self._merge()
        self.writes = strides_of(tuple(sum(s.count for s in axis) for axis in self.axes))

    @property
    def again(self) -> bool:
        """Whether the table is checked before the loops, which read it many times; not with threads, which would wait for the one that checks."""
        return self.table is not None and self.table[0] > 0 and self.k.faults is not None and not self.shared

    def _merge(self) -> None:
        """Merge neighbouring axes that are contiguous in every operand."""
        i = 0
        while i + 1 < len(self.axes):
            whole = all(len(self.axes[j]) == 1 and self.axes[j][0] == Segment(self.axes[j][0].count) for j in (i, i + 1))
            inner = self.axes[i + 1][0].count
            fits = all(s.strides[i] == s.strides[i + 1] * inner for s in self.sources)
            if not whole or not fits or (self.table is not None and self.table[0] in (i, i + 1)):
                i += 1
                continue
            self.axes[i : i + 2] = [[Segment(self.axes[i][0].count * inner)]]
            self.sources = [replace(s, strides=(*s.strides[:i], *s.strides[i + 1 :])) for s in self.sources]
            if self.table is not None and self.table[0] > i:
                self.table = (self.table[0] - 1, *self.table[1:])

    def emit(self) -> None:
        if self.again:
            self.k.record_faults(self.table[1], self.axes[self.table[0]][0].count, self.table[2])  # type: ignore[index]
        self._walk(0, [], 0, None if len(self.sources) > 1 else 0, False)

    def _walk(self, axis: int, at: list[Expr], write: Expr, source: int | None, nested: bool) -> None:
        """Copy the elements at the input indices `at` of the axes so far."""
        b = self.b
        rest = self.axes[axis:]
        tabled = self.table is not None and self.table[0] >= axis
        if not tabled and all(len(a) == 1 for a in rest):
            chosen = next((a[0].source for a in rest if a[0].source is not None), source)
            self._box(rest, at, write, chosen, nested)
            return
        if self.table is not None and self.table[0] == axis:
            (segment,) = rest[0]
            with b.loop("i", 0, segment.count, self._kind(nested, segment.count)) as i:
                index = self.k.place(self.table[1], i, self.table[2], not self.again)
                self._walk(axis + 1, [*at, index], write + i * self.writes[axis], source, True)
            return
        start = 0
        for segment in rest[0]:
            chosen = source if segment.source is None else segment.source
            begin = write + start * self.writes[axis]
            if chosen == FILL:
                self._box([[segment], *([Segment(sum(s.count for s in a))] for a in rest[1:])], at, begin, chosen, nested)
            elif all(len(a) == 1 for a in rest[1:]) and not tabled:
                self._box([[segment], *rest[1:]], at, begin, chosen, nested)
            elif segment.count == 1:
                self._walk(axis + 1, [*at, segment.first], begin, chosen, nested)
            else:
                with b.loop("i", 0, segment.count, self._kind(nested, segment.count)) as i:
                    self._walk(axis + 1, [*at, segment.first + i * segment.step], begin + i * self.writes[axis], chosen, True)
            start += segment.count

    def _kind(self, nested: bool, count: int) -> str:
        return "parallel" if self.shared and not nested and count > 1 else "serial"

    # -- one box ---------------------------------------------------------------------------------

    def _box(self, rest: list[list[Segment]], at: list[Expr], write: Expr, source: int | None, nested: bool) -> None:
        first = len(self.axes) - len(rest)
        filled = source == FILL or source is None
        strides = (0,) * len(self.axes) if filled else self.sources[source].strides  # type: ignore[index]
        read: Expr = 0 if filled else self.sources[source].offset  # type: ignore[index]
        for index, stride in zip(at, strides):
            read = read + index * stride
        dims: list[Dim] = []
        for i, (segment,) in enumerate(rest, first):
            read = read + segment.first * strides[i]
            dim = Dim(segment.count, segment.step * strides[i], self.writes[i])
            outer = dims[-1] if dims else None
            if outer is not None and outer.read == dim.read * dim.count and outer.write == dim.write * dim.count:
                dims[-1] = Dim(outer.count * dim.count, dim.read, dim.write)
            elif dim.count > 1:
                dims.append(dim)
        if not dims:
            dims = [Dim(1, 1, 1)]
        self.buffer = None if filled else self.sources[source].buffer  # type: ignore[index]
        self._copy(dims, self.b.let("read", read), self.b.let("write", write), nested)

    def _copy(self, dims: list[Dim], read: Expr, write: Expr, nested: bool) -> None:
        """Choose how the innermost loops go; the others surround them."""
        *outer, inner = dims
        if self.buffer is not None and inner.read not in (0, 1):
            across = next((i for i, d in enumerate(outer) if d.read == 1), None)
            if across is not None and inner.write == 1:
                other = outer.pop(across)
                self._loops(outer, read, write, nested, lambda r, w, n: self._tiles(other, inner, r, w, n))
                return
        self._loops(outer, read, write, nested, lambda r, w, n: self._run(inner, r, w, n))

    def _loops(self, dims: list[Dim], read: Expr, write: Expr, nested: bool, body: Callable[[Expr, Expr, bool], None]) -> None:
        b = self.b
        if not dims:
            body(read, write, nested)
            return
        if len(dims) > 1 and self.shared and not nested and dims[0].count < 2 * self.k.threads:
            # few outer iterations: two loops become one that threads can divide
            first, second = dims[0], dims[1]
            with b.loop("task", 0, first.count * second.count, "parallel") as task:
                i, j = t.floordiv(task, second.count), t.floormod(task, second.count)
                at = b.let("read", read + i * first.read + j * second.read), b.let("write", write + i * first.write + j * second.write)
                self._loops(dims[2:], *at, True, body)
            return
        dim = dims[0]
        with b.loop("i", 0, dim.count, self._kind(nested, dim.count)) as i:
            self._loops(dims[1:], b.let("read", read + i * dim.read), b.let("write", write + i * dim.write), True, body)

    # -- the innermost loops ---------------------------------------------------------------------

    def _vectors(self, count: int, lanes: int, nested: bool, body: Callable[[Expr, int], None]) -> None:
        """body(start, width) for vectors that cover `count` elements; the last one overlaps its neighbour instead of leaving a remainder."""
        if count < lanes:
            body(0, count)
            return
        whole, rest = divmod(count, lanes)
        with self.b.loop("v", 0, whole, self._kind(nested or count < PARALLEL, whole)) as v:
            body(v * lanes, lanes)
        if rest:
            body(count - lanes, lanes)

    def _store(self, at: Expr, value: Expr, lanes: int) -> None:
        """The epilogue of the fusion, and the store."""
        self.k.finish(value, at, 0, 0, lanes)

    def _run(self, dim: Dim, read: Expr, write: Expr, nested: bool) -> None:
        b, buffer = self.b, self.buffer
        if dim.write != 1 and dim.count > 1:
            with b.loop("j", 0, dim.count) as j:
                value = const(self.fill, self.dtype) if buffer is None else b.load(buffer, read + j * dim.read)
                self._store(write + j * dim.write, value, 1)
            return

        def body(start: Expr, width: int) -> None:
            if buffer is None:
                value = const(self.fill, self.dtype, width)
            elif dim.read == 0:
                value = splat(b.load(buffer, read), width)
            elif dim.read == 1 or width == 1:
                value = b.load(buffer, read + start * dim.read, width)
            elif dim.read == 2:
                pair = [b.load(buffer, read + start * 2 + i * width, width) for i in (0, 1)]
                value = shuffle(pair, list(range(0, 2 * width, 2)))
            else:
                value = b.load_strided(buffer, read + start * dim.read, dim.read, width)
            self._store(write + start, value, width)

        self._vectors(dim.count, self.lanes, nested, body)

    def _tiles(self, across: Dim, inner: Dim, read: Expr, write: Expr, nested: bool) -> None:
        """`across` is contiguous in the input, `inner` in the output."""
        if inner.count <= SHORT and across.write == inner.count:
            self._interleave(across, inner, read, write, nested)
        elif across.count <= SHORT and inner.read == across.count:
            self._deinterleave(across, inner, read, write, nested)
        else:
            self._square(across, inner, read, write, nested)

    def _interleave(self, across: Dim, inner: Dim, read: Expr, write: Expr, nested: bool) -> None:
        """out[i * n + j] = x[j * stride + i]   for a small n"""
        b, n = self.b, inner.count

        def body(start: Expr, width: int) -> None:
            rows = [b.let("row", b.load(self.buffer, read + j * inner.read + start, width)) for j in range(n)]  # type: ignore[arg-type]
            for m in range(n):
                picked = [(e % n) * width + e // n for e in range(m * width, (m + 1) * width)]
                self._store(write + start * n + m * width, shuffle(rows, picked) if width > 1 else rows[m], width)

        self._vectors(across.count, self.lanes, nested, body)

    def _deinterleave(self, across: Dim, inner: Dim, read: Expr, write: Expr, nested: bool) -> None:
        """out[j * stride + i] = x[i * n + j]   for a small n"""
        b, n = self.b, across.count

        def body(start: Expr, width: int) -> None:
            stream = [b.let("row", b.load(self.buffer, read + start * n + m * width, width)) for m in range(n)]  # type: ignore[arg-type]
            for j in range(n):
                value = shuffle(stream, [i * n + j for i in range(width)]) if width > 1 else stream[j]
                self._store(write + j * across.write + start, value, width)

        self._vectors(inner.count, self.lanes, nested, body)

    def _square(self, across: Dim, inner: Dim, read: Expr, write: Expr, nested: bool) -> None:
        """Tiles of `rows` vectors with `width` lanes, both powers of two; the last ones overlap their neighbours."""
        b = self.b
        width, rows = (power_of_two(min(d.count, self.lanes)) for d in (across, inner))
        tiles, lines = -(-across.count // width), -(-inner.count // rows)
        strips = -(-tiles // STRIP)
        with (
            b.loop("strip", 0, strips, self._kind(nested, strips)) as strip,
            b.loop("c", 0, lines) as c,
            b.loop("a", strip * STRIP if strips > 1 else 0, t.min(tiles, (strip + 1) * STRIP) if strips > 1 else tiles) as a,
        ):
            i = b.let("i", t.min(a * width, across.count - width))
            j = b.let("j", t.min(c * rows, inner.count - rows))
            stream = transposed([b.let("line", b.load(self.buffer, read + i + (j + r) * inner.read, width)) for r in range(rows)])  # type: ignore[arg-type]
            at = b.let("at", write + i * across.write + j)
            piece = min(width, rows)
            for e in range(0, width * rows, piece):
                whole, lane = divmod(e, width)
                value = stream[whole] if piece == width else shuffle([stream[whole]], list(range(lane, lane + piece)))
                self._store(at + e // rows * across.write + e % rows, value, piece)


def segments(places: Iterable[tuple[int | None, int]]) -> list[Segment]:
    """(operand, index) in the order of the result, as few segments: one where all are evenly apart, else such that walk by -1, 0 or 1."""
    places = list(places)
    steps = {b[1] - a[1] for a, b in pairwise(places)}
    if len({source for source, _ in places}) == 1 and len(steps) == 1:
        return [Segment(len(places), places[0][1], steps.pop(), places[0][0])]
    result: list[Segment] = []
    for source, i in places:
        last = result[-1] if result else None
        if last is not None and last.source == source:
            step = i - last.first if last.count == 1 else last.step
            if i == last.first + last.count * step and abs(step) <= 1:
                result[-1] = replace(last, count=last.count + 1, step=step)
                continue
        result.append(Segment(1, i, 1, source))
    return result
