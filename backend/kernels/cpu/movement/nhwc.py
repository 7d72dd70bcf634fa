"""Between blocked feature maps and NHWC: whole blocks are vectors on both sides, so a pixel's channels are gathered block by block."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx as t

from .....ir.types import Tensor
from ....codegen.builder import Expr
from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.fusion import Fusion
from ....tile.moves import TileFromNhwc, ToNhwc
from ....tile.ops import block, logical_type
from ...template import Template, kernel
from ..window import tasks
from .move import Mover

#: Pixels whose channels are filled block by block before the next pixels: they stay in the first-level cache.
PIXELS = 32


def _walk(k: KernelBuilder, map: Tensor, body: Callable[[Expr, Expr, Expr, Expr, int], None]) -> None:
    """`body(first lane in the map, first element in the rows, channel, image, live lanes)` for every pixel of every block."""
    b = k.b
    n, c, h, w = logical_type(map).shape
    lanes, blocks, pixels = block(map.layout), map.shape[1], h * w
    chunks = -(-pixels // PIXELS)
    with b.loop("task", 0, n * chunks, tasks(k.threads, n * chunks)) as task:
        image, chunk = b.let("image", t.floordiv(task, chunks)), b.let("chunk", t.floormod(task, chunks))
        for first, last, live in ((0, c // lanes, lanes), (c // lanes, blocks, c % lanes)):
            with b.loop("cb", first, last) as cb, b.loop("p", chunk * PIXELS, t.min(pixels, (chunk + 1) * PIXELS)) as p:
                body(((image * blocks + cb) * pixels + p) * lanes, (image * pixels + p) * c + cb * lanes, cb * lanes, image, live)


@kernel(ToNhwc)
class ToNhwcKernel(Mover):
    name = "to_nhwc"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return fusion.anchor.operands[0].type.layout is not None and self.epilogue_fits(fusion)

    def emit(self, k: KernelBuilder) -> None:
        x = k.args[k.anchor.x]
        _walk(k, k.anchor.x.type, lambda at, row, channel, image, live: k.finish(k.b.load(x, at, live), row, channel, image, live))


@kernel(TileFromNhwc)
class FromNhwcKernel(Template):
    """A partial block takes its dead lanes from the next row: their values are arbitrary."""

    name = "from_nhwc"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return fusion.out.layout is not None and fusion.anchor.operands[0].type.layout is None

    def emit(self, k: KernelBuilder) -> None:
        x, lanes = k.args[k.anchor.x], block(k.fusion.out.layout)
        _walk(k, k.fusion.out, lambda at, row, channel, image, live: k.finish(k.b.load(x, row, lanes), at, channel, image, lanes))
