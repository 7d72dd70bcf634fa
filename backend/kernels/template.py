"""The base class of kernel templates, and how one is registered for an operator."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import TersorError
from ...ir.op import Op, Value
from ..codegen.kernel_builder import KernelBuilder
from ..target import Target
from ..tile.fusion import Fusion
from .packed import Packed

Params = dict[str, Any]


class Template:
    """One way to compute a fusion.

    A template is self-contained: it defines which fusions it accepts, its parameters, cost, packing, scratch and code. Facts describe
    the code in `emit`: a class that defines `emit` has the defaults of all facts that it does not state, whatever its bases state.
    """

    name: str
    #: Kinds of target that it has code for.
    kinds: tuple[str, ...] = ("cpu",)
    #: Fact: addresses values with a batch stride, by `Fusion.map_rows` (parts of an aliased concat).
    strided_batch: bool = False
    #: Fact: stores blocked results only through `KernelBuilder.finish` and `put`, so they may start inside a channel block with other values.
    masked_stores: bool = False
    #: Fact: its register tiles are given `KernelBuilder.next_weights`, which prefetches the weights of a later kernel.
    prefetches_next_weights: bool = False
    #: Fact: it computes a channel gather and its consumer in one kernel. Names of the templates that it can replace; it takes over the parameters
    #: of the first.
    fuses_gather_into: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        if "emit" in cls.__dict__:
            for fact in FACTS:
                if fact not in cls.__dict__:
                    setattr(cls, fact, Template.__dict__[fact])

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        """Whether this template can compute the fusion at all; by default one without an epilogue."""
        return not fusion.epilogue

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        """Parameter choices worth measuring, the preferred one first; by default there is nothing to choose."""
        return [{}]

    def variant(self, fusion: Fusion, target: Target) -> str:
        """The property of constants' values on which the candidates depend: where it differs, fusions of one shape have separate tuning entries."""
        return ""

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        """Modelled time in cycles of one thread, comparable between templates of one operator; by default one for each element of the result."""
        return float(fusion.out.size)

    def pack(self, fusion: Fusion, target: Target, params: Params) -> Mapping[Value, np.ndarray | Packed]:
        """Constants of the fusion's arguments in the form the code reads; arguments left out are taken as they are."""
        return {}

    def scratch(self, fusion: Fusion, target: Target, params: Params, threads: int) -> int:
        """Bytes of scratch, planned with the activations."""
        return 0

    def scratch_dtype(self, fusion: Fusion) -> str:
        """The element type of the scratch."""
        return "float32"

    def unaligned_inputs(self, fusion: Fusion) -> list[Value]:
        """Fact: operands that are read element by element. Such an input of the model may start at any address, and is not copied."""
        return []

    def row_partitioned(self, fusion: Fusion, target: Target, params: Params) -> list[list[Value]]:
        """Fact: lists of arguments and of the result that the code can address row-partitioned, by `Fusion.map_rows`: all of a list, or none."""
        return []

    def streamed_weights(self, fusion: Fusion, target: Target) -> tuple[Value, int] | None:
        """Fact: packed weights that are read once for few rows, so that memory bounds the time, and how many elements they have: an earlier kernel
        prefetches them. None for any other kernel."""
        return None

    def winograd_tile(self, params: Params) -> int:
        """The m of Winograd's F(m x m, 3x3) that the code uses, for the option `winograd` of `compile`; 0 for none."""
        return 0

    def note(self, fusion: Fusion, target: Target, chosen: str) -> str:
        """A remark for the report on a fusion of this template's kind, given the name of the chosen template; empty by default."""
        return ""

    def emit(self, k: KernelBuilder) -> None:
        """Write the code."""
        raise NotImplementedError(f"template {self.name!r} defines no emit")


#: The facts that `Template.__init_subclass__` resets.
FACTS = (
    "strided_batch",
    "masked_stores",
    "prefetches_next_weights",
    "fuses_gather_into",
    "unaligned_inputs",
    "row_partitioned",
    "streamed_weights",
)


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
    """Class decorator: register a template for chains, fusions of several anchors (`Fusion.segments`)."""
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
    """The template that select-kernels or fuse-chains chose for a fusion with this (first) anchor."""
    for template in (*templates_for(op), *chain_templates()):
        if template.name == name:
            return template
    known = ", ".join(t.name for t in templates_for(op)) or "none"
    raise TersorError(f"{op.name} [{op.loc}]: no kernel template {name!r}; registered for it: {known}")
