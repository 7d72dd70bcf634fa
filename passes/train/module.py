"""A graph as a torch module that can be trained, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ...ir.errors import TersorError
from ...ir.evaluate import at_batch_of, bind, evaluate, structured, to_numpy
from ...ir.evaluate import to_torch as tensor_of
from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import Masked
from ..sparse.gradual import Growing, Schedule
from .parameters import parameters_of

#: Where a constant is kept: the submodule and the attribute of it.
Slot = tuple[nn.Module, str]


class GraphModule(nn.Module):
    """A graph whose float constants are parameters and buffers, run op by op by `evaluate`; made by `to_torch`.

    They have the names of the graph's constants, which are those of the traced module's `state_dict`. `graph` is the graph it was made
    from, which training never changes. momentum: weight of one batch in a batch norm's running statistics, as in torch.
    """

    def __init__(self, graph: Graph, momentum: float = 0.1):
        super().__init__()
        self.graph = graph.clone().verify()
        self.momentum = momentum
        learned = parameters_of(self.graph)
        #: name of each constant, in the order of the graph's constants
        self.names = [self._keep(op, op.out in learned) for op in _constants(self.graph)]

    def forward(self, *inputs: torch.Tensor) -> Any:
        """What the graph returns, in its structure. In training mode batch norms use the statistics of the batch and update the running ones."""
        bind(self.graph, tuple(_as_declared(v, x) for v, x in zip(self.graph.inputs, inputs)) + inputs[len(self.graph.inputs) :], {})
        graph = at_batch_of(self.graph, inputs)
        slots = {op.out: self._slot(name) for op, name in zip(_constants(graph), self.names)}
        given = {v: getattr(*slot) for v, slot in slots.items()}
        double = any(x.dtype == torch.float64 for x in given.values())

        def measured(op: Op, name: str, value: torch.Tensor) -> None:
            self._update(op, slots.get(getattr(op, name)), value)

        results = evaluate(graph, inputs, dtype=torch.float64 if double else None, given=given, measured=measured if self.training else None)
        return structured(graph.structure, results)

    def masks(self) -> Schedule:
        """The masks of weights that training is to make sparse."""
        slots = {op.out: self._slot(name) for op, name in zip(_constants(self.graph), self.names)}
        found = []
        for op in self.graph.find(Masked):
            assert isinstance(op, Masked)
            if op.sparsity > 0:
                if op.w not in slots or op.mask not in slots:
                    raise TersorError(f"{op.name} [{op.loc}] masks a weight that is not constant, so training cannot make it sparse")
                mask: torch.Tensor = getattr(*slots[op.mask])
                found.append(Growing(op, getattr(*slots[op.w]), mask, 1 - float(mask.float().mean())))
        return Schedule(found)

    def constants(self) -> list[torch.Tensor]:
        """The values of the graph's constants now, in their order."""
        return [getattr(*self._slot(name)) for name in self.names]

    # -- names -------------------------------------------------------------------------------------

    def _keep(self, op: Const, learned: bool) -> str:
        """Register a constant under its name: `features.0.weight` is `weight` in a submodule `0` of `features`."""
        *path, leaf = (op.out.name or "constant").split(".")
        at: nn.Module = self
        for i, part in enumerate(path):
            while not isinstance(at._modules.get(part), nn.Module) and (hasattr(at, part) or not part):
                part += "_"
            if part not in at._modules:
                at.add_module(part, nn.Module())
            at, path[i] = at.get_submodule(part), part
        while hasattr(at, leaf) or not leaf:
            leaf += "_"
        tensor = tensor_of(op.array).clone()
        if learned:
            at.register_parameter(leaf, nn.Parameter(tensor))
        else:
            at.register_buffer(leaf, tensor)
        return ".".join([*path, leaf])

    def _slot(self, name: str) -> Slot:
        path, _, leaf = name.rpartition(".")
        return self.get_submodule(path), leaf

    def _update(self, op: Op, slot: Slot | None, value: torch.Tensor) -> None:
        """running <- (1 - momentum) * running + momentum * measured, with the operator's own momentum if it has one"""
        if slot is None:
            raise TersorError(f"{op.name} [{op.loc}] keeps running statistics that are not constants, so training cannot update them")
        with torch.no_grad():
            running: torch.Tensor = getattr(*slot)
            running.lerp_(value.to(running.dtype), getattr(op, "momentum", self.momentum))


def to_torch(graph: Graph, *, momentum: float = 0.1) -> GraphModule:
    """A torch module that computes what the graph does, with the graph's weights as its parameters. It starts in evaluation mode.

    Weights, biases, gammas and slopes are parameters; running statistics and all other constants are buffers. Both have the names of the
    graph's constants, for a traced graph those of the module's `state_dict`. Gradients flow through every operator; in training mode
    (`module.train()`) batch norms use the statistics of the batch and update the running ones with `momentum`. Dropout is gone: `trace` takes
    a module in evaluation mode.
    """
    if not isinstance(graph, Graph):
        raise TersorError(f"to_torch takes a graph, got {type(graph).__name__}; trace(module, example) makes one of a torch module")
    return GraphModule(graph, momentum).eval()


def from_torch(module: nn.Module) -> Graph:
    """A new graph with the module's current weights. module: made by `to_torch`, or torch's wrapper of one for several processes."""
    inner = module.module if isinstance(module, nn.parallel.DistributedDataParallel) else module
    if not isinstance(inner, GraphModule):
        raise TersorError(
            f"from_torch takes a module that to_torch made, got {type(inner).__name__}; trace(module, example) makes a graph of any module"
        )
    graph = inner.graph.clone()
    for op, tensor in zip(_constants(graph), inner.constants()):
        if op.out.type.is_float or op.out.type.elem == "bool":
            array = np.array(to_numpy(tensor), order="C").astype(op.array.dtype)
            graph.replace(op, op.rebuilt(array=array))
    return graph.verify()


def _constants(graph: Graph) -> list[Const]:
    return [op for op in graph.ops if isinstance(op, Const)]


def _as_declared(v: Value, x: Any) -> Any:
    """A float input in the value's declared type, for the check of arguments: it may have another precision, as the parameters may."""
    floating = isinstance(x, torch.Tensor) and x.is_floating_point() and v.type.is_float
    return torch.empty(x.shape, dtype=tensor_of(np.empty(0, v.type.dtype)).dtype, device="meta") if floating else x
