"""Inputs that a pass is checked on: calibration data where it is given, else random numbers that the graph can be run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.errors import TersorError
from ...ir.evaluate import at_batch_of, bind, evaluate, to_torch
from ...ir.graph import Graph

if TYPE_CHECKING:
    import torch

    from .context import Batch

#: Ranges that random integers are drawn from until the graph runs: 0 and 1 are valid indices; the others are valid divisors too.
RANGES = ((0, 2), (1, 10), (1, 2), (2, 10))


def samples(graph: Graph, calibration: Sequence[Batch] | None, seed: int) -> list[list[torch.Tensor]]:
    """Inputs to test on: the first calibration batch, else seeded random numbers at the traced batch; and random ones at another batch,
    whose integers are those of the calibration batch where it is given."""
    rng = np.random.default_rng(seed)
    given = tensors(arguments(graph, calibration[0])) if calibration else None
    first = runnable(graph, rng) if given is None else given
    if not graph.batched:
        return [first]
    sizes = {len(x) for v, x in zip(graph.inputs, first) if v.name in graph.batched}
    batch = 1 if max(sizes) > 1 else 3
    return [first, runnable(graph, rng, batch) if given is None else _resized(graph, rng, given, batch)]


def arguments(graph: Graph, batch: Batch) -> list[Any]:
    """A batch as the list of the graph's inputs, checked."""
    if isinstance(batch, Mapping):
        return bind(graph, (), dict(batch))
    return bind(graph, tuple(batch) if isinstance(batch, (list, tuple)) else (batch,), {})


def runnable(graph: Graph, rng: np.random.Generator, batch: int | None = None) -> list[torch.Tensor]:
    """Random inputs whose integers come from the first of `RANGES` that the graph runs on: divisors must not be zero, indices in range."""
    import torch

    if all(v.type.is_float or v.type.elem == "bool" for v in graph.inputs):
        return random_inputs(graph, rng, batch)
    failed = ""
    for low, high in RANGES:
        inputs = random_inputs(graph, rng, batch, low, high)
        try:
            with torch.no_grad():
                evaluate(at_batch_of(graph, inputs), inputs)
        except (TersorError, RuntimeError, IndexError) as error:
            failed = failed or str(error).splitlines()[0]
        else:
            return inputs
    raise TersorError(
        f"check=True found no random integers that the graph runs on ({failed}): give real inputs, transform(graph, pipeline, calibration=[batch])"
    )


def random_inputs(graph: Graph, rng: np.random.Generator, batch: int | None = None, low: int = 0, high: int = 2) -> list[torch.Tensor]:
    """Normal floats, integers from `low` to below `high`, random booleans, of the graph's input types."""
    result = []
    for v in graph.inputs:
        shape = (batch, *v.shape[1:]) if batch is not None and v.name in graph.batched else v.shape
        drawn = (
            rng.standard_normal(shape) if v.type.is_float else rng.integers(0, 2, shape) if v.type.elem == "bool" else rng.integers(low, high, shape)
        )
        result.append(to_torch(np.asarray(drawn).astype(v.type.dtype)))
    return result


def _resized(graph: Graph, rng: np.random.Generator, given: Sequence[torch.Tensor], batch: int) -> list[torch.Tensor]:
    """Random floats at another batch. Other inputs are as given; the rows of batched ones are cut, or repeated where they are too few."""
    result = random_inputs(graph, rng, batch)
    for i, (v, x) in enumerate(zip(graph.inputs, given)):
        if not v.type.is_float:
            result[i] = x[np.arange(batch) % len(x)] if v.name in graph.batched else x
    return result


def tensors(arrays: Sequence[Any]) -> list[torch.Tensor]:
    """Arrays and tensors as tensors."""
    import torch

    return [x if isinstance(x, torch.Tensor) else to_torch(x) for x in arrays]
