"""The time of each op, from a profile, and the SQNR of each value against another graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ir.digraph import node_names
from ..ir.errors import TersorError
from ..ir.graph import Graph
from ..ir.op import Const, Op
from ..ir.types import BitsAffine, Tensor, Uniform

if TYPE_CHECKING:
    import torch

    from ..backend.runtime.measure import Profile


def times(graph: Graph, profile: Profile) -> dict[str, float]:
    """ms by node of `graph.to_networkx`: the time of each kernel goes to the op that it was made from, found by source location.

    A kernel includes the ops fused into it, so an epilogue has no time of its own. Of several ops at one location, the first that the kernel names
    gets the time. Kernels without an op here (moves between layouts) are left out, so the sum may be less than `profile.total`.
    """
    names = node_names(graph)
    at: dict[str, list[Op]] = {}
    for op in graph.ops:
        if not isinstance(op, Const):
            at.setdefault(str(op.loc), []).append(op)
    found: dict[str, float] = {}
    for row in profile.rows:
        parts = row.op.split("+")
        candidates = [op for op in at.get(row.loc, []) if _short(op) in parts] or at.get(row.loc, [])
        if candidates and row.loc != "unknown location":
            # two kernels at one location: the first op that has no time yet
            op = next((c for c in candidates if names[c.outs[0]] not in found), candidates[0])
            name = names[op.outs[0]]
            found[name] = found.get(name, 0.0) + row.time
    return found


def _short(op: Op) -> str:
    return op.name.rpartition(".")[2]


def sqnrs(graph: Graph, reference: Graph, inputs: Sequence[torch.Tensor]) -> dict[str, float]:
    """10 log10(sum a^2 / sum (b - a)^2) in dB by node of `graph.to_networkx`: b a value of `graph`, a that of `reference` with its name and shape.

    Values of quantized types are compared as real numbers. inf: no difference. A value without a counterpart in `reference` has no entry.
    """
    wanted = _values(reference, inputs)
    names = node_names(graph)
    found = {}
    for op, b in _run(graph, inputs).items():
        a = wanted.get(op.outs[0].name)
        if a is None or a.shape != b.shape or not np.isfinite(a).all():
            continue
        noise, signal = float(np.square(b.astype(np.float64) - a).sum()), float(np.square(a.astype(np.float64)).sum())
        found[names[op.outs[0]]] = math.inf if noise == 0 else 10 * math.log10(signal / noise) if signal and math.isfinite(noise) else -math.inf
    return found


def _values(graph: Graph, inputs: Sequence[torch.Tensor]) -> dict[str, np.ndarray]:
    return {op.outs[0].name: y for op, y in _run(graph, inputs).items() if op.outs[0].name}


def _run(graph: Graph, inputs: Sequence[torch.Tensor]) -> dict[Op, np.ndarray]:
    """The value of every op with one result, as real numbers."""
    import torch

    from ..ir.evaluate import at_batch_of, evaluate, to_numpy

    at = at_batch_of(graph, list(inputs))
    own = dict(zip(at.ops, graph.ops))
    if len(at.ops) != len(graph.ops):
        raise TersorError(f"{graph.name} has other ops at the batch of the inputs")
    result: dict[Op, np.ndarray] = {}

    def observe(op: Op, y: Any) -> None:
        if len(op.outs) == 1:
            result[own[op]] = real(to_numpy(y), op.out.type)

    with torch.no_grad():
        evaluate(at, list(inputs), observe=observe)
    return result


def real(stored: np.ndarray, type: Tensor) -> np.ndarray:
    """The real numbers that a stored array represents: scale * (q - zero point), or scale * q + offset; other types cast to f32."""
    elem = type.elem
    if isinstance(elem, str):
        return stored.astype(np.float32)
    shape = [1] * stored.ndim
    if elem.axis is not None:
        shape[elem.axis] = -1
    scales = np.asarray(elem.scales, np.float32).reshape(shape)
    if isinstance(elem, Uniform):
        return (stored.astype(np.float32) - np.asarray(elem.zero_points, np.float32).reshape(shape)) * scales
    assert isinstance(elem, BitsAffine)
    return stored.astype(np.float32) * scales + np.asarray(elem.offsets, np.float32).reshape(shape)
