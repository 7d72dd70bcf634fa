"""The parser of the text form (grammar in text.py). Every op infers its type anew; the types in the text must agree."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import ops as _ops  # noqa: F401  (registers the operators that text may name)
from .attributes import attribute_problem, region_fields
from .errors import TersorError
from .graph import Graph
from .op import OPS, Const, Op, Value, add_use
from .scan import DEFINITION, MAX_DEPTH, Resource, Scanner, near, pattern
from .types import Elem, Tensor, elem_of, storage_elem

TERMINATORS = ("func.return", "tile.yield")
_LISTS = {"RESULTS": r"%[\w$.-]+(?::\d{1,9})?(?:~,~%[\w$.-]+(?::\d{1,9})?)*+", "OPERANDS": r"%[\w$.-]+(?:#\d{1,9})?(?:~,~%[\w$.-]+(?:#\d{1,9})?)*+"}
RESULTS = pattern(rf"({_LISTS['RESULTS']})~=")
NAME = pattern("STR")
OPERANDS = pattern(rf"\(~({_LISTS['OPERANDS']})?~\)")
OP = pattern(rf"(?:({_LISTS['RESULTS']})~=~)?STR~\(~({_LISTS['OPERANDS']})?~\)")
BLOCK = pattern(r"\^\w+~\(")
ARGUMENT = pattern(r"(%[\w$.-]+)~:")


def parse_graph(text: str, weights: Mapping[str, np.ndarray] | None = None, aliases: Mapping[str, Elem] | None = None) -> Graph:
    """The graph that `text` describes; raises TersorError with line, column, what was expected and the offending line.

    weights: arrays by resource key (or by the true name of the constant), for each `dense_resource<key>`.
    aliases: element types by name (`!q0`) that the text uses and does not define.
    """
    parser = _Parser(text, weights)
    parser.aliases |= aliases or {}
    graph = parser.file()
    parser.end()
    return graph


def parse_type(text: str) -> Tensor:
    """The type of a value, as `str(type)` prints it."""
    scanner = Scanner(text)
    result = scanner.type()
    scanner.end()
    return result


class _Parser(Scanner):
    def __init__(self, text: str, weights: Mapping[str, np.ndarray] | None):
        super().__init__(text)
        self.weights = weights
        self.enclosing: list[dict[str, Value]] = []

    def file(self) -> Graph:
        """Alias definitions and one function, bare or inside `builtin.module`."""
        self._definitions()
        m = self._op_head()
        start = m.start(2) - 1
        if m[2] == "builtin.module":
            self._properties()
            self.expect("(")
            self.expect("{")
            graph = self.nested(self.file)
            self.expect("}")
            self.expect(")")
            self._properties()
        elif m[2] == "func.func":
            graph = self._function(start)
        else:
            raise self.error(f'expected "builtin.module" or "func.func", got {m[2]!r}', start)
        self.expect(":")
        if self.signature() != ([], []):
            raise self.error(f"{m[2]} has no results", start)
        self.loc()
        self._definitions()
        return graph

    def _definitions(self) -> None:
        while m := self.try_take(DEFINITION):
            if m[1][0] == "!":
                self.elem()
            elif self.at("loc("):
                self.loc()
            else:
                self.attr()

    def _properties(self) -> dict[str, Any]:
        """`<{…}>`, `{…}` or nothing."""
        if self.skip("<{"):
            attrs = self.attrs()
            self.expect(">")
            return attrs
        return self.attrs() if self.skip("{") else {}

    def _function(self, start: int) -> Graph:
        attrs = self._properties()
        self.expect("(")
        graph, outs, _ = self._region("func.return", attrs.get("arg_attrs", ()))
        self.expect(")")
        attrs |= self._properties()
        graph.name = self._attribute(attrs, "sym_name", str, "main", start)
        given = attrs.get("function_type", ([v.type for v in graph.inputs], outs))
        if given != ([v.type for v in graph.inputs], outs):
            raise self.error("function_type differs from the types of the block's arguments and of func.return", start)
        names = [a.get("tersor.name") if isinstance(a, dict) else None for a in self._attribute(attrs, "res_attrs", tuple, (), start)]
        self._finish(graph, start, attrs.get("tersor.structure"), names if any(n is not None for n in names) else None)
        return graph

    def _attribute(self, attrs: Mapping[str, Any], key: str, kind: type, default: Any, start: int) -> Any:
        value = attrs.get(key, default)
        if not isinstance(value, kind):
            raise self.error(f"expected {key} to be a {kind.__name__}, got {value!r}", start)
        return value

    def _finish(self, graph: Graph, start: int, structure: Any, names: Any) -> None:
        """Names and structure of the outputs."""
        try:
            if names is not None and not all(isinstance(n, str) for n in names):
                raise TersorError(f"expected a string for the name of each output, got {names!r}")
            graph.set_outputs(graph.outputs, names, _structure(structure))
        except TersorError as error:
            raise self.error(str(error), start) from None

    # -- regions -------------------------------------------------------------------------------

    def _region(self, terminator: str, arg_attrs: Any = ()) -> tuple[Graph, list[Tensor], dict[str, Any]]:
        self.expect("{")
        graph = Graph()
        values: dict[str, Value] = {}
        if self.try_take(BLOCK):
            for i, (m, type, true) in enumerate(self.list_until(")", self._argument)):
                about = arg_attrs[i] if isinstance(arg_attrs, tuple) and i < len(arg_attrs) and isinstance(arg_attrs[i], dict) else {}
                name = about.get("tersor.name", true or _name(m[1]))
                if m[1] in values or not isinstance(name, str) or any(v.name == name for v in graph.inputs):
                    raise self.error(f"the inputs need distinct names, got {name!r} for {m[1]}", m.start(1))
                values[m[1]] = graph.add_input(type, name, bool(about.get("tersor.batched", False)))
            self.expect(":")
        self.enclosing.append(values)
        while True:
            m = self._op_head()
            if m[2] in TERMINATORS:
                break
            self._op(m, graph, values)
        start = m.start(2) - 1
        if m[2] != terminator or m[1]:
            raise self.error(f"expected {terminator!r} without results at the end of this block, got {m[2]!r}", start)
        operands = self._operands(m, values)
        attrs = self._properties()
        self.expect(":")
        ins, outs = self.signature()
        self._check_types(operands, ins, m)
        if outs:
            raise self.error(f"{terminator} has no results", start)
        self.loc()
        self.expect("}")
        self.enclosing.pop()
        graph.outputs = operands
        for v in operands:
            add_use(v, None)
        return graph, ins, attrs

    def _argument(self) -> tuple[re.Match[str], Tensor, str]:
        m = self.take(ARGUMENT, "an argument like '%x: tensor<…>'")
        return m, self.type(), self.loc()[0].path

    def _inner(self) -> Graph:
        """A region that is the attribute of an op; its name, batched inputs and output structure are attributes of the terminator."""
        start = self.here()
        graph, _, attrs = self._region("tile.yield")
        graph.name = self._attribute(attrs, "sym_name", str, "main", start)
        batched = self._attribute(attrs, "batched", tuple, (), start)
        if not {v.name for v in graph.inputs}.issuperset(map(str, batched)):
            raise self.error(f"batched = {batched!r} names no inputs of the region", start)
        graph.batched = set(map(str, batched))
        self._finish(graph, start, attrs.get("structure"), attrs.get("output_names"))
        return graph

    # -- ops -----------------------------------------------------------------------------------

    def _op_head(self) -> re.Match[str]:
        """`%results = "name"(%operands)`."""
        match = self.try_take(OP)
        if match is not None:
            return match
        self.try_take(RESULTS)
        self.take(NAME, "an op: '%result = \"name\"(%operand, …) …' or a terminator")
        self.take(OPERANDS, "the operands in parentheses, like (%a, %b)")
        raise AssertionError("the parts of an op's head match one by one but not together")

    def _op(self, m: re.Match[str], graph: Graph, values: dict[str, Value]) -> None:
        start = m.start(2) - 1
        cls = OPS.get(m[2])
        if cls is None:
            raise self.error(f"unknown op {m[2]!r}{near(m[2], OPS)} (the module that defines a custom op must be imported first)", start)
        operands = self._operands(m, values)
        attrs = self._properties()
        regions = self.list_until(")", self._inner) if self.skip("(") else []
        if not attrs:
            attrs = self._properties()
        self.expect(":")
        ins, outs = self.signature()
        self._check_types(operands, ins, m)
        loc, true = self.loc()
        if cls is Const:
            fields = self._constant(attrs, outs, true or [_name(r) for r, _ in _results(m[1])], start)
        else:
            fields = self._fields(cls, operands, regions, attrs, start)
        try:
            op = cls(**fields, loc=loc)
        except TersorError as error:
            raise self.error(str(error), start) from None
        except Exception as error:  # the op's own checks failed on values they did not expect: report it as a mistake in the text
            raise self.error(f"{cls.name} cannot be built: {type(error).__name__}: {error}", start) from error
        for v, written in zip(op.outs, outs):
            if v.type != written:
                raise self.error(f"{cls.name} gives {v.type}, but the text says {written}", start)
        self._define(m, op, len(outs), true, values)
        op.graph = graph
        for v in operands:
            add_use(v, op)
        graph.ops.append(op)

    def _operands(self, m: re.Match[str], values: dict[str, Value]) -> list[Value]:
        if not m[3]:
            return []
        result = []
        for part in m[3].split(","):
            name = part.strip()
            value = values.get(name)
            if value is None:
                pos = m.start(3) + m[3].index(name)
                if any(name in outer for outer in self.enclosing[:-1]):
                    raise self.error(f"{name} is a value outside this region; regions are isolated, so pass it as an operand", pos)
                raise self.error(f"{name} is not defined before this use{near(name, values)}", pos)
            result.append(value)
        return result

    def _check_types(self, operands: list[Value], written: list[Tensor], m: re.Match[str]) -> None:
        if len(operands) != len(written):
            raise self.error(f"{m[2]!r} has {len(operands)} operands but {len(written)} operand types", m.start(2) - 1)
        for name, v, t in zip((m[3] or "").split(","), operands, written):
            if v.type is not t and v.type != t:
                raise self.error(f"{name.strip()} is {v.type}, but the text says {t}", m.start(2) - 1)

    def _define(self, m: re.Match[str], op: Op, types: int, true: list[str] | None, values: dict[str, Value]) -> None:
        refs = _results(m[1])
        named = sum([n for _, n in refs])
        if not len(op.outs) == named == types:
            raise self.error(f"{op.name} gives {len(op.outs)} results, but the text names {named} and types {types}", m.start(2) - 1)
        outs = iter(op.outs)
        for ref, count in refs:
            if ref in values:
                raise self.error(f"{ref} is defined twice", m.start(1))
            for i in range(count):
                v = values[f"{ref}#{i}"] = next(outs)
                values.setdefault(ref, v)
                v.name = _name(ref) if count == 1 else ""
        for v, name in zip(op.outs, true or ()):
            v.name = name

    def _fields(self, cls: type[Op], operands: list[Value], regions: list[Graph], attrs: dict[str, Any], start: int) -> dict[str, Any]:
        fields = self._segments(cls, operands, attrs.pop("operandSegmentSizes", None), start)
        missing = [f for f in region_fields(cls) if f.name not in attrs]
        if len(missing) != len(regions):
            raise self.error(f"{cls.name} needs {len(missing)} regions, got {len(regions)}", start)
        fields.update(zip([f.name for f in missing], regions))
        known = {f.name: f for f in cls.attr_fields}
        for key, value in attrs.items():
            if key not in known:
                raise self.error(f"{cls.name} has no attribute {key!r}{near(key, known)}; valid: {', '.join(known) or 'none'}", start)
            fields[key] = value
        absent = [f.name for f in cls.attr_fields if f.required and f.name not in fields]
        if absent:
            raise self.error(f"{cls.name} is missing the attribute {absent[0]!r}", start)
        if problem := attribute_problem(cls, fields):
            raise self.error(f"{cls.name}: {problem}", start)
        return fields

    def _segments(self, cls: type[Op], operands: list[Value], sizes: Any, start: int) -> dict[str, Any]:
        """Operands by field. Without sizes, one optional or variadic field takes what the others leave."""
        kinds = [f.kind for f in cls.operand_fields]
        if sizes is None:
            always = kinds.count("value")
            if len(kinds) - always > 1 and len(operands) > always:
                names = ", ".join(f.name for f in cls.operand_fields)
                raise self.error(f"{cls.name} needs operandSegmentSizes, the number of operands of each of {names}", start)
            sizes = tuple([1 if k == "value" else len(operands) - always for k in kinds])
        fits = (
            isinstance(sizes, tuple)
            and len(sizes) == len(kinds)
            and all(type(n) is int and (n == 1 if k == "value" else n >= 0 if k == "list" else n in (0, 1)) for n, k in zip(sizes, kinds))
        )
        if not fits or sum(sizes) != len(operands):
            wanted = ", ".join(f.name + {"value": "", "optional": " (optional)", "list": " (any number)"}[f.kind] for f in cls.operand_fields)
            raise self.error(f"{cls.name} takes the operands {wanted or 'none'}; got {len(operands)}, in segments {sizes!r}", start)
        fields: dict[str, Any] = {}
        at = 0
        for f, n in zip(cls.operand_fields, sizes):
            fields[f.name] = operands[at : at + n] if f.kind == "list" else operands[at] if n else None
            at += n
        return fields

    def _constant(self, attrs: dict[str, Any], outs: list[Tensor], names: list[str], start: int) -> dict[str, Any]:
        value = attrs.pop("value", None)
        if isinstance(value, Resource):
            value = self._resource(value, names)
        if not isinstance(value, np.ndarray) or attrs or len(outs) != 1:
            raise self.error("nn.constant needs one attribute, value = dense<…> or dense_resource<…>, and gives one result", start)
        elem, stored = outs[0].elem, elem_of(value.dtype)
        if storage_elem(elem) != stored:
            raise self.error(f"nn.constant of {outs[0]} stores {storage_elem(elem)}, got {stored}", start)
        return {"array": value, "elem": None if elem == stored else elem, "layout": outs[0].layout}

    def _resource(self, resource: Resource, names: list[str]) -> np.ndarray:
        key, type = resource.key, resource.type
        found = next((self.weights[k] for k in (key, *names) if k in self.weights), None) if self.weights is not None else None
        if found is None:
            keys = dict.fromkeys(re.findall(r"dense_resource<([^<>]*)>", self.text))
            absent = [k for k in keys if self.weights is None or k not in self.weights]
            more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
            raise self.error(
                f"the text needs the arrays of {', '.join(absent[:5])}{more}: give them as weights, "
                "a mapping from these names to numpy arrays or a .safetensors file",
                resource.pos,
            )
        if found.shape != type.shape or found.dtype != type.dtype:
            raise self.error(f"the weights hold {key} as {found.dtype}{list(found.shape)}, but the text says {type}", resource.pos)
        return found


def _results(text: str | None) -> list[tuple[str, int]]:
    """`%a, %b:2` -> [("%a", 1), ("%b", 2)]."""
    if not text:
        return []
    parts = [p.strip().partition(":") for p in text.split(",")]
    return [(name, int(count or 1)) for name, _, count in parts]


def _name(ref: str) -> str:
    """The name in `%ref`, empty for a number."""
    return "" if ref[1:].isdigit() else ref[1:]


def _structure(text: Any) -> Any:
    """Inverse of `structure_to_json`; None stays None."""
    if text is None:
        return None

    def decode(s: Any, depth: int = 0) -> Any:
        match s:
            case {"tuple": [*items]} if len(s) == 1 and depth < MAX_DEPTH:
                return tuple(decode(x, depth + 1) for x in items)
            case {"list": [*items]} if len(s) == 1 and depth < MAX_DEPTH:
                return [decode(x, depth + 1) for x in items]
            case {"dict": [*items]} if len(s) == 1 and depth < MAX_DEPTH and all(isinstance(i, list) and len(i) == 2 for i in items):
                return {k if isinstance(k, str | int | float | bool | None) else str(k): decode(x, depth + 1) for k, x in items}
            case int() | None:
                return s
        raise TersorError(f"the structure of the outputs is not understood: {text!r}")

    try:
        return decode(json.loads(text))
    except (TypeError, ValueError, RecursionError):
        raise TersorError(f"the structure of the outputs is not understood: {text!r}") from None
