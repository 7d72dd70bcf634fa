"""`tersor.compile`, which takes a graph, or a torch module with example inputs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from .backend.compile import compile as compile_graph
from .ir.errors import TersorError

if TYPE_CHECKING:
    from torch import nn

    from .backend.runtime.model import CompiledModel
    from .ir.graph import Graph


def compile(model: Graph | nn.Module, *args: Any, **options: Any) -> CompiledModel:
    """Native code for a graph: `compile(graph, target="cpu", threads=1, ...)`, or for a torch module: `compile(module, example_inputs, ...)`.

    A module is traced with the example inputs (`tersor.trace`: one tensor, a tuple of forward's arguments, or a dict of them by name).

    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        return compile_graph(cast("Graph", model), *args, **options)
    from .frontend.torch.trace import trace

    if not args and "example_inputs" not in options:
        raise TersorError("a torch module is compiled with example inputs: tersor.compile(module, x)")
    example, *rest = args or (options.pop("example_inputs"),)
    return compile_graph(trace(model, example), *rest, **options)


compile.__doc__ = (compile.__doc__ or "") + (compile_graph.__doc__ or "").partition("\n\n")[2]
