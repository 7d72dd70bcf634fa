"""The precision in which operators of a compiled graph compute, and the checks of `compile(require=...)`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..ir.errors import TersorError
from ..ir.graph import Graph
from ..ir.op import Const, Op, Value
from ..ir.ops import QuantizeActivation, Reshape, Sign
from ..ir.ops.bits import WeightQuantizer
from ..ir.types import FLOATS
from ..passes.precision import Precision
from .tile.integer import Rounding
from .tile.ops import Fused

#: Valid values of `require`.
REQUIRE = ("f32", "int8", "bits")
#: A filter with at most this many values, each used four times on average, counts as frozen by a method of few bits.
FEW_VALUES = 16
_WIDEST = ("f64", "f32", "bf16", "f16", "i64", "i32", "i16", "i8", "u8", "bool")


def precisions(graph: Graph) -> dict[str, dict[str, int]]:
    """Class (`int8` or an element type) -> op name -> how many ops of a lowered graph compute in it."""
    result: dict[str, dict[str, int]] = {}
    for op, stored in _stored(graph):
        ops = result.setdefault(stored, {})
        ops[op.name] = ops.get(op.name, 0) + 1
    return result


def macs(graph: Graph) -> dict[str, int]:
    """Class -> multiply-accumulates of a lowered graph in it."""
    result: dict[str, int] = {}
    for op, stored in _stored(graph):
        if count := op.macs():
            result[stored] = result.get(stored, 0) + count
    return result


def computing(graph: Graph) -> Iterator[Op]:
    """Ops that become code: those in the fusions of a lowered graph."""
    for op in graph.ops:
        if isinstance(op, Fused):
            yield from computing(op.body)
        elif not isinstance(op, (Const, Reshape)):
            yield op


def _stored(graph: Graph) -> Iterator[tuple[Op, str]]:
    """`computing` with classes: f32 operators of a kernel that reads or writes f16 count as `f16`; so do bf16 and tf32."""
    for top in graph.ops:
        half = top.half_elem if isinstance(top, Fused) and top.half else ""
        for op in computing(top.body) if isinstance(top, Fused) else [] if isinstance(top, (Const, Reshape)) else [top]:
            found = precision(op)
            yield op, half if half and found == "f32" else found


def precision(op: Op) -> str:
    """`bits` for product sums of packed operands, `int8` for sums and roundings of stored integers; else the widest float among operands and
    results, or the widest integer.

    A conversion between integers and floats counts as float.
    """
    if op.few_bits:
        return "bits"
    values = (*op.operands, *op.outs)
    if isinstance(op, Rounding):
        values = (op.operands[0], op.out)
    elems = {str(v.type.elem) for v in values}
    if (op.accumulates or isinstance(op, Rounding)) and not elems & {*FLOATS}:
        return "int8"
    return next((e for e in _WIDEST if e in elems), str(op.out.type.elem))


def require_f32(lowered: Graph) -> None:
    """Raise `TersorError` for an operator of another float type."""
    wrong = [op for op in computing(lowered) if precision(op) in FLOATS and precision(op) != "f32"]
    if wrong:
        op = wrong[0]
        raise TersorError(
            f"require='f32': {op.name} [{op.loc}]{_more(wrong)} computes in {precision(op)}, as its operands are; "
            "cast them, or trace the model in float32"
        )


def require_int8(graph: Graph) -> None:
    """Raise `TersorError` for a float operator with multiply-accumulates, or between integer ones, in a graph before it is lowered."""
    islands = Precision.of(graph).islands
    if islands:
        row = islands[0]
        where = " at ".join(part for part in (row.layer, row.source) if part) or "unknown location"
        raise TersorError(
            f"require='int8': {row.op} [{where}]{_more(islands)} is float: {row.reason}. Quantize it, for example by "
            "tersor.transform(graph, 'int8', calibration=...), or compile without require"
        )


def require_bits(graph: Graph) -> None:
    """Raise `TersorError` for a float convolution or linear layer whose weights or inputs have few bits, in a graph before it is lowered.

    Few bits means results of the passes binarize, ternarize and dorefa, also after freeze-bits. Other layers may have any precision.
    """
    found = [(op, why) for op in graph.ops if op.macs() and not op.few_bits and (why := _simulates(op))]
    if found:
        op, why = found[0]
        raise TersorError(
            f"require='bits': {op.name} [{op.loc}]{_more(found)} computes in floats: {why}. Run to-bits after training, in the place of freeze-bits "
            "and before other passes; it says why it keeps a layer. Or compile without require"
        )
    if not any(op.few_bits for op in graph.ops):
        raise TersorError("require='bits': no layer has few bits: run binarize, ternarize or dorefa, then finetune and to-bits")


def _simulates(op: Op) -> str:
    """Why a float convolution or product simulates few bits; empty where it does not."""
    for v in op.operands:
        if isinstance(v.op, WeightQuantizer):
            return f"its weights are made by {v.op.name}, which simulates few bits in floats"
        if isinstance(_moved(v).op, Sign | QuantizeActivation):
            return f"its input is made by {_moved(v).op.name}, which simulates few bits in floats"  # type: ignore[union-attr]
        if isinstance(v.op, Const) and v.type.is_float and v.type.rank >= 2 and (values := _values(v.op.array)):
            return f"its weights take at most {values} values in a filter, and are stored as {v.type.elem}"
    return ""


def _moved(v: Value) -> Value:
    """The value that a chain of moves and pooling starts from."""
    while v.op is not None and v.op.selects and len(v.op.operands) == 1:
        v = v.op.operands[0]
    return v


def _values(w: np.ndarray) -> int:
    """The largest number of values of a filter, where it is small; else 0."""
    filters = w.reshape(len(w), -1)
    if filters.shape[1] < 4:
        return 0
    first = len(np.unique(filters[0]))
    if first > FEW_VALUES:
        return 0
    most = max(len(np.unique(f)) for f in filters)
    sizes = max(len(np.unique(np.abs(f[f != 0]))) for f in filters)
    return most if sizes == 1 or (most <= FEW_VALUES and 4 * most <= filters.shape[1]) else 0


def check_bits(lowered: Graph) -> None:
    """Raise `TersorError` where lowering has made no packed convolution or product, or left one of few bits in floats."""
    if not any(op.few_bits or op.accumulates for op in computing(lowered)):
        raise TersorError("require='bits': no operator of the lowered graph works on packed bits")


def check_int8(lowered: Graph) -> None:
    """Raise `TersorError` where lowering has turned an integer convolution or product into a float one."""
    wrong = [op for op in computing(lowered) if op.macs() and precision(op) != "int8"]
    if wrong:
        op = wrong[0]
        raise TersorError(f"require='int8': {op.name} [{op.loc}]{_more(wrong)} computes in {precision(op)}: it has no kernel on integers")


def _more(found: Sequence[object]) -> str:
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""
