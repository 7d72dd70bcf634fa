"""Checks attribute values against the annotations of their op class, for the parser and the verifier alike."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from .graph import Graph
from .op import Field, Op
from .types import BitsAffine, Layout, Tensor, Uniform

Check = Callable[[Any], bool]

#: checks and region fields by op class, filled on first use
_CHECKS: dict[type[Op], list[tuple[str, Check, Any]]] = {}
_REGIONS: dict[type[Op], tuple[Field, ...]] = {}
_PLAIN = (str, int, float, bool, types.NoneType, Tensor, Uniform, BitsAffine, Layout, Graph)


def is_plain(value: Any) -> bool:
    """Whether the text form can hold a value; it cannot hold lists and numpy scalars."""
    kind = type(value)
    if kind is tuple:
        return all(map(is_plain, value))
    if kind is dict:
        return all(type(k) is str and k != "" and is_plain(v) for k, v in value.items())
    return kind in _PLAIN


def attribute_problem(cls: type[Op], values: Mapping[str, Any]) -> str | None:
    """A sentence about the first attribute in `values` that does not fit its annotation; None when all fit."""
    for name, fits, annotation in _checks(cls):
        if name in values and not fits(values[name]):
            got = repr(values[name])
            return f"attribute {name!r} must be {_text(annotation)}, got {got if len(got) < 80 else type(values[name]).__name__}"
    return None


def region_fields(cls: type[Op]) -> tuple[Field, ...]:
    """The attribute fields that hold a region."""
    if cls not in _REGIONS:
        _REGIONS[cls] = tuple(f for f in cls.attr_fields if f.annotation is Graph or Graph in typing.get_args(f.annotation))
    return _REGIONS[cls]


def _checks(cls: type[Op]) -> list[tuple[str, Check, Any]]:
    if cls not in _CHECKS:
        _CHECKS[cls] = [(f.name, _check(f.annotation), f.annotation) for f in cls.attr_fields]
    return _CHECKS[cls]


def _check(annotation: Any) -> Check:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is float:
        return lambda v: type(v) is float or type(v) is int
    if origin in (types.UnionType, typing.Union):
        options = [_check(a) for a in args]
        return lambda v: any(fits(v) for fits in options)
    if origin is typing.Literal:
        return lambda v: any(v == a and type(v) is type(a) for a in args)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        every = _check(args[0])
        return lambda v: type(v) is tuple and all(map(every, v))
    if origin is tuple:
        each = [_check(a) for a in args]
        return lambda v: type(v) is tuple and len(v) == len(each) and all(fits(x) for fits, x in zip(each, v))
    if origin is dict and args[0] is str:
        item = _check(args[1])
        return lambda v: type(v) is dict and all(type(k) is str and k != "" and item(x) for k, x in v.items())
    if annotation in _PLAIN:
        return lambda v: type(v) is annotation
    return is_plain


def _text(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation).replace("typing.", "")
