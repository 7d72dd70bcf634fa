"""Any rearrangement of channels between blocked maps (concat, slice, shuffle, select): vectors are merged by constant shuffles.

Every result block has a recipe: the source of each lane. Neighbouring blocks with the same recipe, relative to their position,
share one loop; a block whose lanes are those of one source block in order is a plain copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx as t

from .....ir.op import Value
from ....codegen.builder import Builder, Expr
from ....codegen.kernel_builder import KernelBuilder
from ....codegen.shuffles import shuffle
from ....target import Target
from ....tile.fusion import Fusion, RowLayout
from ....tile.ops import TileChannelGather
from ...template import Params, Template, kernel
from ..window import balance, tasks

#: Fewest pixels of a chunk: in shorter ones the hardware prefetcher detects no streams.
SHORTEST = 32

#: (operand, block relative to the result's block, lane) of every live lane of a block.
Recipe = tuple[tuple[int, int, int], ...]


def recipes(op: Any, lanes: int) -> list[tuple[Recipe, int, int]]:
    """(recipe, first result block, number of blocks)."""
    sources = [(k, c) for k, x in enumerate(op.xs) for c in range(x.type.layout.channels)]
    result: list[tuple[Recipe, int, int]] = []
    for first in range(0, len(op.channels), lanes):
        block = first // lanes
        recipe = tuple((k, c // lanes - block, c % lanes) for k, c in (sources[i] for i in op.channels[first : first + lanes]))
        if result and result[-1][0] == recipe:
            result[-1] = (recipe, result[-1][1], result[-1][2] + 1)
        else:
            result.append((recipe, block, 1))
    return result


@kernel(TileChannelGather)
class ChannelGatherKernel(Template):
    name = "channel_gather"
    strided_batch = True
    masked_stores = True

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        op: Any = fusion.anchor
        return bool(op.lanes) and all(x.type.layout is not None for x in op.xs)

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        op: Any = fusion.anchor
        n, _, h, w, lanes = fusion.out.shape
        # several blocks of the result read one block of the sources: their pixels stay in L1 meanwhile
        pixels = target.l1 // 2 // (4 * lanes * sum(x.type.shape[1] for x in op.xs))
        return [{"chunk": balance(h * w, min(h * w, max(SHORTEST, pixels)), n, 1, threads)}]

    def row_partitioned(self, fusion: Fusion, target: Target, params: Params) -> list[list[Value]]:
        op: Any = fusion.anchor
        return [*([x] for x in op.xs), fusion.same_layout]

    def emit(self, k: KernelBuilder) -> None:
        b, sources = k.b, Sources(k)
        step, plane = sources.result
        chunk = min(k.params["chunk"], sources.pixels)
        chunks = -(-sources.pixels // chunk)
        with b.loop("task", 0, sources.count * chunks, tasks(k.threads, sources.count * chunks)) as task:
            number, part = b.let("number", t.floordiv(task, chunks)), b.let("part", t.floormod(task, chunks))
            sources.gather(number, part * chunk, t.min(sources.pixels, (part + 1) * chunk), number * step, plane)


class Sources:
    """The operands of a gather, by image, or where some of the maps lie in partitions, by partition: `count` of them, each of `pixels`.

    result: elements from an image or partition of the result to the next, and from a channel block to the next.
    """

    def __init__(self, k: KernelBuilder, result: RowLayout | None = None):
        self.k = k
        rows = [k.fusion.map_rows(x) for x in k.anchor.xs]
        result = result or k.fusion.map_rows(k.fusion.result)
        partitions = max(r.partitions for r in (*rows, result))
        n, _, h, w, self.lanes = k.anchor.out.shape
        self.partitions, self.count, self.pixels = partitions, n * partitions, h * w // partitions
        self.result = result.cut(partitions)
        self._steps = [r.cut(partitions) for r in rows]

    def gather(self, number: Expr, first: Expr, stop: Expr, to: Expr, plane: int) -> None:
        """All channels of some pixels of an image or partition, with the epilogue.

        to: where its pixel 0 lies in the result; plane: elements between channel blocks there.
        """
        k, b, lanes, xs = self.k, self.k.b, self.lanes, self.k.anchor.xs
        for recipe, begin, blocks in recipes(k.anchor, lanes):
            with b.range("i", 0, blocks) as i, b.loop("p", first, stop) as p:
                block = begin + i

                def vector(operand: int, at: int, block: Expr = block, p: Expr = p) -> Expr:
                    step, elements = self._steps[operand]
                    return b.load(k.args[xs[operand]], number * step + (block + at) * elements + p * lanes, lanes)

                value = merged(b, recipe, lanes, vector)
                k.finish(value, to + block * plane + p * lanes, block * lanes, number if self.partitions == 1 else 0, lanes)


def gather_rows(k: KernelBuilder, image: Expr, rows: tuple[Expr, Expr], to: Expr, plane: int) -> None:
    """All channels of some rows of an image, first and one past the last, with the epilogue.

    to: where the first one lies in the result; plane: elements between channel blocks there.
    """
    b, op = k.b, k.anchor
    *_, width, lanes = op.out.shape
    maps = [k.fusion.map_rows(x) for x in op.xs]
    with b.loop("y", *rows) as y:
        row = b.let("row", to + (y - rows[0]) * (width * lanes))
        for recipe, begin, blocks in recipes(op, lanes):
            with b.range("i", 0, blocks) as i:
                block, starts = begin + i, dict[tuple[int, int], Expr]()
                for source in dict.fromkeys((operand, at) for operand, at, _ in recipe):
                    operand, at = source
                    place = maps[operand].at(image * maps[operand].blocks + block + at, y)
                    starts[source] = b.let("start", place) if maps[operand].partitions == 1 else b.value(place)
                with b.loop("x", 0, width) as x:

                    def vector(operand: int, at: int, starts: dict[tuple[int, int], Expr] = starts, x: Expr = x) -> Expr:
                        return b.load(k.args[op.xs[operand]], starts[operand, at] + x * lanes, lanes)

                    k.finish(merged(b, recipe, lanes, vector), row + block * plane + x * lanes, block * lanes, image, lanes)


def merged(b: Builder, recipe: Recipe, lanes: int, vector: Callable[[int, int], Expr]) -> Expr:
    """The lanes of a block, one source vector after the other. vector(operand, block relative to the result's): its lanes there."""
    value = None
    for source in dict.fromkeys((operand, at) for operand, at, _ in recipe):
        lanes_there = b.let("x", vector(*source))
        wanted = [lane if (operand, at) == source else None for operand, at, lane in recipe]
        wanted += [None] * (lanes - len(wanted))
        if value is None:
            in_order = all(w in (None, i) for i, w in enumerate(wanted))
            value = lanes_there if in_order else shuffle([lanes_there], [0 if w is None else w for w in wanted])
        else:
            value = shuffle([value, lanes_there], [i if w is None else lanes + w for i, w in enumerate(wanted)])
        value = b.let("v", value)
    return value
