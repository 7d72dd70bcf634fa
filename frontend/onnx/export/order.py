"""Scans, sorting, gathering and scattering."""

from __future__ import annotations

import math

import numpy as np

from ....ir.op import Op
from ....ir.ops import ArgSort, CumMax, CumMin, CumProd, CumSum, Gather, LogCumSumExp, Scan, Scatter
from ....ir.types import NUMPY
from .builder import Builder
from .registry import onnx_exporter


@onnx_exporter(CumSum)
def cum_sum(b: Builder, op: CumSum, x: str) -> str:
    elem = str(op.out.type.elem)
    return b.node("CumSum", x if op.x.type.elem == elem else b.cast(x, elem), b.const(op.axis, "i64"))


#: The ONNX reduction that gives each element of a scan.
REDUCTIONS: dict[type[Op], str] = {CumProd: "ReduceProd", CumMax: "ReduceMax", CumMin: "ReduceMin", LogCumSumExp: "ReduceLogSumExp"}


@onnx_exporter(*REDUCTIONS)
def scan(b: Builder, op: Scan, x: str) -> str:
    """ONNX has no such scans: y[i] reduces x[j] over a new axis j, with the identity in place of those after i."""
    elem = str(op.out.type.elem)
    x = x if op.x.type.elem == elem else b.cast(x, elem)
    rows = b.node("Unsqueeze", x, b.ints([op.axis]))
    size, behind = op.x.shape[op.axis], op.x.type.rank - op.axis - 1
    mask = b.const(np.tril(np.ones((size, size), bool)).reshape(size, size, *[1] * behind), "bool")
    return b.node(REDUCTIONS[type(op)], b.node("Where", mask, rows, b.const(identity(op), elem)), b.ints([op.axis + 1]), keepdims=0)


def identity(op: Scan) -> float:
    """The identity element of a scan's operation."""
    if isinstance(op, CumProd):
        return 1
    sign = 1 if isinstance(op, CumMin) else -1
    if op.out.type.is_float:
        return sign * math.inf
    limits = np.iinfo(NUMPY[str(op.out.type.elem)])
    return limits.max if sign > 0 else limits.min


@onnx_exporter(ArgSort)
def arg_sort(b: Builder, op: ArgSort, x: str) -> str:
    """The indices of all elements in the order of TopK, which puts the first of equals first."""
    return b.node("TopK", x, b.ints([op.x.shape[op.axis]]), skipped=1, axis=op.axis, largest=int(op.descending))


@onnx_exporter(Gather)
def gather(b: Builder, op: Gather, x: str, index: str) -> str:
    return b.node("GatherElements", x, index, axis=op.axis)


SCATTERS = {"set": "none", "add": "add", "mul": "mul", "max": "max", "min": "min"}


@onnx_exporter(Scatter)
def scatter(b: Builder, op: Scatter, x: str, index: str, updates: str) -> str:
    """Of several updates to one index the last counts, as in onnxruntime."""
    return b.node("ScatterND", x, b.node("Unsqueeze", index, b.ints([-1])), updates, reduction=SCATTERS[op.mode])
