"""Biases of convolutions that leave padding out of their sums of x w: one for each set of taps that an output has inside the map.

    sum over taps inside of (x - Z) w  =  sum over taps inside of x w  -  Z * sum over taps inside of w

Output rows with all taps inside are one class, every other row is a class of its own; columns likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tvm import tirx as t

from .....codegen.builder import Builder, Expr
from ...window import Window

#: Limit on pairs of classes; a map with more is nearly all border.
MOST = 64


@dataclass(frozen=True)
class Axis:
    """Classes of `size` outputs along an axis of a map: those from `first` to before `stop` have all their taps inside."""

    size: int
    first: int
    stop: int

    @property
    def classes(self) -> int:
        return self.first + 1 + self.size - self.stop

    def of(self, at: int) -> int:
        """The class of an output."""
        return min(at, self.first) + max(0, at - self.stop + 1)

    def emit(self, b: Builder, at: Expr) -> Expr:
        """The class of an output, computed at run time."""
        if isinstance(at, int):
            return self.of(at)
        low = t.min(at, self.first) if self.first else 0
        return b.let("class", low + t.max(0, at - (self.stop - 1)) if self.stop < self.size else low)

    def members(self) -> list[int]:
        """An output of each class."""
        return [*range(self.first), min(self.first, self.size - 1), *range(self.stop, self.size)]


@dataclass(frozen=True)
class Borders:
    """The classes of a window's outputs. Their biases: [row class][column class][channel]."""

    g: Window
    channels: int

    @cached_property
    def rows(self) -> Axis:
        g = self.g
        return _axis(g.oh, g.sh, g.top, g.kh, g.dh, g.h)

    @cached_property
    def columns(self) -> Axis:
        g = self.g
        return _axis(g.ow, g.sw, g.left, g.kw, g.dw, g.w)

    @property
    def few(self) -> bool:
        return self.rows.classes * self.columns.classes <= MOST

    def biases(self, w: np.ndarray, b: np.ndarray | None, zero: int) -> np.ndarray:
        """w (O, C/groups, kh, kw), b (O,) -> i32 modulo 2^32, zeros up to `channels`."""
        g = self.g
        rows = np.array([[0 <= y * g.sh - g.top + r * g.dh < g.h for r in range(g.kh)] for y in self.rows.members()], np.int64)
        columns = np.array([[0 <= x * g.sw - g.left + s * g.dw < g.w for s in range(g.kw)] for x in self.columns.members()], np.int64)
        sums = np.einsum("ors,yr,xs->yxo", w.sum(1, dtype=np.int64), rows, columns)
        full = np.zeros((*sums.shape[:2], self.channels), np.int64)
        full[..., : g.o] = (0 if b is None else b.astype(np.int64)) - zero * sums
        return (full & 0xFFFFFFFF).astype(np.uint32).view(np.int32).reshape(-1)

    def place(self, row: Expr, column: int, channel: Expr) -> Expr:
        """The index of the bias of a channel for a row class and a column class."""
        return (row * self.columns.classes + column) * self.channels + channel


def _axis(out: int, stride: int, pad: int, taps: int, dilation: int, size: int) -> Axis:
    first = min(out, -(-pad // stride))
    stop = min(out, (size - 1 + pad - (taps - 1) * dilation) // stride + 1)
    return Axis(out, first, max(first, stop))
