"""Option values: checked against the annotations of a pass, and printed so that they parse back."""

from __future__ import annotations

import difflib
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from ...ir.errors import TersorError

#: A word that needs no quotes: a string value, a key, a pass name.
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
KEYWORDS: dict[str, bool | float | None] = {"true": True, "false": False, "none": None, "inf": math.inf, "nan": math.nan}


class OptionError(TersorError):
    """A pass does not have an option, or not this value of it. option: its name."""

    def __init__(self, message: str, option: str):
        super().__init__(message)
        self.option = option


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'ratio'?` when a valid name is close, else nothing."""
    close = difflib.get_close_matches(name, list(valid), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def coerce(value: Any, annotation: Any, pass_name: str, option: str) -> Any:
    """`value` as the annotated type: an int is valid for a float, a list for a tuple; any other type is an `OptionError`."""
    try:
        return _coerce(value, annotation)
    except _Mismatch as mismatch:
        at = f" (at {format_value(mismatch.value)})" if mismatch.value is not value else ""
        expected = f"expected {describe(mismatch.annotation)}, got {format_value(value)}{at}"
        if _is_list(mismatch.annotation) and _fits(value, typing.get_args(mismatch.annotation)[0]):
            expected += f"; a list of one is {format_value([value])}"
        raise OptionError(f"pass {pass_name!r}, option {option!r}: {expected}", option) from None


def _is_list(annotation: Any) -> bool:
    args = typing.get_args(annotation)
    return typing.get_origin(annotation) is list or (typing.get_origin(annotation) is tuple and args[-1] is Ellipsis)


def _fits(value: Any, annotation: Any) -> bool:
    try:
        _coerce(value, annotation)
    except _Mismatch:
        return False
    return True


class _Mismatch(Exception):
    def __init__(self, value: Any, annotation: Any):
        self.value = value
        self.annotation = annotation


def _coerce(value: Any, annotation: Any) -> Any:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any or (value is None and annotation in (None, type(None))):
        return value
    if origin is Literal:
        if value in args:
            return value
    elif origin in (types.UnionType, typing.Union):
        return _coerce_union(value, annotation, args)
    elif origin is tuple and isinstance(value, (list, tuple)):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(kinds) == len(value):
            return tuple(_coerce(v, k) for v, k in zip(value, kinds))
    elif origin is list and isinstance(value, (list, tuple)):
        return [_coerce(v, args[0]) for v in value]
    elif origin in (dict, Mapping) and isinstance(value, Mapping):
        return {_coerce(k, args[0]): _coerce(v, args[1]) for k, v in value.items()}
    elif annotation is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif annotation is int and isinstance(value, bool):
        raise _Mismatch(value, annotation)
    elif isinstance(annotation, type) and origin is None and isinstance(value, annotation):
        return value
    raise _Mismatch(value, annotation)


def _coerce_union(value: Any, annotation: Any, args: tuple[Any, ...]) -> Any:
    exact = [a for a in args if a is type(value)]
    for arg in (*exact, *args):
        try:
            return _coerce(value, arg)
        except _Mismatch:
            continue
    raise _Mismatch(value, annotation)


def describe(annotation: Any) -> str:
    """A type in the words of a pipeline string: `tuple[int, ...]` is "a list of int"."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None) or annotation is None:
        return "none"
    if origin is Literal:
        return "one of " + ", ".join(map(format_value, args))
    if origin in (types.UnionType, typing.Union):
        return " or ".join(describe(a) for a in args)
    if origin is tuple and args[-1] is not Ellipsis:
        return f"a list of {len(args)}: " + ", ".join(describe(a) for a in args)
    if origin in (list, tuple):
        return f"a list of {describe(args[0])}"
    if origin in (dict, Mapping):
        return f"a dict of {describe(args[1])} by {describe(args[0])}"
    return {bool: "true or false", str: "a string", Any: "any value"}.get(annotation, getattr(annotation, "__name__", str(annotation)))


def format_value(value: Any) -> str:
    """A value as pipeline strings write it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, Mapping):
        return format_options(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(format_value, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


def format_options(options: Mapping[str, Any]) -> str:
    """`{ratio=0.5 layers={"features.0.*": {ratio=0}}}`; keys that are not plain words are quoted and take a colon."""
    parts = [f"{k}={format_value(v)}" if isinstance(k, str) and is_word(k) else f"{format_value(k)}: {format_value(v)}" for k, v in options.items()]
    return "{" + " ".join(parts) + "}"


def is_word(text: str) -> bool:
    return bool(WORD.fullmatch(text)) and text not in KEYWORDS
