"""Parameters, buffers and constants of an exported program as `Const` values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from ...ir.op import Const, Loc, Value
from ..call import elem_of, to_numpy
from .locations import node_loc


class Constants:
    """One value for each tensor, however many names it has. unique: makes a value's name distinct."""

    def __init__(self, module: nn.Module, program: ExportedProgram, unique: Callable[[str], str]):
        self.program = program
        self.unique = unique
        self.targets = {s.arg.name: str(s.target) for s in program.graph_signature.input_specs if s.target}
        self.tensors = dict(module.named_parameters(remove_duplicate=False))
        self.values: dict[tuple[Any, ...], Value] = {}

    def stored(self, name: str) -> torch.Tensor | None:
        """A parameter, buffer or lifted constant by its qualified name."""
        found = self.program.state_dict.get(name, self.program.constants.get(name))
        return found if isinstance(found, torch.Tensor) else None

    def value(self, node: fx.Node, tensor: torch.Tensor) -> Value:
        """The constant for the tensor of `node`; named after the parameter, else after the node."""
        key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()) if tensor.numel() else (node,)
        if key not in self.values:
            target = self.targets.get(node.name)
            name = self._first_name(target) if target else node.name
            elem_of(tensor.dtype, f"constant {name!r}")
            op = Const(to_numpy(tensor), loc=Loc(name) if target else node_loc(node))
            op.out.name = self.unique(name)
            self.values[key] = op.out
        return self.values[key]

    def _first_name(self, target: str) -> str:
        """The first of the names under which the module holds a shared parameter."""
        return next((name for name, t in self.tensors.items() if t is self.tensors.get(target)), target)
