"""Loops over the output rows of blocked feature maps, divided among threads, for kernels with windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from tvm import tirx as t

from ...codegen.builder import Expr
from ...codegen.kernel_builder import KernelBuilder
from .window import Row, Window, planes_and_parts, tasks


@dataclass(frozen=True)
class Chunk:
    """Output rows `start` to before `stop` of a plane, which is one channel block of an image; row: one of them."""

    plane: Expr
    block: Expr
    start: Expr
    stop: Expr
    row: Callable[[Expr], Row]


@contextmanager
def chunks_of_rows(k: KernelBuilder, g: Window) -> Iterator[Chunk]:
    """A loop, which threads divide, over the chunks of `params["chunk"]` output rows of every plane."""
    b, rows = k.b, k.params["chunk"]
    chunks = -(-g.oh // rows)
    inputs, results = k.fusion.map_rows(k.anchor.x), k.fusion.map_rows(k.fusion.result)
    with b.loop("task", 0, g.n * g.in_blocks * chunks, tasks(k.threads, g.n * g.in_blocks * chunks)) as task:
        plane, part = planes_and_parts(b, task, g.in_blocks, chunks)
        block = b.let("block", t.floormod(plane, g.in_blocks))
        image = b.let("image", t.floordiv(plane, g.in_blocks))

        def row(oy: Expr) -> Row:
            return Row(oy, partial(inputs.at, plane), b.let("result", results.at(plane, oy)), block, image)

        yield Chunk(plane, block, b.let("start", part * rows), b.let("stop", t.min(g.oh, (part + 1) * rows)), row)
