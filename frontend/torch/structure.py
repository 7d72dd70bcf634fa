"""Names and nesting of a module's inputs and outputs, read from torch's pytree specs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch.utils._pytree import TreeSpec

from ...ir.graph import unique_names

Path = tuple[str | int, ...]


def structure_of(spec: TreeSpec, leaves: Iterator[int | None]) -> Any:
    """The nesting of `spec` out of lists, tuples and dicts, with `leaves` (indices of outputs, None for None) in it.

    Dataclasses and `transformers` outputs become dicts, named tuples become tuples.
    """
    if spec.is_leaf():
        return next(leaves)
    children = [structure_of(child, leaves) for child in spec.children()]
    keys = _keys(spec)
    if all(isinstance(key, str) for key in keys) or spec.type is dict:
        return dict(zip(keys, children))
    return children if spec.type is list else tuple(children)


def leaf_paths(spec: TreeSpec, prefix: Path = ()) -> list[Path]:
    """For each leaf the keys and positions that lead to it."""
    if spec.is_leaf():
        return [prefix]
    return [path for key, child in zip(_keys(spec), spec.children()) for path in leaf_paths(child, (*prefix, key))]


def output_names(paths: list[Path]) -> list[str]:
    """`("logits",)` -> `logits`, `(1, "a")` -> `output_1_a`, a single unnamed result -> `output`."""
    return unique_names(_identifier(path if path and isinstance(path[0], str) else ("output", *path)) for path in paths)


def _identifier(path: Path) -> str:
    text = re.sub(r"\W", "_", "_".join(str(part) for part in path))
    return f"_{text}" if text[:1].isdigit() else text


def _keys(spec: TreeSpec) -> list[Any]:
    """Keys of a node's children: those of a dict or dataclass, else positions."""
    context, count = spec.context, spec.num_children
    # dict and transformers' ModelOutput: the keys; torch.export.register_dataclass: (names with a value, names that are None)
    for keys in (context, context[0] if isinstance(context, list | tuple) and context else None):
        if isinstance(keys, list | tuple) and len(keys) == count and (spec.type is dict or all(isinstance(k, str) for k in keys)):
            return list(keys)
    if hasattr(spec.type, "keys") and isinstance(context, list | tuple) and len(context) == count:
        return list(context)
    return list(range(count))
