"""Observers: run a network over the calibration data and fill a histogram for each value that will be quantized."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from ...ir.errors import TersorError
from ...ir.evaluate import at_batch_of, evaluate, to_torch
from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ..core.context import Batch, Context
from ..reconstruct.replay import inputs_in_chunks
from .histogram import Histogram

if TYPE_CHECKING:
    import torch

#: Images that are run at a time.
CHUNK = 16


def observe(
    graph: Graph, values: Collection[Value], calibration: Sequence[Batch], ctx: Context, what: str, images: int | None
) -> dict[Value, Histogram]:
    """Histograms over all calibration images (at most `images`). Raises where a value is NaN or infinite, or there is no image."""
    histograms = {v: Histogram() for v in values}
    watch(graph, values, lambda v, x: _add(histograms[v], v, x), calibration, ctx, what, images)
    return histograms


def watch(
    graph: Graph,
    values: Collection[Value],
    visit: Callable[[Value, torch.Tensor], None],
    calibration: Sequence[Batch],
    ctx: Context,
    what: str,
    images: int | None,
) -> None:
    """Run the graph over the calibration images, chunk by chunk, and call `visit(value, tensor)` for each of the values; constants once."""
    for v in values:
        if isinstance(v.op, Const):
            visit(v, to_torch(v.op.array))
    chunks = list(inputs_in_chunks(graph, calibration, images, CHUNK))
    if not chunks:
        raise TersorError("the calibration batches hold no images")
    for i, chunk in enumerate(chunks):
        _run(graph, chunk, set(values), visit)
        if ctx.progress is not None:
            ctx.progress(what, i + 1, len(chunks))


def _run(graph: Graph, inputs: list[torch.Tensor], values: set[Value], visit: Callable[[Value, torch.Tensor], None]) -> None:
    import torch

    # a copy at another batch has other `Value` objects in the same places
    run = at_batch_of(graph, inputs)
    copies = {b: a for a, b in zip(_values(graph), _values(run)) if a in values}
    for v, x in zip(run.inputs, inputs):
        if v in copies:
            visit(copies[v], x)

    def seen(op: Op, y: torch.Tensor) -> None:
        if op.out in copies:
            visit(copies[op.out], y)

    with torch.no_grad():
        evaluate(run, inputs, observe=seen)


def _values(graph: Graph) -> list[Value]:
    return [*graph.inputs, *(v for op in graph.ops for v in op.outs)]


def _add(histogram: Histogram, value: Value, x: torch.Tensor) -> None:
    try:
        histogram.add(x)
    except TersorError as error:
        where = f"{value.op.name} [{value.op.loc}]" if value.op is not None else f"input {value.name!r}"
        raise TersorError(f"{where} {error} on the calibration data; activations must be finite numbers to be quantized") from None
