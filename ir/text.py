"""The text form of types, ops and graphs: MLIR's generic syntax, so the real `mlir-opt --allow-unregistered-dialect` reads it.

    file      ::= ("!" id "=" elem)* func
    func      ::= '"func.func"() <{' sym_name, function_type, arg_attrs, res_attrs '}> (' region ')' attrs? ': () -> ()'
    region    ::= "{" ("^bb0(" (%id ":" tensor loc?),* "):")? op* terminator "}"       terminator: "func.return" or "tile.yield"
    op        ::= (%id,* "=")? string "(" %id,* ")" ("(" region,* ")")? attrs? ":" "(" tensor,* ")" "->" (tensor | "(" tensor,* ")") loc?
    attrs     ::= "{" (id "=" attr),* "}"
    tensor    ::= "tensor<" (int "x")* elem (", " layout)? ">"
    elem      ::= i1 | i8 … i64 | ui8 | f16 | bf16 | f32 | f64 | "!" id                (i1 is bool)
                | "!quant.uniform<" storage ("<" qmin ":" qmax ">")? ":" expressed (":" axis ", {" level,+ "}" | ", " level) ">"
                | "!bits.affine<" storage (":" axis ", {" (scale ":" offset),+ "}" | ", " scale ", " offset) ">"
    level     ::= scale (":" zero_point)?
    layout    ::= '#tile.layout<"' name '", channels = ' int (", halo = [" int ", " int "], fill = " int)? ">"
    attr      ::= int | float | true | false | none | string | "[" attr,* "]" | attrs | tensor | elem | layout
                | "array<" (i64 | f64 | i1) ":" … ">"
                | "dense<" scalar? "> : " tensor | "dense_resource<" id "> : " tensor  (nn.constant only)
    loc       ::= "loc(" where ")" | "loc(fused<" true names ">[" where "])"           where: "path"("file":line:0), either part alone, or unknown

A name that is not an MLIR identifier, or is taken, is printed in a valid form; the location then holds the true name.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import struct
from collections.abc import Container, Iterable, Mapping
from typing import Any

import numpy as np

from .errors import TersorError
from .graph import Graph
from .op import Const, Loc, Op, Value
from .types import BitsAffine, Elem, Layout, Tensor, Uniform, elem_of

#: Plain elements that MLIR calls by another name.
ELEM_TEXT = {"bool": "i1", "u8": "ui8"}
_SSA = re.compile(r"[A-Za-z_$.-][\w$.-]*", re.A)
_KEY = re.compile(r"[A-Za-z_][\w$.]*", re.A)
_PLAIN_STRING = re.compile(r"[ !#-\[\]-~]*")


# -- scalars -----------------------------------------------------------------------------------


def format_string(text: str) -> str:
    """A quoted MLIR string; what is not printable ASCII is escaped byte by byte (UTF-8), `\\0A` for a line break."""
    if _PLAIN_STRING.fullmatch(text):
        return f'"{text}"'
    raw = text.encode("utf-8", "surrogatepass")
    return '"' + "".join(f"\\{chr(b)}" if b in b'"\\' else chr(b) if 32 <= b < 127 else f"\\{b:02X}" for b in raw) + '"'


def format_float(x: float) -> str:
    """The shortest decimal that reads back to the same float64, with the point that MLIR requires; hex bits for inf and nan."""
    if not math.isfinite(x):
        return f"0x{struct.unpack('>Q', struct.pack('>d', x))[0]:016X}"
    return _with_point(repr(x))


def _with_point(digits: str) -> str:
    mantissa, e, exponent = digits.partition("e")
    return digits if "." in mantissa else f"{mantissa}.0{e}{exponent}"


def _format_element(array: np.ndarray) -> str:
    """The one element of `array`, exactly; infinities and NaN as the bits of their own width."""
    x = array.reshape(())[()]
    if array.dtype == np.bool_:
        return "true" if x else "false"
    if array.dtype.kind in "iu":
        return str(int(x))
    if not math.isfinite(float(x)):
        bits = array.reshape(1).view(f"u{array.dtype.itemsize}")[0]
        return f"0x{int(bits):0{2 * array.dtype.itemsize}X}"
    short = str(x)
    return _with_point(short if array.dtype.type(float(short)) == x else repr(float(x)))


# -- types -------------------------------------------------------------------------------------


def format_elem(elem: Elem) -> str:
    """`f32`, or the quantized type with its parameters. A zero zero_point is left out, as mlir-opt does."""
    if isinstance(elem, str):
        return ELEM_TEXT.get(elem, elem)
    axis = "" if elem.axis is None else f":{elem.axis}"
    if isinstance(elem, Uniform):
        limits = "" if elem.qmin is None and elem.qmax is None else "<{}:{}>".format(*elem.range)
        pairs = [f"{format_float(s)}:{z}" if z else format_float(s) for s, z in zip(elem.scales, elem.zero_points)]
        head = f"!quant.uniform<{elem.storage}{limits}:{elem.expressed}{axis}, "
    else:
        between = ", " if elem.axis is None else ":"
        pairs = [f"{format_float(s)}{between}{format_float(o)}" for s, o in zip(elem.scales, elem.offsets)]
        head = f"!bits.affine<{elem.storage}{axis}, "
    return f"{head}{', '.join(pairs)}>" if elem.axis is None else f"{head}{{{', '.join(pairs)}}}>"


def format_layout(layout: Layout) -> str:
    edge = f", halo = [{layout.halo[0]}, {layout.halo[1]}], fill = {layout.fill}" if layout.halo != (0, 0) or layout.fill else ""
    return f"#tile.layout<{format_string(layout.name)}, channels = {layout.channels}{edge}>"


def format_type(type: Tensor, aliases: Mapping[Elem, str] | None = None) -> str:
    """`tensor<1x64x56x56xf32>`; `aliases` gives short names for element types."""
    elem = type.elem
    text = elem if isinstance(elem, str) else (aliases or {}).get(elem)
    text = format_elem(elem) if text is None else ELEM_TEXT.get(text, text)
    layout = f", {format_layout(type.layout)}" if type.layout is not None else ""
    return f"tensor<{''.join([f'{d}x' for d in type.shape])}{text}{layout}>"


# -- attributes --------------------------------------------------------------------------------

_ARRAYS = {int: "i64", float: "f64", bool: "i1"}


def format_attr(value: Any) -> str:
    """An attribute's value; each Python type has its own syntax, so that it reads back as that type."""
    kind = type(value)
    if kind is str:
        return format_string(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        if not -(1 << 63) <= value < 1 << 63:
            raise TersorError(f"attribute {value} does not fit 64 bits")
        return str(value)
    if kind is float:
        return format_float(value) if math.isfinite(value) else f"{format_float(value)} : f64"
    if value is None:
        return "none"
    if kind is tuple:
        kinds = set(map(type, value))
        if len(kinds) == 1 and (width := _ARRAYS.get(next(iter(kinds)))):
            return f"array<{width}: {', '.join([format_float(v) if width == 'f64' else format_attr(v) for v in value])}>"
        return f"[{', '.join(map(format_attr, value))}]"
    if kind is dict:
        return format_dict(value)
    if kind is Tensor:
        return format_type(value)
    if kind is Uniform or kind is BitsAffine:
        return format_elem(value)
    if kind is Layout:
        return format_layout(value)
    valid = "int, float, bool, str, None, tuple, dict with str keys, element type, Tensor, Layout, Graph"
    raise TersorError(f"a {kind.__module__}.{kind.__qualname__} cannot be an attribute; valid: {valid}")


def format_dict(attrs: Mapping[str, Any]) -> str:
    """`{a = 1, "b c" = 2.0}`; a key with a `_Raw` value prints that text."""
    items = []
    for key, value in attrs.items():
        if type(key) is not str or not key:
            raise TersorError(f"attribute names must be non-empty strings, got {key!r}")
        name = key if _KEY.fullmatch(key) else format_string(key)
        items.append(f"{name} = {value if type(value) is _Raw else format_attr(value)}")
    return f"{{{', '.join(items)}}}"


class _Raw(str):
    """Attribute text that is already formatted."""


def format_loc(loc: Loc) -> str:
    """`"path"("file":line:0)` or the part that is known; empty when nothing is."""
    source = f"{format_string(loc.file)}:{loc.line}:0" if loc.file or loc.line else ""
    if not loc.path:
        return source
    return f"{format_string(loc.path)}({source})" if source else format_string(loc.path)


# -- structures of outputs ---------------------------------------------------------------------


def structure_to_json(structure: Any) -> str:
    """Indices stay numbers; `{"tuple": […]}`, `{"list": […]}`, `{"dict": [[key, …], …]}` around them."""

    def encode(s: Any) -> Any:
        if isinstance(s, tuple | list):
            return {"tuple" if isinstance(s, tuple) else "list": [encode(x) for x in s]}
        if isinstance(s, dict):
            return {"dict": [[k, encode(x)] for k, x in s.items()]}
        return s

    return json.dumps(encode(structure))


def default_structure(outputs: int) -> Any:
    return 0 if outputs == 1 else tuple(range(outputs))


# -- graphs ------------------------------------------------------------------------------------


class Printer:
    """Prints one graph: gives every value, long element type and stored array its name.

    `weights` maps resource keys to the constants they stand for, filled while printing.
    """

    def __init__(self, shorten: bool = True) -> None:
        self.shorten = shorten
        self.names: dict[Value, str] = {}
        self.aliases: dict[Elem, str] = {}
        self.weights: dict[str, Const] = {}
        self._keys: dict[tuple[int, str], str] = {}
        self._types: dict[Tensor, str] = {}
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}
        self._count = 0

    def graph(self, graph: Graph) -> str:
        body = self.function(graph)
        return format_definitions({name: elem for elem, name in self.aliases.items()}) + body

    def function(self, graph: Graph) -> str:
        """The graph without the definitions of its aliases."""
        self.define(graph)
        body = self.block(graph, "", "func.return")
        props: dict[str, Any] = {"sym_name": graph.name, "function_type": _Raw(self.signature(graph.inputs, graph.outputs))}
        if graph.inputs:
            args = [f"{{tersor.name = {format_string(v.name)}{', tersor.batched' if v.name in graph.batched else ''}}}" for v in graph.inputs]
            props["arg_attrs"] = _Raw(f"[{', '.join(args)}]")
        if graph.outputs:
            props["res_attrs"] = _Raw(f"[{', '.join(f'{{tersor.name = {format_string(n)}}}' for n in graph.output_names)}]")
        extra = self._structure(graph, "tersor.structure")
        return f'"func.func"() <{format_dict(props)}> ({{\n{body}}}){f" {format_dict(extra)}" if extra else ""} : () -> ()\n'

    def define(self, graph: Graph) -> list[str]:
        """Name the values of a graph; returns the names taken."""
        taken = []
        for v in [*graph.inputs, *(v for op in graph.ops for v in op.outs)]:
            if v.name:
                name = v.name if _SSA.fullmatch(v.name) else _identifier(v.name, _SSA)
                if name in self._taken:
                    name = self._free(name, self._taken)
                self._taken.add(name)
                taken.append(name)
                self.names[v] = f"%{name}"
            else:
                self.names[v] = f"%{self._count}"
                self._count += 1
        return taken

    def block(self, graph: Graph, indent: str, terminator: str, extra: Mapping[str, Any] | None = None) -> str:
        lines = []
        if graph.inputs:
            args = [
                f"{self.names[v]}: {self.type(v.type)}" + (f" loc({format_string(v.name)})" if extra is not None and self._renamed(v) else "")
                for v in graph.inputs
            ]
            lines.append(f"{indent}^bb0({', '.join(args)}):\n")
        lines.extend([self.op(op, indent + "  ") for op in graph.ops])
        attrs = f" {format_dict(extra)}" if extra else ""
        lines.append(f'{indent}  "{terminator}"({self.refs(graph.outputs)}){attrs} : ({self.type_list(graph.outputs)}) -> ()\n')
        return "".join(lines)

    def op(self, op: Op, indent: str = "") -> str:
        operands: list[Value] = []
        attrs: dict[str, Any] = {}
        regions: list[Graph] = []
        if type(op) is Const:
            attrs["value"] = _Raw(self._constant(op))
        else:
            sizes = []
            variable = False
            for f in op.fields:
                v = getattr(op, f.name)
                if f.kind == "value":
                    operands.append(v)
                    sizes.append(1)
                elif f.kind == "attr":
                    if type(v) is Graph:
                        regions.append(v)
                    elif v is not None or f.default is not None or f.required:
                        attrs[f.name] = v
                else:
                    variable = True
                    some = v if f.kind == "list" else [] if v is None else [v]
                    operands += some
                    sizes.append(len(some))
            if variable:
                attrs["operandSegmentSizes"] = _Raw(f"array<i32: {', '.join(map(str, sizes))}>")
        results = f"{self.refs(op.outs)} = " if op.outs else ""
        body = f" ({', '.join([self._region(g, indent) for g in regions])})" if regions else ""
        text = f" {format_dict(attrs)}" if attrs else ""
        return f'{indent}{results}"{op.name}"({self.refs(operands)}){body}{text} : {self.signature(operands, op.outs)}{self._loc(op)}\n'

    def refs(self, values: Iterable[Value]) -> str:
        """`%a, %b`; a value outside the printed graph is `%<its name>?`."""
        names = self.names
        return ", ".join([names.get(v) or f"%{v.name}?" for v in values])

    def type(self, type: Tensor) -> str:
        text = self._types.get(type)
        if text is None:
            elem = type.elem
            if self.shorten and not isinstance(elem, str) and len(elem.scales) > 1 and elem not in self.aliases:
                self.aliases[elem] = f"!q{len(self.aliases)}"
            text = self._types[type] = format_type(type, self.aliases)
        return text

    def type_list(self, values: Iterable[Value]) -> str:
        return ", ".join([self.type(v.type) for v in values])

    def signature(self, ins: list[Value], outs: list[Value]) -> str:
        result = self.type(outs[0].type) if len(outs) == 1 else f"({self.type_list(outs)})"
        return f"({self.type_list(ins)}) -> {result}"

    def _constant(self, op: Const) -> str:
        array = op.array
        plain = format_type(Tensor(array.shape, elem_of(array.dtype)))
        if array.size <= 1:
            return f"dense<{_format_element(array) if array.size else ''}> : {plain}"
        elem = op.out.type.elem
        identity = (id(array), elem if isinstance(elem, str) else elem.storage)
        key = self._keys.get(identity)
        if key is None:
            key = _identifier(op.out.name or "constant", _KEY)
            key = self._keys[identity] = self._free(key, self.weights) if key in self.weights else key
            self.weights[key] = op
        return f"dense_resource<{key}> : {plain}"

    def _region(self, graph: Graph, indent: str) -> str:
        # names of a region must differ from those around it (MLIR does not shadow), and are free again after it
        count = self._count
        taken = self.define(graph)
        extra: dict[str, Any] = {"sym_name": graph.name} if graph.name != "main" else {}
        if graph.batched:
            extra["batched"] = tuple(sorted(graph.batched))
        if graph.output_names != default_names(len(graph.outputs)):
            extra["output_names"] = tuple(graph.output_names)
        text = self.block(graph, indent, "tile.yield", extra | self._structure(graph, "structure"))
        self._taken.difference_update(taken)
        self._count = count
        return f"{{\n{text}{indent}}}"

    def _structure(self, graph: Graph, key: str) -> dict[str, Any]:
        if graph.structure is None or graph.structure == default_structure(len(graph.outputs)):
            return {}
        return {key: structure_to_json(graph.structure)}

    def _free(self, name: str, taken: Container[str]) -> str:
        for i in itertools.count(self._next.get(name, 1)):
            if (candidate := f"{name}_{i}") not in taken:
                self._next[name] = i
                return candidate
        raise AssertionError

    def _renamed(self, value: Value) -> bool:
        return bool(value.name) and self.names.get(value) != f"%{value.name}"

    def _loc(self, op: Op) -> str:
        where = format_loc(op.loc)
        if any(self._renamed(v) for v in op.outs):
            names = [format_string(v.name) for v in op.outs]
            true = names[0] if len(names) == 1 else f"[{', '.join(names)}]"
            return f" loc(fused<{true}>[{where or 'unknown'}])"
        return f" loc({where})" if where else ""


def default_names(outputs: int) -> list[str]:
    return ["output"] if outputs == 1 else [f"output_{i}" for i in range(outputs)]


def _identifier(name: str, valid: re.Pattern[str]) -> str:
    """`name` with every character that `valid` refuses replaced by `_`."""
    if valid.fullmatch(name):
        return name
    clean = "".join([c if valid.fullmatch(f"a{c}") else "_" for c in name])
    return clean if valid.match(clean) else f"_{clean}"


def format_op(op: Op) -> str:
    """One op in the syntax of its graph's text; long element types are written out."""
    if "outs" not in op.__dict__:
        return f'"{op.name}" (not built)'
    printer = Printer(shorten=False)
    if op.graph is not None:
        printer.define(op.graph)
    else:
        outside = Graph()
        outside.inputs, outside.ops = list(dict.fromkeys(op.operands)), [op]
        printer.define(outside)
    return printer.op(op).rstrip("\n")


def format_graph(graph: Graph) -> str:
    """The whole graph; constants of more than one element appear as `dense_resource<key>`."""
    return Printer().graph(graph)


def format_with_weights(graph: Graph) -> tuple[str, dict[str, Const]]:
    """The text, and the constants that its resource keys stand for."""
    printer = Printer()
    text = printer.graph(graph)
    return text, printer.weights


def format_apart(graph: Graph) -> tuple[str, dict[str, Const], dict[str, Elem]]:
    """The text without the definitions of long element types, its constants, and those types by alias."""
    printer = Printer()
    text = printer.function(graph)
    return text, printer.weights, {name: elem for elem, name in printer.aliases.items()}


def format_definitions(types: Mapping[str, Elem]) -> str:
    """The lines that define aliases."""
    return "".join(f"{name} = {format_elem(elem)}\n" for name, elem in types.items())
