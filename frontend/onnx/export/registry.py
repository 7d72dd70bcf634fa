"""Exporters: one function per op class, which writes ONNX nodes for an op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ....ir.errors import TersorError
from ....ir.op import Op

F = TypeVar("F", bound=Callable[..., Any])

EXPORTERS: dict[type[Op], Callable[..., str]] = {}
#: Classes whose exporters read and write integer tensors where types are quantized.
ON_INTEGERS: set[type[Op]] = set()


def onnx_exporter(*kinds: type[Op], integers: bool = False) -> Callable[[F], F]:
    """Register a function that writes ONNX nodes for ops of a class (and of its subclasses that have none of their own).

    `@onnx_exporter(Gate)` over `def gate(b, op, x, g): return b.node("Mul", x, b.node("HardSigmoid", g, alpha=1 / 6))`. Operands are the
    names of tensors, None for a missing one, a list for `list[Value]`; `b.node(...)` and `b.const(...)` return names. Elementwise
    operators need none: their `f` is expanded. Operands of quantized types are passed dequantized, and a result of such a type is quantized
    after the exporter; `integers`: both are integer tensors.
    """
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Op)):
            raise TersorError(f"an ONNX exporter is registered for op classes, got {kind!r}")

    def register(function: F) -> F:
        EXPORTERS.update(dict.fromkeys(kinds, function))
        ON_INTEGERS.difference_update(kinds)
        ON_INTEGERS.update(kinds if integers else ())
        return function

    return register


def exporter_of(kind: type[Op]) -> Callable[..., str] | None:
    """The exporter of a class, or of the nearest base that has one."""
    return next((EXPORTERS[base] for base in kind.__mro__ if base in EXPORTERS), None)
