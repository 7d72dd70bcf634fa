"""Which layers the passes of this folder change, and the constant behind a layer's weight."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import Conv2d, Linear, Masked, Shared

#: Layers whose weights are used as a matrix (outputs, all other axes).
Layer = Conv2d | Linear


def name_of(op: Op) -> str:
    """The module path of a layer, else the name of its result."""
    return op.loc.path or op.out.name or op.name


def dense_of(value: Value) -> np.ndarray | None:
    """The dense array of a weight that is constant, masked or shared; None for any other."""
    op = value.op
    if isinstance(op, Const):
        return op.array
    if isinstance(op, Masked) and isinstance(op.w.op, Const) and isinstance(op.mask.op, Const):
        return np.where(op.mask.op.array, op.w.op.array, np.zeros((), op.w.op.array.dtype))
    if isinstance(op, Shared) and isinstance(op.codebook.op, Const) and isinstance(op.index.op, Const):
        return expanded(op.codebook.op.array, op.index.op.array)
    return None


def expanded(codebook: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The weight of a `sparse.shared`."""
    array: np.ndarray = np.concatenate([np.zeros(1, codebook.dtype), codebook])[index]
    return array


def select(graph: Graph, exclude: Sequence[str], depthwise: bool) -> tuple[list[Layer], dict[Layer, str]]:
    """The layers to change in the order of the graph, and why each of the others stays. Raises where a pattern matches nothing, or all stay."""
    paths = sorted({op.loc.path for op in graph if op.loc.path})
    for pattern in exclude:
        if not fnmatch.filter(paths, pattern):
            raise TersorError(f"exclude pattern {pattern!r} matches no op; module paths: {', '.join(paths[:12]) or 'none'}")
    chosen: list[Layer] = []
    kept: dict[Layer, str] = {}
    for op in graph.ops:
        if not isinstance(op, Layer):
            continue
        source = op.w.op
        if any(fnmatch.fnmatchcase(op.loc.path, pattern) for pattern in exclude):
            kept[op] = "excluded"
        elif isinstance(op, Conv2d) and op.depthwise and not depthwise:
            kept[op] = "depthwise: depthwise=true takes such layers too"
        elif not isinstance(source, Const | Masked) or dense_of(op.w) is None:
            kept[op] = f"its weights are not constant but of {source.name if source else 'an input'}"
        elif not op.w.type.is_float or not op.w.single_use:
            kept[op] = "its weights are read elsewhere too" if op.w.type.is_float else f"its weights are {op.w.type.elem}"
        else:
            chosen.append(op)
    if not chosen:
        reasons = "; ".join(dict.fromkeys(kept.values())) or "there is no convolution and no linear layer"
        raise TersorError(f"there is no layer to change: {reasons}")
    return chosen, kept
