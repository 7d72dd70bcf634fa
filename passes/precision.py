"""The precision of a graph: its operators and multiply-accumulates by class (bits, integers, floats), and why an operator is float."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..ir.graph import Graph
from ..ir.op import Const, Op, Value
from ..ir.ops import Dequantize, Quantize, SignBit, Threshold, ToLevels
from ..ir.types import BitsAffine, Uniform

Class = Literal["bits", "int8", "move", "float", "boundary"]


@dataclass(frozen=True)
class OpPrecision:
    """One operator.

    kind: bits (an operand of few bits, stored as bits), int8 (integers in and out), boundary (from floats to integers or bits, or back), move
    (integers or bools that only move), float.
    between: a float operator that reads what integer operators made and feeds one, so that integers become floats on the way.
    reason: why it is float, for those with MACs or between integer operators.
    """

    op: str
    layer: str
    source: str
    kind: Class
    macs: int
    between: bool = False
    reason: str = ""


@dataclass
class Precision:
    """The operators of a graph by precision."""

    rows: list[OpPrecision] = field(default_factory=list)

    @classmethod
    def of(cls, graph: Graph) -> Precision:
        """Classify every operator but constants."""
        ops = [op for op in graph.ops if not isinstance(op, Const)]
        after = _reached(ops, forward=True)
        before = _reached(ops, forward=False)
        return cls([_row(op, op in after and op in before) for op in ops])

    @property
    def islands(self) -> list[OpPrecision]:
        """Float operators with MACs or between integer ones: an integer-only network has none."""
        return [r for r in self.rows if r.kind == "float" and (r.macs or r.between)]

    def macs(self, kind: Class) -> int:
        """Multiply-accumulates of a class."""
        return sum(r.macs for r in self.rows if r.kind == kind)

    def ops(self, kind: Class) -> int:
        """Operators of a class."""
        return sum(r.kind == kind for r in self.rows)

    def __str__(self) -> str:
        lines = [
            f"{kind:8}  {self.ops(kind):4} ops  {self.macs(kind):12} MACs" for kind in ("bits", "int8", "float", "boundary", "move") if self.ops(kind)
        ]
        lines += [f"  {r.op} [{r.layer}{' at ' + r.source if r.source else ''}] is float: {r.reason}" for r in self.islands]
        return "\n".join(lines)


def _row(op: Op, between: bool) -> OpPrecision:
    source = f"{op.loc.file}:{op.loc.line}" if op.loc.file else ""
    kind, macs = kind_of(op), op.macs()
    reason = why(op) if kind == "float" and (macs or between) else ""
    return OpPrecision(op.name, op.loc.path, source, kind, macs, between and kind == "float", reason)


def kind_of(op: Op) -> Class:
    """The class of an operator, by the types it reads and gives."""
    if isinstance(op, Quantize | Dequantize | SignBit | ToLevels):
        return "boundary"
    if op.few_bits or isinstance(op, Threshold):
        return "bits"
    if any(v.type.is_float for v in (*op.operands, *op.outs)):
        return "float"
    if any(isinstance(v.type.elem, BitsAffine) for v in op.operands):
        return "bits"
    return "int8" if any(isinstance(v.type.elem, Uniform) for v in op.operands) else "move"


def why(op: Op) -> str:
    """Which operand or result is float, and the operator that made it so."""
    source = _float_source(op)
    if source is None:
        return "its result is read as float"
    made = f"{source.op.name} [{source.op.loc}]" if source.op is not None else f"the input {source.name!r}"
    return f"it reads {source.type} of {made}"


def _float_source(op: Op) -> Value | None:
    """The first float operand that is not a constant, followed back through float operators of one operand."""
    values = [v for v in op.operands if v.type.is_float and not isinstance(v.op, Const)]
    if not values:
        return None
    v = values[0]
    while v.op is not None and not isinstance(v.op, Dequantize):
        inner = [o for o in v.op.operands if o.type.is_float and not isinstance(o.op, Const)]
        if len(inner) != 1:
            break
        v = inner[0]
    return v


def _reached(ops: list[Op], *, forward: bool) -> set[Op]:
    """Float operators that come after (or before) an integer one."""
    found: set[Op] = set()
    for op in ops if forward else reversed(ops):
        near = [v.op for v in op.operands] if forward else op.out.users if len(op.outs) == 1 else [u for v in op.outs for u in v.users]
        if any(o is not None and (o in found or (kind_of(o) == "int8")) for o in near):
            found.add(op)
    return found
