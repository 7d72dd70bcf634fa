"""The reference interpreter: runs a graph op by op in torch, each op by its own `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import is_
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import numpy as np

from .addresses import check_addresses
from .errors import TersorError
from .graph import Graph
from .op import Const, Op, Value
from .ops.elementwise import Cast
from .ops.namespace import torch_dtype
from .signature import in_order
from .types import FLOATS, NUMPY, storage_elem

if TYPE_CHECKING:
    import torch

BF16 = NUMPY["bf16"]


class _Alias:
    """A read-only array's memory presented as writable: torch warns about read-only arrays, and numpy refuses to make them writable."""

    def __init__(self, array: np.ndarray):
        self.owner = array
        self.__array_interface__ = array.__array_interface__ | {"data": (array.ctypes.data, False)}


def to_torch(array: np.ndarray) -> torch.Tensor:
    """The array as a torch tensor that shares its memory (copied only where a stride is negative). Never write to that of a read-only array."""
    import torch

    if any(s < 0 for s in array.strides):
        array = np.ascontiguousarray(array)
    plain = array.view(np.int16) if array.dtype == BF16 else array
    tensor = torch.from_numpy(plain if plain.flags.writeable else np.asarray(_Alias(plain)))
    return tensor.view(torch.bfloat16) if array.dtype == BF16 else tensor


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """The tensor as a numpy array that shares its memory if it is on the CPU."""
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(BF16)
    return tensor.numpy()


def evaluate(
    graph: Graph,
    inputs: Sequence[torch.Tensor],
    *,
    dtype: torch.dtype | None = None,
    observe: Callable[[Op, torch.Tensor], None] | None = None,
    compute: Callable[..., Any] | None = None,
    given: Mapping[Value, torch.Tensor] | None = None,
    measured: Callable[[Op, str, torch.Tensor], None] | None = None,
) -> list[torch.Tensor]:
    """Compute the values of `graph.outputs`. Inputs have the graph's shapes; a value is freed after its last use.

    dtype: a float type in which all float values are computed instead of their own (torch.float64 for an oracle).
    observe: called with each op except constants and with each of its results. Autograd records as it is set in torch.
    compute: called as compute(op, *operands) instead of op.evaluate(*operands).
    given: known values; the ops that define them do not run. Training passes its parameters here, in place of constants.
    measured: selects the training form of every op (`Op.evaluate_training`); called with each statistic that an op measures for an operand field
    (the mean and the variance of a batch norm's batch).
    """
    if len(inputs) != len(graph.inputs):
        raise TersorError(f"{graph.name} takes {len(graph.inputs)} inputs ({', '.join(v.name for v in graph.inputs)}), got {len(inputs)}")
    reads = _reads(graph)
    env: dict[Value, torch.Tensor] = {v: _as(x, dtype) for v, x in zip(graph.inputs, inputs) if v in reads}
    for op in graph.ops:
        args = [operand(getattr(op, f.name), env) for f in op.operand_fields]
        results = _given(op, given, dtype) or run(op, args, dtype, compute, measured)
        for v, y in zip(op.outs, results):
            if observe is not None and not isinstance(op, Const):
                observe(op, y)
            if v in reads:
                env[v] = y
        del args, results
        for v in op.operands:
            reads[v] -= 1
            if not reads[v]:
                del env[v]
    return [env[v] for v in graph.outputs]


def _reads(graph: Graph) -> dict[Value, int]:
    reads: dict[Value, int] = {}
    for op in graph.ops:
        for v in op.operands:
            reads[v] = reads.get(v, 0) + 1
    for v in graph.outputs:
        reads[v] = reads.get(v, 0) + 1
    return reads


def operand(v: Value | list[Value] | None, env: dict[Value, torch.Tensor]) -> Any:
    """The tensor, list of tensors or None that an operand field stands for."""
    if isinstance(v, list):
        return [env[o] for o in v]
    return None if v is None else env[v]


def _given(op: Op, given: Mapping[Value, torch.Tensor] | None, dtype: torch.dtype | None) -> tuple[torch.Tensor, ...]:
    """The results of an op if they are known, else nothing."""
    return tuple(_as(given[v], dtype) for v in op.outs) if given is not None and op.outs[0] in given else ()


def run(
    op: Op,
    args: list[Any],
    dtype: torch.dtype | None = None,
    compute: Callable[..., Any] | None = None,
    measured: Callable[[Op, str, torch.Tensor], None] | None = None,
) -> tuple[torch.Tensor, ...]:
    """The results of one op; `dtype`, `compute` and `measured` as of `evaluate`."""
    if dtype is not None and isinstance(op, Cast) and op.elem in FLOATS:
        # rounding to f32 on the way would spoil a float64 oracle
        return (args[0].to(dtype),)
    check_addresses(op, args)
    try:
        if measured is not None:
            result: Any = _trained(op, args, measured)
        else:
            result = op.evaluate(*args) if compute is None else compute(op, *args)
    except Exception as error:
        if "ZeroDivisionError" in str(error):
            raise TersorError(f"{op.name} [{op.loc}] divides an integer by zero") from error
        error.add_note(f"while evaluating {op.name} [{op.loc}]")
        raise
    results = result if isinstance(result, tuple) else (result,)
    return tuple(_as(y, dtype) for y in results)


def _trained(op: Op, args: list[Any], measured: Callable[[Op, str, torch.Tensor], None]) -> Any:
    result, statistics = op.evaluate_training(*args)
    for name, value in statistics.items():
        measured(op, name, value)
    return result


def _as(x: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    return x if dtype is None or not x.is_floating_point() else x.to(dtype)


# -- calls by a user ---------------------------------------------------------------------------


def call(graph: Graph, inputs: Sequence[Any], named: dict[str, Any]) -> Any:
    """Run the graph on torch tensors or numpy arrays, given in order or by name; the batch of batched inputs is free.

    Returns the model's own structure (index, tuple, list or dict), as numpy when every input is numpy. Without gradients.
    """
    import torch

    values = bind(graph, inputs, named)
    tensors = [v if isinstance(v, torch.Tensor) else to_torch(v) for v in values]
    with torch.no_grad():
        results: list[Any] = list(evaluate(at_batch_of(graph, values), tensors))
    if values and all(isinstance(v, np.ndarray) for v in values):
        results = [to_numpy(y) for y in results]
    return structured(graph.structure, results)


def structured(structure: Any, results: Sequence[Any]) -> Any:
    """Results put into a graph's output structure: each index replaced by that result, None kept."""
    if isinstance(structure, dict):
        return {k: structured(s, results) for k, s in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(structured(s, results) for s in structure)
    return None if structure is None else results[structure]


def bind(graph: Graph, inputs: Sequence[Any], named: dict[str, Any]) -> list[Any]:
    """Arguments of a call in the order of `graph.inputs`, each checked for kind, dtype and shape (the batch of batched inputs is free)."""
    values = in_order(graph.name, {v.name: _shown(graph, v) for v in graph.inputs}, inputs, named)
    for v, x in zip(graph.inputs, values):
        _check(graph, v, x)
    return values


def _shown(graph: Graph, v: Value) -> str:
    dims = ["batch" if i == 0 and v.name in graph.batched else str(s) for i, s in enumerate(v.shape)]
    return f"{v.type.elem}[{', '.join(dims)}]"


def _check(graph: Graph, v: Value, x: Any) -> None:
    import torch

    if not isinstance(x, (torch.Tensor, np.ndarray)):
        raise TersorError(f"input {v.name!r} of {graph.name} must be a torch tensor or a numpy array, got {type(x).__name__}")
    expected: Any = v.type.dtype if isinstance(x, np.ndarray) else torch_dtype(storage_elem(v.type.elem))
    if x.dtype != expected:
        raise TersorError(f"input {v.name!r} of {graph.name} must be {_shown(graph, v)} ({expected}), got dtype {x.dtype}")
    shape = tuple(x.shape)
    batched = v.name in graph.batched and len(shape) == v.type.rank and shape[0] > 0
    if shape != ((shape[0], *v.shape[1:]) if batched else v.shape):
        raise TersorError(f"input {v.name!r} of {graph.name} must be {_shown(graph, v)}, got shape {list(shape)}")


class _AtBatch:
    """Copies of a graph at other batch sizes, valid until the graph changes."""

    def __init__(self, state: tuple[list[Any], list[int]]):
        self.objects, self.ids = state
        self.graphs: dict[int, Graph] = {}

    def valid(self, state: tuple[list[Any], list[int]]) -> bool:
        objects, ids = state
        return self.ids == ids and len(self.objects) == len(objects) and all(map(is_, self.objects, objects))


def _state(graph: Graph) -> tuple[list[Any], list[int]]:
    """Everything that a copy depends on. Ops are held by weak reference: they hold their graph, which would otherwise never be freed."""
    objects: list[Any] = []
    ids = [id(v) for v in graph.outputs]
    for op in graph.ops:
        objects.append(ref(op))
        objects.extend(getattr(op, f.name) for f in op.attr_fields)
        ids.extend(map(id, op.operands))
    return objects, ids


_copies: WeakKeyDictionary[Graph, _AtBatch] = WeakKeyDictionary()


def at_batch_of(graph: Graph, inputs: Sequence[Any]) -> Graph:
    """The graph at the batch size of these inputs: itself where the size is its own, else `graph.at(batch)`, cached until the graph changes."""
    sizes = {v.name: (x.shape[0], v.shape[0]) for v, x in zip(graph.inputs, inputs) if v.name in graph.batched}
    given = {n for n, _ in sizes.values()}
    if len(given) > 1:
        raise TersorError(f"batched inputs of {graph.name} must share one batch, got {', '.join(f'{k}: {n}' for k, (n, _) in sizes.items())}")
    if all(n == own for n, own in sizes.values()):
        return graph
    state = _state(graph)
    copies = _copies.get(graph)
    if copies is None or not copies.valid(state):
        copies = _copies[graph] = _AtBatch(state)
    (batch,) = given
    if batch not in copies.graphs:
        copies.graphs[batch] = graph.at(batch)
    return copies.graphs[batch]
