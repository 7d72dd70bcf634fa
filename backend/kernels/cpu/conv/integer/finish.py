"""The epilogue of a register tile whose rows are neighbouring pixels of a blocked map."""

from __future__ import annotations

from typing import Protocol

from tvm import tirx as t

from .....codegen.builder import Expr
from .....codegen.kernel_builder import KernelBuilder
from ...integer_tail import finish
from .geometry import Groups


class Sums(Protocol):
    """Accumulators of rows x vectors."""

    @property
    def rows(self) -> int: ...

    @property
    def vectors(self) -> int: ...

    def value(self, i: int, j: int) -> Expr: ...


def finish_tile(k: KernelBuilder, groups: Groups, tile: Sums, vector: Expr, pixel: Expr, image: Expr) -> None:
    """The epilogue on all accumulators of a tile, and their stores: rows are neighbouring pixels of the result."""
    b, block, per_block, lanes = k.b, groups.g.lanes, groups.per_block, groups.lanes
    stride, plane = k.fusion.map_rows(k.fusion.result).cut(1)
    if tile.vectors % per_block == 0:
        for j in range(0, tile.vectors, per_block):
            own = b.let("own", vector + j)
            offset = b.let("offset", image * stride + t.floordiv(own, per_block) * plane + pixel * block)
            values = [tile.value(i, j + part) for i in range(tile.rows) for part in range(per_block)]
            finish(k, values, offset, own * lanes, image, k.params["packs"])
        return
    for j in range(tile.vectors):
        own = b.let("own", vector + j)
        lane = t.floormod(own, per_block) * lanes
        offset = b.let("offset", image * stride + t.floordiv(own, per_block) * plane + pixel * block + lane)
        for i in range(tile.rows):
            k.finish(tile.value(i, j), offset + i * block, own * lanes, image, lanes)
