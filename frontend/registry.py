"""Converters: one function per aten operator, found by the operator's full name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ..ir.errors import TersorError

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Converter:
    """`function(call, *args, **kwargs)` returns an op, a value, or a list of them for an operator with several results.

    symbolic: whether sizes that depend on the batch may be passed (as -1); without it such a size fixes the batch of the trace.
    """

    function: Callable[..., Any]
    symbolic: bool = False


CONVERTERS: dict[str, Converter] = {}


def converter(*targets: str, symbolic: bool = False) -> Callable[[F], F]:
    """Register a function that turns calls of torch operators into ops.

    `@converter("aten.relu.default")` over `def relu(call, x): return Relu(x)`. Tensors arrive as `Value`, everything else as torch's schema
    names it; `call` has the type torch found for the result (`call.elem`, `call.shape`) and helpers for casts, constants and errors.
    A later registration for the same name replaces the earlier, so a user may override what Tersor does.
    Names are `namespace.operator.overload`, those of `torch.library` included.
    """
    for target in targets:
        if target.count(".") != 2:
            raise TersorError(f'a converter is registered for "namespace.operator.overload", such as "aten.relu.default"; got {target!r}')

    def register(function: F) -> F:
        for target in targets:
            CONVERTERS[target] = Converter(function, symbolic)
        return function

    return register
