"""What a kernel template is, and how one is registered for an operator."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...ir.errors import TersorError
from ...ir.op import Op, Value
from ..codegen.kernel_builder import KernelBuilder
from ..target import Target
from ..tile.fusion import Fusion

Params = dict[str, Any]


class Template(Protocol):
    """One way to compute a fused fusion. It owns its whole bargain: packed constants, scratch, parameters, cost and code.

    A template that finds maps in partitions (`Fusion.map_rows`) says so by one more method: `row_partitioned(fusion, target, params)` gives lists of
    arguments, or of the result, of each of which all or none may lie so. One that finds images by `Fusion.map_rows`, too, so that they need not
    follow each other, has `strided_batch = True`. One that reads some operands element by element only names them by `unaligned_inputs(fusion)`: where such an
    operand is an input of the model, it may begin at any address, and need not be copied to an aligned one. One that stores blocked results by
    nothing but `KernelBuilder.finish` and `KernelBuilder.put` says so by `masked_stores = True`: they may begin inside a channel block, beside those of others.
    One whose register tiles ask for `KernelBuilder.next_weights` has `prefetches_next_weights = True`.
    """

    name: str

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        """Whether this template can compute the fusion at all."""

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        """Parameter choices worth measuring, the cost model's favourite first."""

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        """Modelled time in cycles of one thread, comparable between templates of one operator."""

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        """Constants of the fusion's arguments in the form the code reads; arguments left out are taken as they are."""

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        """Bytes of scratch, planned with the activations."""

    def emit(self, k: KernelBuilder) -> None:
        """Write the code."""


TEMPLATES: dict[type[Op], list[Template]] = {}
CHAINS: list[Template] = []
_loaded = False


def kernel(*ops: type[Op]) -> Callable[[type], type]:
    """Class decorator: register a template for operators (also those of subclasses registered under their own name)."""

    def register(cls: type) -> type:
        template = cls()
        for op in ops:
            TEMPLATES.setdefault(op, []).append(template)
        return cls

    return register


def chain_kernel(cls: type) -> type:
    """Class decorator: register a template for chains, fusions of several anchors (`Fusion.stages`)."""
    CHAINS.append(cls())
    return cls


def load_built_in() -> None:
    """Import the modules that register Tersor's own templates."""
    global _loaded
    if not _loaded:
        _loaded = True
        for module in pkgutil.walk_packages([str(Path(__file__).parent)], f"{__package__}."):
            importlib.import_module(module.name)


def templates_for(op: Op) -> Iterator[Template]:
    """Templates registered for an op's class or a base of it."""
    load_built_in()
    for cls in type(op).__mro__:
        yield from TEMPLATES.get(cls, ())


def chain_templates() -> list[Template]:
    """Templates registered for chains."""
    load_built_in()
    return CHAINS


def template_named(name: str, op: Op) -> Template:
    """The template that the schedule or the chain stage chose for a fusion with this (first) anchor."""
    for template in (*templates_for(op), *chain_templates()):
        if template.name == name:
            return template
    known = ", ".join(t.name for t in templates_for(op)) or "none"
    raise TersorError(f"{op.name} [{op.loc}]: no kernel template {name!r}; registered for it: {known}")
