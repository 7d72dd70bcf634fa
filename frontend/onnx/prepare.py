"""Prepares an ONNX file for the walk: nodes in order, functions inlined, operators in the form of opset 21 or later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from ...ir.errors import TersorError, UnsupportedError
from .registry import CONVERTERS

#: Models in older forms are converted to this opset, whose forms the converters know; nothing that matters changed after it.
OPSET = 21
#: Initializers of at least so many bytes are kept away from the version converter, which copies and serializes the model.
LARGE = 1024
#: Metadata of a model that Tersor wrote: the arithmetic of its quantize operators, which ONNX has no attribute for.
ROUNDING = "tersor.rounding"
#: Composite operators that are not expanded to the loops that define them: folded where their inputs are known, else reported.
EVALUATED = {"Range", "Bernoulli", "SequenceMap", "BlackmanWindow", "HammingWindow", "HannWindow"}


class Prepared:
    """A model that is ready to walk, and its constants by name. rounding: of its quantize operators, `onnx` unless Tersor wrote the file."""

    def __init__(self, model: Any, constants: dict[str, np.ndarray], opsets: dict[str, int], rounding: Literal["f32", "onnx"]):
        self.graph = model.graph
        self.constants = constants
        self.opsets = opsets
        self.rounding = rounding


def read_model(path: str | Path) -> Any:
    """The ModelProto of a file, external data included."""
    path = Path(path)
    try:
        return onnx.load(path)
    except FileNotFoundError as error:
        missing = error.filename or path
        raise TersorError(f"{missing} does not exist" + (f", which holds weights of {path}" if str(missing) != str(path) else "")) from None
    except DecodeError:
        raise TersorError(f"{path} is damaged or no ONNX file") from None
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        raise TersorError(f"cannot read {path}: {_line(error)}") from None


def prepare(model: Any, name: str) -> Prepared:
    """The model made ready; `model` itself is changed. Raises TersorError for one that is broken."""
    if not isinstance(model, onnx.ModelProto) or (not model.graph.node and not model.graph.output):
        raise TersorError(f"{name} holds no ONNX graph")
    _check_names(model, name)
    rounding: Literal["f32", "onnx"] = "f32" if any(p.key == ROUNDING and p.value == "f32" for p in model.metadata_props) else "onnx"
    _plain_domains(model)
    del model.graph.value_info[:]
    if model.graph.sparse_initializer:
        raise UnsupportedError(f"{name} holds sparse initializers; store its weights as plain tensors")
    if model.functions:
        from onnx import inliner

        model = _guarded(name, "inlining its functions", inliner.inline_local_functions, model)
    constants = _take_initializers(model, name)
    _sort(model.graph, constants, name)
    model = _without_composites(_converted(model, name))
    constants |= _small_initializers(model, constants)
    return Prepared(model, constants, {o.domain: o.version for o in model.opset_import}, rounding)


def _guarded(name: str, doing: str, function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:  # the onnx package raises many kinds, RuntimeError included
        raise TersorError(f"{name}: {doing} failed: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _check_names(model: Any, name: str) -> None:
    """Raise TersorError for names that are not UTF-8, which protobuf returns as bytes."""
    graph = model.graph
    names: list[Any] = [graph.name, *(v.name for v in (*graph.input, *graph.output, *graph.initializer))]
    for node in all_nodes([*graph.node, *(n for f in model.functions for n in f.node)]):
        names += [node.op_type, node.domain, node.name, *node.input, *node.output, *(a.name for a in node.attribute)]
    if broken := [n for n in names if isinstance(n, bytes)]:
        raise TersorError(f"{name} is damaged: the name {broken[0]!r} is not UTF-8")


def _plain_domains(model: Any) -> None:
    """`ai.onnx` is the empty domain; imports of domains that no node uses are dropped."""
    used = set()
    for node in all_nodes([*model.graph.node, *(n for f in model.functions for n in f.node)]):
        if node.domain == "ai.onnx":
            node.domain = ""
        used.add(node.domain)
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        versions[domain] = max(entry.version, versions.get(domain, 0))
    used |= {""} | {f.domain for f in model.functions}
    kept = {d: v for d, v in versions.items() if d in used}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in ({"": 1} | kept).items())


def all_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    """Nodes and those of the subgraphs in their attributes."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g.node)
            for graph in attribute.graphs:
                yield from all_nodes(graph.node)


def _take_initializers(model: Any, name: str) -> dict[str, np.ndarray]:
    """Large initializers as arrays; an input of their type replaces them in the model until it is converted."""
    constants: dict[str, np.ndarray] = {}
    small = []
    declared = {i.name for i in model.graph.input}
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < LARGE and tensor.ByteSize() < LARGE:
            small.append(tensor)
            continue
        constants[tensor.name] = array_of(tensor, name)
        if tensor.name not in declared:
            model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    small = [onnx.TensorProto.FromString(t.SerializeToString()) for t in small]
    del model.graph.initializer[:]
    model.graph.initializer.extend(small)
    return constants


def _small_initializers(model: Any, large: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The remaining initializers as arrays; inputs that are constants are removed from the inputs."""
    constants = {t.name: array_of(t, "the model") for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in large and i.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return constants


def array_of(tensor: Any, name: str) -> np.ndarray:
    """The tensor as an array."""
    read = _strings if tensor.data_type == TensorProto.STRING else numpy_helper.to_array
    return np.asarray(_guarded(name, f"reading the tensor {tensor.name!r}", read, tensor))


def _strings(tensor: Any) -> np.ndarray:
    return np.array([s.decode("utf-8", "replace") for s in tensor.string_data], object).reshape(tuple(tensor.dims)).astype(np.str_)


def _sort(graph: Any, constants: Iterable[str], name: str) -> None:
    """Sort the nodes so that every tensor is made before it is read, which files of some tools do not do."""
    maker = {output: i for i, node in enumerate(graph.node) for output in node.output if output}
    if sum(bool(o) for node in graph.node for o in node.output) > len(maker):
        raise TersorError(f"{name} makes a tensor twice")
    known = {i.name for i in graph.input} | {t.name for t in graph.initializer} | set(constants) | {""}
    reads = [needs(node) - known for node in graph.node]
    for node, names in zip(graph.node, reads):
        if unknown := sorted(names - set(maker)):
            raise TersorError(f"{name}: node {node.name or node.op_type!r} reads {unknown[0]!r}, which nothing makes")
    sources = [{maker[n] for n in names} for names in reads]
    if all(not s or max(s) < i for i, s in enumerate(sources)):
        return
    try:
        order = list(TopologicalSorter(dict(enumerate(sources))).static_order())
    except CycleError:
        raise TersorError(f"{name}: its nodes read one another in a circle") from None
    nodes = [onnx.NodeProto.FromString(graph.node[i].SerializeToString()) for i in order]
    del graph.node[:]
    graph.node.extend(nodes)


def needs(node: Any) -> set[str]:
    """Names a node reads, those of its subgraphs that are defined outside included."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            inside = {i.name for i in graph.input} | {t.name for t in graph.initializer}
            for inner in graph.node:
                names |= needs(inner) - inside
                inside |= set(inner.output)
            names |= {o.name for o in graph.output} - inside
    return names


def _converted(model: Any, name: str) -> Any:
    """The model in the forms of opset 21, unless it is newer already."""
    version = next((o.version for o in model.opset_import if not o.domain), 1)
    newest = onnx.defs.onnx_opset_version()
    if version > newest:
        raise UnsupportedError(f"{name} needs opset {version}; the installed onnx package {onnx.__version__} knows opsets up to {newest}")
    if version >= OPSET or not any(not n.domain for n in model.graph.node):
        return model
    from onnx import version_converter

    return _guarded(name, f"converting it from opset {version} to {OPSET}", version_converter.convert_version, model, OPSET)


def _without_composites(model: Any) -> Any:
    """Expand operators without a converter that ONNX defines by others."""
    for _ in range(4):
        version = next(o.version for o in model.opset_import if not o.domain)
        found = set()
        for node in all_nodes(model.graph.node):
            if not node.domain and node.op_type not in EVALUATED and ("", node.op_type) not in CONVERTERS and _is_composite(node.op_type, version):
                found.add(node.op_type)
                _spell_defaults(node, version)
        if not found:
            break
        written = _written_out(model, sorted(found))
        if written is None:
            break
        model = written
    return model


def _written_out(model: Any, operators: list[str]) -> Any:
    """The model without these operators; None where the inliner cannot, so that the walk names them."""
    from onnx import inliner, shape_inference

    try:
        # the inliner needs the types of their inputs, and does not know those of initializers
        typed = shape_inference.infer_shapes(model)
        for tensor in model.graph.initializer:
            typed.graph.value_info.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        return inliner.inline_selected_functions(typed, [("", op) for op in operators], False, True)
    except Exception:  # the onnx package raises many kinds, RuntimeError included
        return None


def _is_composite(op_type: str, version: int) -> bool:
    try:
        schema = onnx.defs.get_schema(op_type, version)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def _spell_defaults(node: Any, version: int) -> None:
    """Put default attributes into the node: the inliner drops references to attributes that are not given."""
    given = {a.name for a in node.attribute}
    for key, attribute in onnx.defs.get_schema(node.op_type, version).attributes.items():
        if key not in given and attribute.default_value.name:
            node.attribute.append(attribute.default_value)
