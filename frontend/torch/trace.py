"""`trace`: a torch.nn.Module -> a Graph, through torch.export's fx graph."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from ...ir.errors import TersorError, UnsupportedError
from ...ir.graph import Graph
from ..call import StaticBatchNeeded
from .export import batch_candidates, check_inputs, check_module, export, export_error, located_reason
from .walk import Walk

#: torch.export keeps what it traces in global variables, so one thread traces at a time. Re-entrant, because a converter may trace too.
_ONE_AT_A_TIME = threading.RLock()


def trace(module: nn.Module, example_inputs: Any, *, batch: bool = True, input_names: Sequence[str] | None = None) -> Graph:
    """The graph of what `module` computes in evaluation mode.

    module: a torch.nn.Module after `.eval()`. Its parameters are copied into the graph.
    example_inputs: one tensor, a tuple of forward's positional arguments, or a dict of its keyword arguments. Tensors become the graph's inputs
        at their shapes and dtypes; numbers, strings and None are compiled in.
    batch: dimension 0 of the inputs stays symbolic, so that `graph.at(batch=n)` works; the types in the graph are those of the example.
        Where the model does not allow that, a warning says why and the example's batch is fixed.
    input_names: names for the tensors instead of forward's parameter names, in the order of the (flattened) example.

    Raises `TersorError` for a module in training mode or inputs that do not fit, `UnsupportedError` for control flow that depends on data
    and for operators without a converter (all of them at once; see `tersor.frontend.converter`).
    Threads may call it at once; they wait for each other.
    """
    with _ONE_AT_A_TIME:
        return _trace(module, example_inputs, batch, input_names)


def _trace(module: nn.Module, example_inputs: Any, batch: bool, input_names: Sequence[str] | None) -> Graph:
    module = check_module(module)
    args, kwargs = _arguments(example_inputs)
    check_inputs(module, args, kwargs)
    refused: list[str] = []
    for batched in batch_candidates(args, kwargs) if batch else []:
        try:
            program = export(module, args, kwargs, batched)
        except Exception as err:  # torch raises many kinds; the static export below tells a broken model from a batch that is not symbolic
            refused.append(located_reason(err))
            continue
        try:
            return _convert(module, program, input_names, batched[0].shape[0])
        except StaticBatchNeeded as err:
            refused.append(str(err))
    try:
        program = export(module, args, kwargs)
    except TersorError:
        raise
    except Exception as err:
        raise export_error(module, err, args, kwargs) from err
    try:
        graph = _convert(module, program, input_names, None)
    except StaticBatchNeeded as err:
        # there is no batch left to fix: the size depends on data
        raise UnsupportedError(f"{type(module).__name__} has a size that depends on the values of a tensor: {err}") from err
    if refused:
        warnings.warn(f"{type(module).__name__} is traced at the example's batch only: {refused[-1]}", stacklevel=3)
    return graph


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example, torch.Tensor):
        return (example,), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, tuple | list):
        return tuple(example), {}
    raise TersorError(f"example inputs are a torch.Tensor, a tuple of forward's arguments or a dict of them by name; got {type(example).__name__}")


def _convert(module: nn.Module, program: ExportedProgram, input_names: Sequence[str] | None, batch: int | None) -> Graph:
    walk = Walk(module, program, batch, input_names)
    graph = walk.run()
    if graph.batched:
        walk.check_batch()
    return graph
