"""Convolution of packed maps by table lookup: lanes are bytes, one for each output, a register tile is a run of output columns.

A few channels of a pixel are a number, its entry, and so are the same channels of a filter. A row of a table holds, for one entry of x, the part of P
(`bit_window.py`) of every entry of w: T[x][w] = sum over channels and planes m, n of 2^(m+n) (x_m and w_n), xor for signs. One shuffle of that row
by a vector of weights is the part of P of all its outputs. Sums are bytes until they might overflow, then they are added to u16.

Phases: window sums; entries of the map, into scratch; then (image, row chunk, output group) > output row > column tile > kernel row > run of
entries that a byte can sum > entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx as t

from .....ir.op import Value
from ....codegen.builder import Buffer, Builder, Expr, const, splat
from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.bits import WORD, BitConv2dThreshold, TileBitConv2d, unpack_words
from ....tile.fusion import Fusion
from ...template import Params, Template, kernel
from ..window import column_tiles, tasks, tiles_of
from .bit_window import OutputRow, Shape, accepted, output_tiles, packed_thresholds, shape_of, sums_size, window_sums

#: Bytes of a table at most, so that it stays in L1.
TABLE = 4096


@dataclass(frozen=True)
class Lookup:
    """A table: `channels` make an entry; a row has `row` bytes, which one instruction shuffles."""

    channels: int
    row: int
    x_planes: int
    w_planes: int
    signs: bool

    @property
    def entries(self) -> int:
        """Entries of a word; the last may lack channels."""
        return -(-WORD // self.channels)

    @property
    def per_byte(self) -> int:
        """Entries of w in a byte of memory: two where weights have one bit, so that they take no more than their bits."""
        return 2 if self.w_planes == 1 else 1

    def table(self) -> np.ndarray:
        """(rows, row) u8; bit m * channels + i of an entry is that of plane m and channel i."""
        x, w = np.arange(1 << self.channels * self.x_planes)[:, None], np.arange(1 << self.channels * self.w_planes)[None]
        total = np.zeros((x.size, w.size), np.int64)
        for i in range(self.channels):
            for m in range(self.x_planes):
                for n in range(self.w_planes):
                    a, b = (x >> (m * self.channels + i)) & 1, (w >> (n * self.channels + i)) & 1
                    total += (a ^ b if self.signs else a & b) << (m + n)
        return np.pad(total, ((0, 0), (0, self.row - w.size))).astype(np.uint8)

    @property
    def limit(self) -> int:
        """Entries whose sum fits a byte, in whole bytes of w."""
        return 255 // int(self.table().max()) // self.per_byte * self.per_byte


def lookup_of(op: Any, target: Target) -> Lookup | None:
    """The table for the bits of a convolution, or None where the target has no such shuffle or the table would be large."""
    if not shuffle_of(target, 16):
        return None
    x_planes, w_planes = op.x.shape[1], op.w.shape[1]
    for row, bits in ((64, 6), (16, 4)):
        channels = bits // w_planes
        # a word of weights of one bit is four pairs of entries of four channels
        fits = channels > 1 and (w_planes > 1 or row == 16) and (row << channels * x_planes) <= TABLE
        if fits and shuffle_of(target, row):
            return Lookup(channels, row, x_planes, w_planes, op.signs)
    return None


def shuffle_of(target: Target, row: int) -> str:
    """The LLVM intrinsic that looks up a register of bytes in a row; empty where there is none."""
    if row == 64:
        return "x86.avx512.permvar.qi.512" if target.lanes == 16 and "avx512vbmi" in target.features else ""
    if "aarch64" in target.triple:
        return "aarch64.neon.tbl1.v16i8"
    feature, name = {16: ("avx512bw", "avx512.pshuf.b.512"), 8: ("avx2", "avx2.pshuf.b")}.get(target.lanes, ("sse4_2", "ssse3.pshuf.b.128"))
    return f"x86.{name}" if feature in target.features else ""


@kernel(TileBitConv2d, BitConv2dThreshold)
class LookupConv(Template):
    name = "lookup_conv"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        if not accepted(fusion, target) or lookup_of(op, target) is None:
            return False
        # sums are u16
        most = (1 if op.signs else (1 << op.x.shape[1]) - 1) * ((1 << op.w.shape[1]) - 1)
        return bool(op.kernel[0] * op.kernel[1] * op.channels * most < 1 << 16)

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        sizes = ((2, 4), (1, 7), (4, 2)) if target.registers == 16 else ((2, 4), (2, 5), (1, 8))
        return [{"vectors": 4 * vectors, "columns": columns} for vectors, columns in sizes]

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        s, lookup = shape_of(fusion, target, params), lookup_of(fusion.anchor, target)
        assert lookup is not None
        tiles = sum(repeat * max(width, 2) for width, _, repeat in column_tiles(s.g, s.columns(params["columns"] * params["vectors"]), s.vectors))
        vectors = sum(-(-vectors // 4) * count for vectors, _, count in s.groups)
        # a shuffle and an addition, loads beside them; then an addition and a shift for each of two u16
        entry = 1.5 + 2.0 / lookup.limit
        return s.g.n * s.g.oh * tiles * vectors * s.g.kh * s.g.kw * s.words * lookup.entries * entry

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        """The table, then [group][kh][kw][word][byte of entries][vector][lane] u8."""
        op: Any = fusion.anchor
        s, lookup, w = shape_of(fusion, target, params), lookup_of(op, target), fusion.array(op.w)
        assert lookup is not None and w is not None
        parts = [lookup.table().reshape(-1)]
        bits = unpack_words(w[None], s.words * WORD).reshape(*w.shape, WORD)
        ragged = np.pad(bits, [(0, 0)] * 5 + [(0, lookup.entries * lookup.channels - WORD)])
        grouped = ragged.reshape(*w.shape, lookup.entries, lookup.channels).astype(np.int64)
        place = np.arange(lookup.w_planes)[:, None] * lookup.channels + np.arange(lookup.channels)
        # (O, kh, kw, words, entries)
        entries = (grouped << place[None, :, None, None, None, None, :]).sum((1, -1))
        pairs = entries.reshape(*entries.shape[:-1], -1, lookup.per_byte)
        packed = (pairs << (4 * np.arange(lookup.per_byte))).sum(-1).astype(np.uint8)
        for own in s.cut(packed):
            count, vectors, lanes = own.shape[:3]
            full = np.zeros((count, -(-vectors // 4), 4, lanes, *own.shape[3:]), np.uint8)
            full.reshape(count, -1, *own.shape[2:])[:, :vectors] = own
            # byte 4 l + {0, 2, 1, 3}[q] of a register is lane l of vector q
            order = full[:, :, [0, 2, 1, 3]].transpose(0, 4, 5, 6, 7, 1, 3, 2)
            parts.append(order.reshape(-1))
        return {op.w: np.concatenate(parts)} | packed_thresholds(fusion, s)

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        s, lookup = shape_of(fusion, target, params), lookup_of(fusion.anchor, target)
        assert lookup is not None
        return 4 * (sums_size(s) + s.g.n * s.g.h * _pitch(s, lookup))

    def scratch_dtype(self, fusion: Fusion) -> str:
        return "int32"

    def emit(self, k: KernelBuilder) -> None:
        s, lookup = shape_of(k.fusion, k.target, k.params), lookup_of(k.anchor, k.target)
        assert lookup is not None
        if not s.signs:
            window_sums(k, s)
        entries_of_map(k, s, lookup)
        size = s.g.kh * s.g.kw * s.words * lookup.entries // lookup.per_byte
        panels = [size * -(-vectors // 4) * 4 * s.lanes for vectors, _, _ in s.groups]
        starts = [lookup.table().size, lookup.table().size + panels[0] * s.groups[0][2]]
        for row, kind, group in output_tiles(k, s):
            summing = _Summing(row, lookup, k.b.let("w_at", starts[kind] + group * panels[kind]))
            for width, ox, known, _ in tiles_of(k.b, column_tiles(s.g, s.columns(k.params["columns"] * k.params["vectors"]), row.vectors)):
                summing.tile(width, ox, row.live_columns(width, ox, known))


def _pitch(s: Shape, lookup: Lookup) -> int:
    """Elements of scratch of a row's entries: the last store of a row goes beyond them."""
    return s.g.w * s.words * lookup.entries + s.lanes


def entries_of_map(k: KernelBuilder, s: Shape, lookup: Lookup) -> None:
    """Write where in the table each entry's row begins: [image][row][column][word][entry], after the window sums."""
    b, g, lanes, scratch = k.b, s.g, s.lanes, k.scratch
    assert scratch is not None
    # beyond the last entry of a word the result is overwritten, and a shift must stay below 32
    shifts = [min(i * lookup.channels, WORD - 1) for i in range(-(-lookup.entries // lanes) * lanes)]
    with b.loop("row", 0, g.n * g.h, tasks(k.threads, g.n * g.h)) as row:
        image, y = b.let("image", t.floordiv(row, g.h)), b.let("y", t.floormod(row, g.h))
        with b.loop("word", 0, g.w * s.words) as number:
            for first in range(0, lookup.entries, lanes):
                place = t.Shuffle([t.const(shift, "uint32") for shift in shifts[first : first + lanes]], [*range(lanes)])
                total: Expr = const(0, "uint32", lanes)
                for m in range(s.x_planes):
                    at = ((image * s.x_planes + m) * g.h + y) * (g.w * s.words) + number
                    word = splat(t.reinterpret("uint32", b.load(k.args[k.anchor.x], at)), lanes)
                    own = t.bitwise_and(t.shift_right(word, place), const((1 << lookup.channels) - 1, "uint32", lanes))
                    bit = m * lookup.channels + lookup.row.bit_length() - 1
                    total = t.bitwise_or(total, t.shift_left(own, const(bit, "uint32", lanes)))
                to = sums_size(s) + row * _pitch(s, lookup) + number * lookup.entries + first
                b.store(scratch, to, t.reinterpret(f"int32x{lanes}", total), lanes)


@dataclass
class _Summing:
    """The code that sums the parts of P of an output row, with weights from w_at on."""

    row: OutputRow
    lookup: Lookup
    w_at: Expr

    def tile(self, width: int, ox: Expr, columns: list[list[int]]) -> None:
        """`width` columns from ox on."""
        row, b, s = self.row, self.row.k.b, self.row.s
        self.vectors, self.bytes, half = -(-row.vectors // 4), 4 * s.lanes, 2 * s.lanes
        # sums modulo 2^16 of pairs of bytes as they are, and of their high bytes
        self.wide = [[(b.local(half, "uint16"), b.local(half, "uint16")) for _ in range(self.vectors)] for _ in range(width)]
        for acc in (a for own in self.wide for pair in own for a in pair):
            b.store(acc, 0, const(0, "uint16", half), half)
        with b.loop("r", row.r0, row.r1, "rolled") as r:
            self._kernel_row(r, ox, columns)
        halves = [[self._halves(both) for both in own] for own in self.wide]
        row.finish(ox, columns, width, lambda i, j: self._counted(halves[i][j // 4], j % 4))

    def _halves(self, both: tuple[Buffer, Buffer]) -> tuple[Expr, Expr]:
        b, half = self.row.k.b, 2 * self.row.s.lanes
        pairs, high = (b.load(acc, 0, half) for acc in both)
        low = pairs - t.shift_left(high, const(8, "uint16", half))
        return b.value(low), b.value(high)

    def _counted(self, halves: tuple[Expr, Expr], q: int) -> Expr:
        lanes = self.row.s.lanes
        words = t.reinterpret(f"uint32x{lanes}", halves[q // 2])
        value = t.shift_right(words, const(16, "uint32", lanes)) if q % 2 else t.bitwise_and(words, const(0xFFFF, "uint32", lanes))
        return t.reinterpret(f"int32x{lanes}", value)

    def _kernel_row(self, r: Expr, ox: Expr, columns: list[list[int]]) -> None:
        row, b, s, g, per_byte = self.row, self.row.k.b, self.row.s, self.row.s.g, self.lookup.per_byte
        size = s.words * self.lookup.entries
        iy = row.image * g.h + row.oy * g.sh - g.top + r * g.dh
        at = b.let("x_at", sums_size(s) + iy * _pitch(s, self.lookup) + (ox * g.sw - g.left) * size)
        step = self.vectors * self.bytes
        w_at = b.let("w_row", self.w_at + r * (g.kw * size // per_byte * step))
        for tap, length, live in s.runs(columns, len(self.wide), size):
            x_tap, w_tap, limit = at + tap * g.dw * size, w_at + tap * size // per_byte * step, self.lookup.limit
            with b.loop("run", 0, length // limit, "rolled") if length >= 2 * limit else b.range("run", 0, length // limit) as number:
                self._run(x_tap + number * limit, w_tap + number * (limit // per_byte * step), limit, live)
            if rest := length % limit:
                done = length - rest
                self._run(x_tap + done, w_tap + done // per_byte * step, rest, live)

    def _run(self, x_at: Expr, w_at: Expr, length: int, live: list[int]) -> None:
        """Sum `length` neighbouring entries of some columns in bytes, and add these to the u16."""
        b, half = self.row.k.b, 2 * self.row.s.lanes
        narrow = {i: [b.local(self.bytes, "uint8") for _ in range(self.vectors)] for i in live}
        for acc in (a for own in narrow.values() for a in own):
            b.store(acc, 0, const(0, "uint8", self.bytes), self.bytes)
        per_byte = self.lookup.per_byte
        with b.loop("q", 0, length // per_byte, "rolled") as q:
            self._entry(x_at + q * per_byte, w_at + q * (self.vectors * self.bytes), narrow)
        for i, own in narrow.items():
            for acc, (pairs, high) in zip(own, self.wide[i]):
                value = b.value(t.reinterpret(f"uint16x{half}", b.load(acc, 0, self.bytes)))
                b.store(pairs, 0, b.load(pairs, 0, half) + value, half)
                b.store(high, 0, b.load(high, 0, half) + t.shift_right(value, const(8, "uint16", half)), half)

    def _entry(self, x_at: Expr, w_at: Expr, narrow: dict[int, list[Buffer]]) -> None:
        """The entries of a byte of weights."""
        k, b, s, size = self.row.k, self.row.k.b, self.row.s, self.bytes
        assert k.scratch is not None
        memory = k.args[k.anchor.w]
        stored = [b.value(b.load(memory, w_at + j * size, size)) for j in range(self.vectors)]
        for u in range(self.lookup.per_byte):
            weights = stored
            if self.lookup.per_byte > 1:
                low = const(15, "uint8", size)
                weights = [b.value(t.bitwise_and(t.shift_right(v, const(4 * u, "uint8", size)) if u else v, low)) for v in stored]
            for i, own in narrow.items():
                table = b.load(k.scratch, x_at + u + i * s.g.sw * s.words * self.lookup.entries)
                row = b.value(table_row(b, memory, table, self.lookup.row, size))
                for acc, w in zip(own, weights):
                    part = t.call_llvm_pure_intrin(f"uint8x{size}", f"llvm.{shuffle_of(k.target, self.lookup.row)}", row, w)
                    b.store(acc, 0, b.load(acc, 0, size) + part, size)


def table_row(b: Builder, memory: Buffer, at: Expr, row: int, size: int) -> Expr:
    """A row of a table, repeated to fill a register of `size` bytes."""
    loaded = b.load(memory, at, row)
    return loaded if row == size else t.Shuffle([loaded] * (size // row), [t.const(i % row, "int32") for i in range(size)])
