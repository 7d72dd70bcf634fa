"""Whether a pass keeps what it declares: the graph before and after it, on real inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...ir.errors import TersorError
from ...ir.evaluate import at_batch_of, evaluate, to_numpy
from ...ir.graph import Graph
from ...ir.op import Const
from ...ir.types import EPSILON, FLOATS
from .base import Pass
from .by_value import by_value

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Finding:
    """error: of a numeric pass, against its own input. sqnr: of a lossy pass, in dB against the reference."""

    error: float | None = None
    sqnr: float | None = None


def outputs(graph: Graph, inputs: Sequence[torch.Tensor], exact: bool = False) -> list[np.ndarray]:
    """Results in the graph's own arithmetic, computed by `by_value`; with `exact` in float64."""
    import torch

    at = at_batch_of(graph, inputs)
    with torch.no_grad():
        return [to_numpy(y) for y in (evaluate(at, inputs, dtype=torch.float64) if exact else evaluate(at, inputs, compute=by_value))]


def verify_declaration(pass_: Pass, before: Graph, after: Graph, reference: Graph, inputs: Sequence[Sequence[torch.Tensor]]) -> Finding:
    """Raise a `TersorError` with the numbers where a pass breaks its declaration; measure a lossy one against `reference`."""
    if pass_.keeps == "lossy":
        return Finding(sqnr=sqnr(reference, after, inputs[0]))
    if [(v.name, v.type) for v in before.inputs] != [(v.name, v.type) for v in after.inputs]:
        raise TersorError(f"it declares {pass_.keeps!r} but changed the inputs of the graph; declare keeps = 'lossy'")
    if pass_.keeps == "exact":
        for x in inputs:
            _same_bits(outputs(before, x), outputs(after, x), after, x)
        return Finding()
    allowed = pass_.tolerance * coarsest(before) / EPSILON["f32"]
    worst = max(relative_error(outputs(before, x, exact=True), outputs(after, x, exact=True)) for x in inputs)
    if not worst <= allowed:
        raise TersorError(f"it declares 'numeric' within {allowed:.1e}, but its outputs differ by {worst:.1e} of their largest value, in float64")
    return Finding(error=worst)


def coarsest(graph: Graph) -> float:
    """The largest epsilon among the graph's float constants, f32's if it has none coarser."""
    elems = {op.out.type.elem for op in graph if isinstance(op, Const)}
    return max([EPSILON["f32"], *(EPSILON[e] for e in elems if isinstance(e, str) and e in FLOATS)])


def relative_error(expected: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> float:
    """The largest max|y - y'| / max|y| over outputs; nan and inf must stand in the same places."""
    if [y.shape for y in expected] != [y.shape for y in got]:
        raise TersorError(f"its outputs have shapes {[y.shape for y in got]}, where its input's have {[y.shape for y in expected]}")
    worst = 0.0
    for a, b in zip(expected, got):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        finite = np.isfinite(a)
        if not np.array_equal(np.where(finite, 0.0, a), np.where(finite & np.isfinite(b), 0.0, b), equal_nan=True):
            return math.inf
        if finite.any():
            scale = np.abs(a[finite]).max() or 1.0
            worst = max(worst, float(np.abs(a[finite] - b[finite]).max() / scale))
    return worst


def sqnr(reference: Graph, graph: Graph, inputs: Sequence[torch.Tensor]) -> float | None:
    """10 log10(sum y64^2 / sum (y - y64)^2) over all outputs, y64 of the reference in float64; None where the outputs' shapes differ."""
    y64 = outputs(reference, inputs, exact=True)
    y = outputs(graph, inputs)
    if [a.shape for a in y64] != [b.shape for b in y]:
        return None
    signal = sum(float(np.square(a.astype(np.float64)).sum()) for a in y64)
    noise = sum(float(np.square(b.astype(np.float64) - a).sum()) for a, b in zip(y64, y))
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _same_bits(expected: list[np.ndarray], got: list[np.ndarray], graph: Graph, inputs: Sequence[torch.Tensor]) -> None:
    for name, a, b in zip(graph.output_names, expected, got):
        if a.dtype != b.dtype or a.shape != b.shape:
            raise TersorError(f"it declares 'exact', but output {name!r} is {b.dtype}{list(b.shape)} where it was {a.dtype}{list(a.shape)}")
        same = a.view(f"u{a.itemsize}") == b.view(f"u{b.itemsize}")
        if a.dtype.kind not in "biu":
            # which NaN it is has no meaning
            same |= np.isnan(a.astype(np.float64)) & np.isnan(b.astype(np.float64))
        if not same.all():
            at = tuple(int(i) for i in np.argwhere(~same)[0])
            shapes = ", ".join(str(list(x.shape)) for x in inputs)
            raise TersorError(
                f"it declares 'exact', but {int((~same).sum())} of {same.size} elements of output {name!r} differ for inputs of shape {shapes}, "
                f"the first at {list(at)}: {a[at]!s} became {b[at]!s} (error {relative_error([a], [b]):.1e}); declare keeps = 'numeric' or 'lossy'"
            )
