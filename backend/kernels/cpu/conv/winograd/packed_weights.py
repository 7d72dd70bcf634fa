"""How a Winograd kernel reads its weights: pair of rows by pair, pass by pass, panels (block, channel, outputs) of each run of planes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from .....target import Target
from ...arithmetic.fixed24 import channel_factors, pack24, spare, value_factors, words
from .plan import Plan
from .toom_cook import transform_weights

#: Runs of planes of a pair, numbered within it: (first, stop, output vectors of a register tile).
Runs = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Form:
    """m: of F(m x m, 3x3). channels, outputs: of the weights, outputs filled up to blocks of lanes. planes: numbers of the planes of each pair.

    passes: for each pair and pass over outputs, in the order of memory: (pair, first output, outputs in a pass, passes, runs). factors: of fixed24.py
    for input channels, if weights have 24 bits, else none.
    """

    m: int
    lanes: int
    channels: int
    outputs: int
    planes: tuple[tuple[int, ...], ...]
    passes: tuple[tuple[int, int, int, int, Runs], ...]
    factors: int

    @classmethod
    def of(cls, p: Plan, target: Target) -> Form:
        numbers = [row * p.a + column for row, column in p.order]
        begins = [p.begin(pair) for pair in range(len(p.pairs) + 1)]
        passes = []
        for pair, (vectors, first, blocks, count) in product(range(len(p.pairs)), p.passes):
            at = begins[pair]
            runs = tuple((run.first - at, run.stop - at, p.width(run, vectors, blocks, target)) for run in p.alike_in((pair,)))
            passes.append((pair, first * p.g.lanes, blocks * p.g.lanes, count, runs))
        planes = tuple(tuple(numbers[a:b]) for a, b in pairwise(begins))
        return cls(p.m, p.g.lanes, p.g.c, p.g.out_blocks * p.g.lanes, planes, tuple(passes), p.factors)

    @property
    def size(self) -> int:
        """Words of 32 bits."""
        panels = sum(count * self._words(outputs, runs) for _, _, outputs, count, runs in self.passes)
        return self.factors + panels + (spare(self.lanes) if self.factors else 0)

    def _words(self, outputs: int, runs: Runs) -> int:
        """Words of one pass."""
        word = words(self.lanes) * self.channels + self.lanes if self.factors else self.lanes * self.channels
        return sum(stop - first for first, stop, _ in runs) * (outputs // self.lanes) * word

    def write(self, w: np.ndarray, out: np.ndarray) -> None:
        """Fill `out` (size,) from weights (O, C, 3, 3)."""
        pairs = transform_weights(w, self.m, self.planes)
        if self.factors:
            factors = channel_factors([plane for planes in pairs for plane in planes])
            for planes in pairs:
                planes /= factors[:, None]
            out[: self.factors] = np.pad(value_factors(factors), (0, self.factors - len(factors))).view(np.int32)
            out[len(out) - spare(self.lanes) :] = 0
        missing = self.outputs - len(w)
        filled = [np.pad(planes, ((0, 0), (0, 0), (0, missing))) if missing else planes for planes in pairs]
        at = self.factors
        for pair, start, outputs, count, runs in self.passes:
            size = self._words(outputs, runs)
            place = out[at : at + count * size].reshape(count, size)
            part = filled[pair][..., start : start + count * outputs].reshape(len(filled[pair]), self.channels, count, outputs)
            column = 0
            for first, stop, vectors in runs:
                width = vectors * self.lanes
                panel = part[first:stop].reshape(stop - first, self.channels, count, outputs // width, width).transpose(2, 0, 3, 1, 4)
                packed = pack24(panel).reshape(count, -1) if self.factors else panel
                words_here = packed.size // count
                place[:, column : column + words_here].reshape(packed.shape)[:] = packed
                column += words_here
            at += count * size
