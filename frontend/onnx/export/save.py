"""`save_onnx`: a Graph -> an ONNX file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from ....ir.errors import TersorError, UnsupportedError
from ....ir.graph import Graph
from ....ir.op import Const, Op, Value
from ....ir.ops import Dequantize, Quantize, StorageCast
from ....ir.ops.quant import Rounded
from ....ir.types import Uniform
from ..prepare import ROUNDING
from . import elementwise, layers, order, shapes  # noqa: F401  register the exporters
from .builder import Builder, NotExported, data_type
from .fusion import SATURATES, ExportReport, report_of
from .quantized import constant_of, dequantized, is_accumulator, quantized, stored_as
from .registry import EXPORTERS, ON_INTEGERS, exporter_of

OPSET = 21
IR_VERSION = 10


def save_onnx(graph: Graph, path: str | Path, *, opset: int = OPSET) -> ExportReport:
    """Write `model.onnx`: standard operators of opset 21, the names of inputs, outputs and values kept, a free batch as `batch`.

    Integer operators are written as QDQ, in the forms that onnxruntime runs on integers; the report says for each layer whether it does, and why
    not. A warning says where it may saturate. Constants of 2 GB and more go to `model.onnx.data` beside the model. Raises `UnsupportedError`
    that lists all ops without an ONNX form.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise TersorError(f"cannot export to {path}: expected a name that ends in .onnx")
    model = to_model(graph, opset)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            if graph.nbytes() < 1 << 31:
                part.write_bytes(model.SerializeToString())
            else:
                onnx.save(model, part, save_as_external_data=True, location=f"{path.name}.data")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise TersorError(f"cannot write {path}: {error.strerror or error}") from None
    report = report_of(graph)
    if (count := sum(row.saturates for row in report)) > 0:
        warnings.warn(
            f"{path.name}: {count} layers multiply u8 by weights beyond {SATURATES}; onnxruntime adds pairs of such products in 16 bits on x86 "
            "processors without VNNI, where they may saturate: quantize{weights=s7} avoids it",
            stacklevel=2,
        )
    return report


def to_model(graph: Graph, opset: int = OPSET) -> Any:
    """The ModelProto of a graph, checked."""
    if not OPSET <= opset <= onnx.defs.onnx_opset_version():
        raise TersorError(f"opset must be from {OPSET} to {onnx.defs.onnx_opset_version()}, got {opset}")
    writer = Writer(graph)
    proto = helper.make_graph(writer.b.nodes, graph.name or "main", writer.inputs(), writer.outputs(), writer.b.initializers)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION, producer_name="tersor")
    if {op.rounding for op in graph.ops if isinstance(op, Quantize | Rounded)} - {"onnx"}:
        helper.set_model_props(model, {ROUNDING: "f32"})
    if graph.nbytes() < 1 << 31:
        onnx.checker.check_model(model)
    return model


class Writer:
    """Writes the ops of a graph in order; raises one error for all that have no ONNX form."""

    def __init__(self, graph: Graph):
        self.graph = graph
        names = [v.name for v in graph.inputs]
        self.b = Builder([*names, *graph.output_names])
        self.names: dict[Value, str] = dict(zip(graph.inputs, names))
        self.results = {v: n for v, n in reversed(list(zip(graph.outputs, graph.output_names))) if v.op is not None and n not in names}
        #: dequantized tensors
        self.floats: dict[Value, str] = {}
        refused: dict[str, list[str]] = {}
        for op in graph.ops:
            try:
                self.write(op)
            except NotExported as error:
                refused.setdefault(op.name, []).append(f"{op.out.name or '?'} [{op.loc}]: {error}")
                self.names |= dict.fromkeys(op.outs, "?")
        if refused:
            raise _refusal(refused)
        for value, name in zip(graph.outputs, graph.output_names):
            if self.name(value) != name:
                if name in names:
                    raise TersorError(f"output {name!r} has the name of an input; rename one of them")
                self.b.node("Identity", self.name(value), output=name)

    def write(self, op: Op) -> None:
        """Write an op's nodes. Constants are written when they are first read."""
        out = op.outs[0]
        if isinstance(op, Const):
            if out in self.graph.outputs:
                self.names[out] = self.constant(op, self.results.get(out) or self.b.unique(out.name))
            return
        if self.renamed(op):
            return
        name = self.results.get(out) or self.b.unique(out.name)
        self.b.stem, self.b.loc = name, op.loc.path
        if isinstance(op, Quantize) and isinstance(op.x.op, Const):
            self.names[out] = self.constant(constant_of(op), name)
            return
        self.names[out] = name
        if isinstance(op, Dequantize):
            assert isinstance(op.x.type.elem, Uniform)
            dequantized(self.b, self.name(op.x), op.x.type.elem, name)
            return
        function = exporter_of(type(op))
        if function is None or len(op.outs) != 1:
            raise NotExported("it has no ONNX exporter")
        raw = type(op) in ON_INTEGERS
        operands = [self.operand(getattr(op, f.name), raw) for f in op.operand_fields]
        self.b.stem = name
        result = function(self.b, op, *operands)
        if isinstance(out.type.elem, Uniform) and not raw and not is_accumulator(out.type):
            result = quantized(self.b, result, out.type.elem, *((op.low, op.high) if isinstance(op, Rounded) else (None, None)))
        self.b.rename(result, name)

    def renamed(self, op: Op) -> bool:
        """Whether an op is the identity in a QDQ model, whose result then gets the name of its operand."""
        if not (isinstance(op, StorageCast) or (isinstance(op, Dequantize) and is_accumulator(op.x.type) and not isinstance(op.x.op, Const))):
            return False
        self.names[op.out] = self.name(op.x)
        return True

    def name(self, v: Value) -> str:
        """The tensor of a value: integers for a quantized type, except accumulators."""
        if v not in self.names and isinstance(v.op, Const):
            self.names[v] = self.constant(v.op, self.b.unique(v.name))
        return self.names[v]

    def constant(self, op: Const, name: str) -> str:
        elem = op.out.type.elem
        if not isinstance(elem, Uniform):
            data_type(elem)
        return self.b.const(op.array, stored_as(elem) if isinstance(elem, Uniform) else str(elem), name)

    def real(self, v: Value) -> str:
        """The tensor of a value as floats."""
        elem = v.type.elem
        if not isinstance(elem, Uniform) or (is_accumulator(v.type) and not isinstance(v.op, Const)):
            return self.name(v)
        if v not in self.floats:
            q, loc = self.name(v), self.b.loc
            self.b.stem, self.b.loc = q, ""
            self.floats[v] = dequantized(self.b, q, elem)
            self.b.loc = loc
        return self.floats[v]

    def operand(self, v: Value | list[Value] | None, raw: bool) -> Any:
        if isinstance(v, list):
            return [self.operand(x, raw) for x in v]
        return None if v is None else self.name(v) if raw else self.real(v)

    def inputs(self) -> list[Any]:
        return [
            _info(v.name, v, ["batch" if i == 0 and v.name in self.graph.batched else n for i, n in enumerate(v.shape)]) for v in self.graph.inputs
        ]

    def outputs(self) -> list[Any]:
        """The batch is named `batch`; other sizes that depend on it are left open."""
        batch = next((v.shape[0] for v in self.graph.inputs if v.name in self.graph.batched), None)
        other = self.graph if batch is None else self.graph.at(batch + 1)
        result = []
        for name, a, b in zip(self.graph.output_names, self.graph.outputs, other.outputs):
            dims = [n if n == m else "batch" if (n, m) == (batch, (batch or 0) + 1) else None for n, m in zip(a.shape, b.shape)]
            result.append(_info(name, a, dims))
        return result


def _info(name: str, value: Value, dims: Sequence[int | str | None]) -> Any:
    elem = value.type.elem
    return helper.make_tensor_value_info(name, data_type(stored_as(elem) if isinstance(elem, Uniform) else elem), dims)


def _refusal(refused: dict[str, list[str]]) -> UnsupportedError:
    parts = []
    for op, places in refused.items():
        more = f"; and {len(places) - 4} more" if len(places) > 4 else ""
        parts.append(f"{op} ({'; '.join(places[:4])}{more})")
    known = ", ".join(sorted(k.name for k in EXPORTERS if k.name))
    return UnsupportedError(
        f"{len(parts)} operator{'s' if len(parts) > 1 else ''} cannot be exported to ONNX: {', '.join(parts)}; to add one, decorate a function "
        f"(b, op, *names) -> name with @tersor.onnx_exporter(class); known: {known}"
    )
