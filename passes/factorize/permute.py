"""Move permutations of channels towards the layers that read them, until a convolution takes them into its weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import AdaptivePool2d, BatchNorm, Conv2d, IndexSelect, Pool2d, Unary
from ...ir.rewrite import Result, greedy, rewrite


def sink_permutations(graph: Graph) -> Counter[str]:
    """Move permutations of channels past channelwise operators and into convolutions; returns the counts per pattern."""
    return greedy(graph, permuted_channelwise, permuted_norm, permuted_conv)


def permutation(v: Value) -> np.ndarray | None:
    """The index of a permutation of axis 1 that has no other reader; None where the value is not one."""
    op = v.op
    if not isinstance(op, IndexSelect) or op.axis != 1 or not v.single_use or not isinstance(op.index.op, Const):
        return None
    index = op.index.op.array
    return index if np.array_equal(np.sort(index), np.arange(op.x.shape[1])) else None


@rewrite
def permuted_channelwise(op: Unary | Pool2d | AdaptivePool2d) -> Result:
    """f(index_select(x, i)) -> index_select(f(x), i)   for a channelwise f"""
    if permutation(op.x) is None:
        return None
    return _behind(op, op.rebuilt(x=_source(op.x)))


@rewrite
def permuted_norm(bn: BatchNorm) -> Result:
    """batch_norm(index_select(x, i), p) -> index_select(batch_norm(x, p'), i)   p'[i] = p"""
    if (index := permutation(bn.x)) is None:
        return None
    parameters: dict[str, Any] = {name: getattr(bn, name) for name in ("gamma", "beta", "mean", "var")}
    if not all(isinstance(v.op, Const) for v in parameters.values()):
        return None
    moved: dict[str, Any] = {name: Const(v.op.array[np.argsort(index)], loc=v.op.loc) for name, v in parameters.items()}
    return _behind(bn, bn.rebuilt(x=_source(bn.x), **moved))


@rewrite
def permuted_conv(conv: Conv2d) -> Result:
    """conv(index_select(x, i), w) -> conv(x, w'), w'[:,i] = w;   depthwise: index_select(conv(x, w'), i), w'[i] = w, b'[i] = b"""
    if (index := permutation(conv.x)) is None or not isinstance(conv.w.op, Const):
        return None
    back, w = np.argsort(index), conv.w.op
    if conv.groups == 1:
        return conv.rebuilt(x=_source(conv.x), w=Const(w.array[:, back], loc=w.loc))
    if not conv.depthwise or conv.w.shape[0] != conv.groups or not (conv.b is None or isinstance(conv.b.op, Const)):
        return None
    b = None if conv.b is None or not isinstance(conv.b.op, Const) else Const(conv.b.op.array[back], loc=conv.b.op.loc)
    return _behind(conv, conv.rebuilt(x=_source(conv.x), w=Const(w.array[back], loc=w.loc), b=b))


def _source(v: Value) -> Value:
    assert isinstance(v.op, IndexSelect)
    return v.op.x


def _behind(op: Any, moved: Op) -> Op:
    """The permutation that stood before `op`, applied after `moved`."""
    select = op.x.op
    return IndexSelect(moved, select.index, 1, loc=select.loc)
