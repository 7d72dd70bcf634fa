"""Any rearrangement of channels between blocked maps (concat, slice, shuffle, select): vectors are merged by constant shuffles.

Every result block is described by where each lane comes from. Neighbouring blocks with the same description, relative to their
position, share one loop; a block whose lanes all lie in one source block in order is a plain copy.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx as t

from ..region import Kernel, Region
from ..target import Target
from ..tile import TileChannelGather
from ..tir import Buffer, Expr
from .geometry import balance, tasks
from .pack import Move
from .template import Params, kernel

#: Pixels of a chunk at least: shorter ones are no streams.
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
class ChannelGatherKernel(Move):
    name = "channel_gather"

    def accepts(self, region: Region, target: Target) -> bool:
        op: Any = region.anchor
        return bool(op.lanes) and all(x.type.layout is not None for x in op.xs)

    def candidates(self, region: Region, target: Target, threads: int) -> list[Params]:
        op: Any = region.anchor
        n, _, h, w, lanes = region.out.shape
        # a block of the sources serves several of the result: their pixels stay in L1 meanwhile
        pixels = target.l1 // 2 // (4 * lanes * sum(x.type.shape[1] for x in op.xs))
        return [{"chunk": balance(h * w, min(h * w, max(SHORTEST, pixels)), n, 1, threads)}]

    def emit(self, k: Kernel) -> None:
        op, b, chunk = k.anchor, k.b, k.params["chunk"]
        n, blocks, h, w, lanes = k.region.out.shape
        pixels, chunks = h * w, -(-h * w // chunk)
        inputs = [(k.args[x], x.shape[1]) for x in op.xs]
        with b.loop("task", 0, n * chunks, tasks(k.threads, n * chunks)) as task:
            image, part = b.let("image", t.floordiv(task, chunks)), b.let("part", t.floormod(task, chunks))
            for recipe, first, count in recipes(op, lanes):
                with b.range("i", 0, count) as i, b.loop("p", part * chunk, t.min(pixels, (part + 1) * chunk)) as p:
                    block = first + i
                    value = self._merge(k, inputs, recipe, image, block, pixels, p, lanes)
                    k.finish(value, ((image * blocks + block) * pixels + p) * lanes, block * lanes, image, lanes)

    @staticmethod
    def _merge(k: Kernel, inputs: list[tuple[Buffer, int]], recipe: Recipe, image: Expr, block: Expr, pixels: int, p: Expr, lanes: int) -> Expr:
        """The lanes of a result block, one source vector after the other."""
        value: Expr = None
        for operand, at in dict.fromkeys((operand, at) for operand, at, _ in recipe):
            buffer, source_blocks = inputs[operand]
            vector = k.b.let("x", k.b.load(buffer, ((image * source_blocks + block + at) * pixels + p) * lanes, lanes))
            wanted = [lane if (o, a) == (operand, at) else None for o, a, lane in recipe]
            wanted += [None] * (lanes - len(wanted))
            if value is None:
                value = vector if all(w in (None, i) for i, w in enumerate(wanted)) else shuffle([vector], [0 if w is None else w for w in wanted])
            else:
                value = shuffle([value, vector], [i if w is None else lanes + w for i, w in enumerate(wanted)])
            value = k.b.let("v", value)
        return value


def shuffle(vectors: list[Expr], lanes: list[int]) -> Expr:
    """Lanes picked from the concatenation of vectors."""
    return t.Shuffle(vectors, [t.IntImm("int32", i) for i in lanes])
