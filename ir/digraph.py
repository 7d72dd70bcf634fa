"""Export of a graph to networkx, for analyses outside the IR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx

from .graph import Graph, unique_names
from .op import Const, Op, Value
from .types import FLOATS, Uniform


def to_networkx(graph: Graph, times: Mapping[str, float] | None = None, constants: bool = False) -> Any:
    """A `networkx.MultiDiGraph`: inputs, ops and outputs are nodes, values are edges.

    A node is named after its op's first result, an output `output:NAME`. Attributes: kind (`input`, `op`, `constant`, `output`), op (name), type
    (MLIR text), shape, elem, precision, macs, parameters and weight_bytes (of constants that it reads), bytes (weights, other operands and
    results, each once), loc, path, and ms where `times` has the node's name. Edges: value, type, shape, elem, bytes.
    constants: also draw constants, as nodes of their own.
    """
    result = networkx.MultiDiGraph(name=graph.name)
    nodes = node_names(graph)
    for v in graph.inputs:
        result.add_node(nodes[v], kind="input", op="input", **_typed(v), **_costs(0, 0, 0, 0), loc="", path="")
    for op in graph.ops:
        if isinstance(op, Const) and not constants:
            continue
        facts = _costs(op.macs(), *_weights(op), _moved(op))
        kind = "constant" if isinstance(op, Const) else "op"
        name = nodes[op.outs[0]]
        result.add_node(name, kind=kind, op=op.name, **_typed(op.outs[0]), **facts, loc=str(op.loc), path=op.loc.path)
        result.nodes[name]["precision"] = precision(op)
        if times is not None and name in times:
            result.nodes[name]["ms"] = times[name]
        for v in op.operands:
            if constants or not isinstance(v.op, Const):
                result.add_edge(_maker(v, nodes), name, **_edge(v))
    for v, output in zip(graph.outputs, graph.output_names):
        name = f"output:{output}"
        result.add_node(name, kind="output", op="output", **_typed(v), **_costs(0, 0, 0, 0), loc="", path="")
        if constants or not isinstance(v.op, Const):
            result.add_edge(_maker(v, nodes), name, **_edge(v))
    return result


def node_names(graph: Graph) -> dict[Value, str]:
    """A unique name for every input and every op's first result: the value's own name where it has one."""
    values = [*graph.inputs, *(op.outs[0] for op in graph.ops)]
    return dict(zip(values, unique_names(v.name or f"v{i}" for i, v in enumerate(values))))


def precision(op: Op) -> str:
    """The precision of an op: `bits`, `int8`, the float type that it reads or writes, another storage type of quantized values, or a plain type."""
    if op.few_bits:
        return "bits"
    elems = [v.type.elem for v in (*op.outs, *(v for v in op.operands if not isinstance(v.op, Const)))]
    if op.accumulates:
        return "int8"
    floats = [e for e in elems if e in FLOATS]
    if floats:
        return str(max(floats, key=FLOATS.index))
    quantized = [e for e in elems if isinstance(e, Uniform)]
    if not quantized:
        return _elem(op.outs[0])
    return "int8" if quantized[-1].storage in ("i8", "u8") else quantized[-1].storage


def _maker(v: Value, nodes: Mapping[Value, str]) -> str:
    return nodes[v if v.op is None else v.op.outs[0]]


def _elem(v: Value) -> str:
    elem = v.type.elem
    return elem if isinstance(elem, str) else elem.storage


def _typed(v: Value) -> dict[str, Any]:
    return {"type": str(v.type), "shape": v.shape, "elem": _elem(v), "precision": _elem(v)}


def _edge(v: Value) -> dict[str, Any]:
    return {"value": v.name, "type": str(v.type), "shape": v.shape, "elem": _elem(v), "bytes": v.type.nbytes}


def _costs(macs: int, parameters: int, weight_bytes: int, nbytes: int) -> dict[str, int]:
    return {"macs": macs, "parameters": parameters, "weight_bytes": weight_bytes, "bytes": nbytes}


def _weights(op: Op) -> tuple[int, int]:
    """Elements and bytes of the constants that an op reads, each once."""
    read = {v: v.type for v in op.operands if isinstance(v.op, Const)}
    return sum(t.size for t in read.values()), sum(t.nbytes for t in read.values())


def _moved(op: Op) -> int:
    """Bytes of operands and results, each once."""
    return sum(v.type.nbytes for v in dict.fromkeys((*op.operands, *op.outs)))
