"""The base of convolution templates: the window, which channels a vector reads, and how weights and bias are packed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from tvm import tirx as t

from .....ir.op import Value
from ....target import Target
from ....tile.fusion import Fusion
from ...template import Params, Template
from ..register_tile import vector_groups
from ..window import Window, window


def conv_window(fusion: Fusion) -> Window:
    op: Any = fusion.anchor
    return window(op.x, op.out.type, op.kernel, op.stride, op.padding, op.dilation, op.groups)


@dataclass(frozen=True)
class Channels:
    """Which input channels an output vector group reads: `length` channels from `first(out_block)` on, in blocks of `step`."""

    g: Window

    @property
    def length(self) -> int:
        g = self.g
        if g.groups == 1:
            return g.c
        per_in, per_out = g.c // g.groups, g.o // g.groups
        ends = [(first // per_out * per_in, ((min(first + g.lanes, g.o) - 1) // per_out + 1) * per_in) for first in range(0, g.o, g.lanes)]
        return max(hi - lo for lo, hi in ends)

    def first(self, out_block: Any) -> Any:
        """First channel read by the vector of an output block."""
        g = self.g
        if g.groups == 1:
            return 0
        per_in, per_out, last = g.c // g.groups, g.o // g.groups, g.c - self.length
        if isinstance(out_block, int):
            return min(out_block * g.lanes // per_out * per_in, last)
        return t.min(t.floordiv(out_block * g.lanes, per_out) * per_in, last)

    @property
    def step(self) -> int:
        """Channels of a whole input block."""
        return self.g.block_in or self.g.c

    @property
    def ragged(self) -> bool:
        """Whether a range may start inside a block: then its first block is short as well."""
        g = self.g
        return g.groups > 1 and any(self.first(ob) % g.block_in for ob in range(g.out_blocks))

    def cuts(self, lo: int) -> list[int]:
        """Where the blocks of a range that starts at channel `lo` begin, counted from `lo`, and its end."""
        return [0, *range(self.step - lo % self.step, self.length, self.step), self.length]

    @property
    def vectors(self) -> list[tuple[int, int, int]]:
        """Output vector groups: (vectors, first block, count). Vectors of one group must read the same channels."""
        g = self.g
        if g.groups == 1:
            return vector_groups(g.out_blocks)
        per_out = g.o // g.groups
        blocks = per_out // g.lanes if per_out % g.lanes == 0 else 1
        width = next(n for n in (2, 3, 1) if blocks % n == 0)
        return [(width, 0, g.out_blocks // width)]


def padded_bias(b: np.ndarray | None, o: int, lanes: int) -> np.ndarray:
    """Bias with zeros up to a whole block."""
    full = np.zeros(-(-o // lanes) * lanes, np.float32)
    if b is not None:
        full[:o] = b
    return full


def pack_weights(w: np.ndarray, channels: Channels) -> np.ndarray:
    """(O, C/groups, kh, kw) -> [group][input block][kh][kw][channel][vectors * lanes], one forward stream; the outer input blocks may be short."""
    g = channels.g
    per_in, per_out, length = g.c // g.groups, g.o // g.groups, channels.length
    parts: list[np.ndarray] = []
    for vectors, first, count in channels.vectors:
        for ob in range(first, first + vectors * count, vectors):
            lo, live = channels.first(ob), range(ob * g.lanes, min((ob + vectors) * g.lanes, g.o))
            panel = np.zeros((g.kh, g.kw, length, vectors * g.lanes), np.float32)
            if g.groups == 1:
                panel[..., : len(live)] = w[live.start : live.stop].transpose(2, 3, 1, 0)
            else:
                for o in live:
                    at = o // per_out * per_in - lo
                    panel[:, :, at : at + per_in, o - live.start] = w[o].transpose(1, 2, 0)
            parts.extend(panel[:, :, a:b].ravel() for a, b in pairwise(channels.cuts(lo)))
    return np.concatenate(parts)


class ConvTemplate(Template):
    """A template whose weights are packed by `pack_weights` unless it overrides `weights`."""

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        op: Any = fusion.anchor
        g = conv_window(fusion)
        w = fusion.array(op.w)
        assert w is not None
        packed = {op.w: self.weights(w, g)}
        if op.b is not None:
            packed[op.b] = padded_bias(fusion.array(op.b), g.o, g.lanes)
        return packed

    def weights(self, w: np.ndarray, g: Window) -> np.ndarray:
        """Weights in the order in which the code reads them."""
        return pack_weights(w, Channels(g))
