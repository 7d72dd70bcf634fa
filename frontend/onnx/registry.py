"""Converters of ONNX operators: one function per operator, found by its name; its signature declares inputs and attributes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ...ir.errors import TersorError

F = TypeVar("F", bound=Callable[..., Any])


class Ints(tuple[Any, ...]):
    """An input that must be known when the model is loaded, as integers: axes, sizes, pads. A size may depend on the batch (`Size`)."""


class Floats(tuple[float, ...]):
    """An input that must be known when the model is loaded, as floats: the scales of Resize."""


@dataclass(frozen=True, slots=True)
class Converter:
    """`function(node, *inputs, **attributes)` returns an op, a value, or a list of them, one for each output.

    kinds: for each input parameter `Ints`, `Floats`, or object for a tensor. rest: the kind of `*inputs`, None without.
    attributes: names of the attributes taken, and whether each has a default.
    """

    function: Callable[..., Any]
    kinds: tuple[type, ...]
    required: int
    rest: type | None
    attributes: dict[str, bool]


CONVERTERS: dict[tuple[str, str], Converter] = {}


def onnx_converter(*operators: str, domain: str = "") -> Callable[[F], F]:
    """Register a function that turns nodes of ONNX operators into ops.

    `@onnx_converter("LeakyRelu")` over `def leaky_relu(node, x, *, alpha=0.01): return LeakyRelu(x, alpha)`. Inputs come by position, None
    where one is left out; attributes by their ONNX name, with ONNX's default in the signature. A parameter annotated `Ints` or `Floats`
    gets the numbers of an input that is known when the model is loaded. Operators have the form of opset 21 or later: older models are
    converted first. A later registration for the same operator replaces the earlier.
    """
    if not operators or not all(isinstance(o, str) and o.isidentifier() for o in operators):
        raise TersorError(f'an ONNX converter is registered for operator names such as "LeakyRelu"; got {", ".join(map(repr, operators)) or "none"}')

    def register(function: F) -> F:
        entry = _described(function)
        for operator in operators:
            CONVERTERS["" if domain == "ai.onnx" else domain, operator] = entry
        return function

    return register


def _described(function: Callable[..., Any]) -> Converter:
    try:
        _, *parameters = inspect.signature(function, eval_str=True).parameters.values()
    except (NameError, ValueError) as error:
        name = getattr(function, "__name__", repr(function))
        raise TersorError(f"the converter {name} must take the node first and have annotations that can be resolved: {error}") from error
    inputs = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((_kind(p.annotation) for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    attributes = {p.name: p.default is not p.empty for p in parameters if p.kind is p.KEYWORD_ONLY}
    kinds = tuple(_kind(p.annotation) for p in inputs)
    return Converter(function, kinds, sum(p.default is p.empty for p in inputs), rest, attributes)


def _kind(annotation: Any) -> type:
    found = [a for a in (annotation, *getattr(annotation, "__args__", ())) if a in (Ints, Floats)]
    kind: type = found[0] if found else object
    return kind
