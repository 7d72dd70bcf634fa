"""The numbers of a convolution or pooling on blocked tensors, and the border arithmetic all such kernels share."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx as t

from ...ir.op import Value
from ...ir.types import Tensor
from ..tile import block, logical_type
from ..tir import Builder, Expr


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
        """Output pixel i reads input pixel i and nothing else."""
        return (self.kh, self.kw, self.sh, self.sw, self.top, self.left) == (1, 1, 1, 1, 0, 0) and (self.h, self.w) == (self.oh, self.ow)

    @property
    def out_blocks(self) -> int:
        return -(-self.o // self.lanes)

    @property
    def in_blocks(self) -> int:
        return -(-self.c // self.block_in) if self.block_in else self.c

    def columns(self, x: int, s: int, count: int, width: int | None = None) -> list[int]:
        """Of output columns x .. x + count - 1, those (counted from x) whose tap s lies inside the map."""
        w = self.w if width is None else width
        return [i for i in range(count) if 0 <= (x + i) * self.sw - self.left + s * self.dw < w]

    def rows(self, b: Builder, oy: Expr) -> tuple[Expr, Expr]:
        """First and one past the last kernel row that lies inside the map for output row oy."""
        return span(b, oy * self.sh - self.top, self.kh, self.dh, self.h, self.top > 0, (self.oh - 1) * self.sh - self.top + (self.kh - 1) * self.dh >= self.h)


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


def window(x: Value, out: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, ...], dilation: tuple[int, int], groups: int = 1) -> Window:
    """The window of an op on physical types."""
    plain_in, plain_out = logical_type(x.type), logical_type(out)
    n, c, h, w = plain_in.shape
    _, o, oh, ow = plain_out.shape
    return Window(
        n, c, h, w, o, oh, ow, kernel[0], kernel[1], stride[0], stride[1], padding[0], padding[2], dilation[0], dilation[1], groups,
        block(x.type.layout), block(out.layout),
    )  # fmt: skip


def tasks(threads: int, images: int, chunks: int, groups: int) -> str:
    """Loop kind of a fused (image, chunk, group) loop: parallel when there is more than one thread and one task."""
    return "parallel" if threads > 1 and images * chunks * groups > 1 else "serial"
