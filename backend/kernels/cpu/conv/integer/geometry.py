"""Which input blocks a vector group of integer outputs reads, and how its weights and biases are packed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tvm import tirx as t

from .....codegen.builder import Expr
from ...arithmetic.base import STEP, Arithmetic
from ...register_tile import vector_groups
from ...window import Window


@dataclass(frozen=True)
class Depth:
    """`blocks` input blocks from `first` on, with `steps` dwords read of each. before: dwords of the blocks before."""

    first: int
    blocks: int
    steps: int
    before: int


@dataclass(frozen=True)
class Groups:
    """Output vectors of `lanes` i32 in groups that share loads of x, over blocks of 16 channels.

    A group reads the same number of whole input blocks, `span`, from block `first` on. Where an output does not read one of their channels (in a
    grouped convolution, or after the last channel), its weight is 0.
    """

    g: Window
    lanes: int

    @property
    def per_block(self) -> int:
        """Vectors of an output block."""
        return self.g.lanes // self.lanes

    @cached_property
    def groups(self) -> list[tuple[int, int, int]]:
        """(vectors, first vector, number of groups)."""
        total = self.g.out_blocks * self.per_block
        if self.g.groups == 1:
            return vector_groups(total)
        vectors = min(self.per_block, 2)
        return [(vectors, 0, total // vectors)]

    def channels(self, vector: int, vectors: int) -> tuple[int, int]:
        """First and one past the last input channel of some vectors."""
        per_in, per_out = self.g.c // self.g.groups, self.g.o // self.g.groups
        first, last = (min(o, self.g.o - 1) // per_out for o in (vector * self.lanes, (vector + vectors) * self.lanes - 1))
        return first * per_in, (last + 1) * per_in

    @cached_property
    def span(self) -> int:
        """Input blocks of a group, at most."""
        block = self.g.block_in
        ends = [self.channels(v, vectors) for vectors, first, count in self.groups for v in range(first, first + count * vectors, vectors)]
        return max(-(-stop // block) - start // block for start, stop in ends)

    def first(self, vector: Expr) -> Expr:
        """The first input block of the group that begins with a vector."""
        g = self.g
        if g.groups == 1:
            return 0
        per_in, per_out = g.c // g.groups, g.o // g.groups
        if isinstance(vector, int):
            return min(self.channels(vector, 1)[0] // g.block_in, g.in_blocks - self.span)
        output = t.min(vector * self.lanes, g.o - 1)
        return t.min(t.floordiv(t.floordiv(output, per_out) * per_in, g.block_in), g.in_blocks - self.span)

    @property
    def steps(self) -> int:
        """Dwords of an input block."""
        return self.g.block_in // STEP

    @property
    def depths(self) -> list[Depth]:
        """The blocks of a group: of the map's last one only the dwords that hold channels."""
        live = -(-(self.g.c % self.g.block_in) // STEP) or self.steps
        if self.g.groups > 1 or live == self.steps:
            return [Depth(0, self.span, self.steps, 0)]
        whole = self.span - 1
        return [d for d in (Depth(0, whole, self.steps, 0), Depth(whole, 1, live, whole * self.steps)) if d.blocks]

    @property
    def dwords(self) -> int:
        """Dwords of a pixel that a group reads."""
        return sum(d.blocks * d.steps for d in self.depths)

    def panels(self, w: np.ndarray) -> list[np.ndarray]:
        """Weights (O, C/groups, kh, kw) i8 -> for each entry of `groups` (group, block, kh, kw, step, vector, lane, 4)."""
        g, block = self.g, self.g.block_in
        per_in, per_out = g.c // g.groups, g.o // g.groups
        result = []
        for vectors, begin, count in self.groups:
            panel = np.zeros((count, vectors * self.lanes, self.span * block, g.kh, g.kw), np.int8)
            for i in range(count):
                start = begin + i * vectors
                lo = self.first(start) * block
                for row, o in enumerate(range(start * self.lanes, min((start + vectors) * self.lanes, g.o))):
                    at = o // per_out * per_in - lo
                    panel[i, row, at : at + per_in] = w[o]
            shape = (count, vectors, self.lanes, self.span, self.steps, STEP, g.kh, g.kw)
            result.append(panel.reshape(shape).transpose(0, 3, 6, 7, 4, 1, 2, 5))
        return result

    def pack(self, w: np.ndarray, arithmetic: Arithmetic) -> np.ndarray:
        """All weights, one forward stream for each group."""
        streams = []
        for panel in self.panels(w):
            parts = [panel[:, d.first : d.first + d.blocks, :, :, : d.steps] for d in self.depths]
            streams.append(np.concatenate([arithmetic.pack(np.ascontiguousarray(p)).reshape(len(p), -1) for p in parts], 1).reshape(-1))
        return np.concatenate(streams)


def whole_bias(w: np.ndarray, b: np.ndarray | None, zero: int, size: int) -> np.ndarray:
    """b - zero * sum of w modulo 2^32, with zeros up to `size`. With it x need not be centered, if padding holds `zero`."""
    sums = w.reshape(len(w), -1).sum(1, dtype=np.int64)
    bias = (0 if b is None else b.astype(np.int64)) - zero * sums
    full = np.zeros(size, np.int64)
    full[: len(w)] = bias
    return (full & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
