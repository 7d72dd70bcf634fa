"""In which precision the operators of a compiled graph compute, and the checks behind `compile(require=...)`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..ir.errors import TersorError
from ..ir.graph import Graph
from ..ir.op import Const, Op
from ..ir.ops import Reshape
from ..ir.types import FLOATS
from ..passes.precision import Precision
from .tile.integer import Rounding
from .tile.ops import Fused

#: What `require` may ask for.
REQUIRE = ("f32", "int8")
_WIDEST = ("f64", "f32", "bf16", "f16", "i64", "i32", "i16", "i8", "u8", "bool")


def precisions(graph: Graph) -> dict[str, dict[str, int]]:
    """Class (`int8` or an element type) -> op name -> how many ops of a lowered graph compute in it."""
    result: dict[str, dict[str, int]] = {}
    for op in computing(graph):
        ops = result.setdefault(precision(op), {})
        ops[op.name] = ops.get(op.name, 0) + 1
    return result


def macs(graph: Graph) -> dict[str, int]:
    """Class -> multiply-accumulates of a lowered graph in it."""
    result: dict[str, int] = {}
    for op in computing(graph):
        if count := op.macs():
            result[precision(op)] = result.get(precision(op), 0) + count
    return result


def computing(graph: Graph) -> Iterator[Op]:
    """Ops that become code: those in the fusions of a lowered graph."""
    for op in graph.ops:
        if isinstance(op, Fused):
            yield from computing(op.body)
        elif not isinstance(op, (Const, Reshape)):
            yield op


def precision(op: Op) -> str:
    """`int8` for sums and roundings of stored integers; else the widest float among operands and results, or the widest integer.

    What makes integers of floats, or floats of integers, counts as float.
    """
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


def check_int8(lowered: Graph) -> None:
    """Raise `TersorError` where lowering has made a float product sum of an integer one."""
    wrong = [op for op in computing(lowered) if op.macs() and precision(op) != "int8"]
    if wrong:
        op = wrong[0]
        raise TersorError(f"require='int8': {op.name} [{op.loc}]{_more(wrong)} computes in {precision(op)}: it has no kernel on integers")


def _more(found: Sequence[object]) -> str:
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""
