"""Arguments of a call by position and name: the rules that graphs and compiled models share. Loads neither torch nor a compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import TersorError


def in_order(name: str, shown: Mapping[str, str], inputs: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
    """Arguments in the order of the inputs. name: of the model; shown: each input's name and what it takes, for errors.

    Raises `TersorError` for too many, unknown, repeated and missing ones.
    """
    names, signature = list(shown), ", ".join(f"{key}: {text}" for key, text in shown.items())
    if len(inputs) > len(names):
        raise TersorError(f"{name} takes {len(names)} inputs ({signature}), got {len(inputs)}")
    given = dict(zip(names, inputs))
    for key, value in named.items():
        if key not in names:
            raise TersorError(f"{name} has no input {key!r}; inputs: {signature}")
        if key in given:
            raise TersorError(f"{name} got input {key!r} twice, by position and by name")
        given[key] = value
    if missing := [n for n in names if n not in given]:
        raise TersorError(f"{name} is missing input {', '.join(map(repr, missing))}; inputs: {signature}")
    return [given[n] for n in names]
