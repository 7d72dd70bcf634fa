"""Converts an ONNX graph in order: nodes of known inputs are folded, all others become ops through their converters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...ir.errors import TersorError, UnsupportedError, VerifyError
from ...ir.graph import Graph, remapped, unattached
from ...ir.op import Const, Loc, Op, Value
from ...ir.types import NUMPY, Tensor
from ..errors import FormError, StaticBatchNeeded
from . import ops  # noqa: F401  registers the converters
from .fold import attributes_of, constant_of, fold, may_fold
from .inputs import Input, elem_type
from .node import Node
from .prepare import Prepared, array_of
from .registry import CONVERTERS, Converter, Floats, Ints
from .sizes import Dim, compute, is_partial, settled, sized
from .sizes import array_of as array_of_dims

#: Stands for the result of a node that cannot be converted, so that all such nodes are found in one walk.
_MISSING = object()
#: Integers without an element type of their own, and the wider ones that hold them.
_HELD = {"uint16": np.int32, "uint4": np.uint8, "int4": np.int8}
#: Operators that the walk itself handles.
WITHOUT_CONVERTER = {"Constant", "Identity", "Shape", "Size"}


class Walk:
    """Builds the graph of one prepared model.

    free: the batch stays symbolic. The type of every op is then inferred at a second batch too, which shows how its sizes depend on the batch.
    """

    def __init__(self, model: Prepared, file: str, inputs: Sequence[Input], free: bool):
        self.model = model
        self.file = file
        self.graph = Graph()
        #: what a tensor's name stands for: a Value, an array that is known now (it may hold `Size`s), or _MISSING
        self.env: dict[str, Any] = dict(model.constants)
        self.constants: dict[str, Value] = {}
        self.names: set[str] = set()
        #: each value at the second batch: itself where it does not depend on the batch
        self.twins: dict[Value, Value] = {}
        self.missing: dict[str, list[str]] = {}
        #: storage type of inputs that are held in a wider type
        self.narrow = {i.name: i.narrow for i in inputs if i.narrow}
        self.batch = next((i.shape[0] for i in inputs if i.batched), 1)
        for given in inputs:
            self.add_input(given, free)

    def run(self) -> Graph:
        for node in self.model.graph.node:
            self.visit(node)
        for o in self.model.graph.output:
            if o.name not in self.env:
                raise TersorError(f"{self.file}: nothing makes the output {o.name!r}")
        outputs = [self.value(o.name) for o in self.model.graph.output if self.env[o.name] is not _MISSING]
        if self.missing:
            raise self.missing_error()
        for value in outputs:
            if value.op is not None and value.op.graph is None:
                self.graph.add(value.op)
        self.check_types(outputs)
        self.graph.set_outputs(outputs, [o.name for o in self.model.graph.output])
        self.graph.remove_dead()
        self.check_batch()
        return self.graph

    def add_input(self, given: Input, free: bool) -> None:
        batched = free and given.batched
        value = self.graph.add_input(Tensor(given.shape, given.elem), given.name, batched)
        self.names.add(given.name)
        self.env[given.name] = value if value.type.size else np.empty(given.shape, NUMPY[given.elem])
        if batched:
            self.twins[value] = Value(Tensor((self.batch + 2, *given.shape[1:]), given.elem), None, given.name)

    # -- nodes ---------------------------------------------------------------------------------

    def visit(self, proto: Any) -> None:
        """Convert a node and store its outputs under their names."""
        loc = Loc(proto.name or next((o for o in proto.output if o), proto.op_type))
        operator = f"{proto.domain}.{proto.op_type}" if proto.domain else proto.op_type
        inputs = [self.lookup(n, operator, loc) for n in proto.input]
        try:
            results = self.results(proto, operator, loc, inputs)
        except FormError as error:
            results = self.note_missing(operator, loc, str(error), proto)
        except StaticBatchNeeded as error:
            raise error if str(loc) in str(error) else StaticBatchNeeded(f"{operator} [{loc}]: {error}") from None
        for name, result in zip(proto.output, results):
            if name:
                self.env[name] = result

    def lookup(self, name: str, operator: str, loc: Loc) -> Any:
        if name and name not in self.env:
            raise TersorError(f"{self.file}: {operator} [{loc}] reads {name!r}, which nothing makes")
        return self.env[name] if name else None

    def results(self, proto: Any, operator: str, loc: Loc, inputs: list[Any]) -> Sequence[Any]:
        missing = any(x is _MISSING for x in inputs)
        if not proto.domain and not missing:
            known = self.known_now(proto, inputs)
            if known is not None:
                return known
        entry = CONVERTERS.get((proto.domain, proto.op_type))
        if missing and (entry is not None or operator in WITHOUT_CONVERTER):
            return [_MISSING] * len(proto.output)
        if entry is None:
            return self.note_missing(operator, loc, "", proto)
        batch_input = next((v for v in self.graph.inputs if v.name in self.graph.batched), None)
        storages = [self.storage(n, x) for n, x in zip(proto.input, inputs)]
        node = Node(operator, loc, proto.output, self.dims, batch_input, storages, self.model.rounding)
        return self.attach(self.apply(entry, node, proto, inputs), node)

    def known_now(self, proto: Any, inputs: list[Any]) -> Sequence[Any] | None:
        """The results of a node that reads only shapes or constants, or is the identity; None where it must become an op."""
        kind = proto.op_type
        if kind in ("Identity", "If", "Shape", "Size") and (not inputs or inputs[0] is None):
            raise FormError("input 0 is left out, and it is required")
        if kind == "Identity":
            return inputs
        if kind == "Constant":
            return [constant_of(proto)]
        if kind == "If" and isinstance(inputs[0], np.ndarray) and not is_partial(inputs[0]):
            return self.inline(proto, bool(inputs[0].reshape(-1)[0]))
        if kind in ("Shape", "Size"):
            dims = self.dims(inputs[0]) if isinstance(inputs[0], Value) else inputs[0].shape
            attributes = attributes_of(proto)
            if kind == "Size":
                return [settled(np.asarray(np.multiply.reduce(np.array([1, *dims], object)), object))]
            return [array_of_dims(dims[attributes.get("start", 0) : attributes.get("end", len(dims))])]
        arrays = [x for x in inputs if x is not None]
        if not all(isinstance(x, np.ndarray) for x in arrays) or not may_fold(proto):
            return None
        if any(map(is_partial, arrays)):
            if kind == "Split" and not attributes_of(proto).get("axis", 0):
                return self.split(proto, inputs)
            result = compute(kind, inputs, attributes_of(proto))
            return None if result is None else [result]
        return fold(proto, inputs, self.model.opsets)

    @staticmethod
    def split(proto: Any, inputs: list[Any]) -> list[np.ndarray] | None:
        """The parts of a shape."""
        count = len(proto.output)
        ends = np.cumsum(inputs[1])[:-1] if len(inputs) > 1 and inputs[1] is not None else np.arange(1, count) * -(-len(inputs[0]) // count)
        return [settled(part) for part in np.split(inputs[0], ends.astype(int))]

    def inline(self, proto: Any, taken: bool) -> Sequence[Any]:
        """The results of the branch that an `If` of known condition takes. Names in the branch are local to it."""
        name = "then_branch" if taken else "else_branch"
        branch = next((a.g for a in proto.attribute if a.name == name), None)
        if branch is None:
            raise FormError(f"attribute {name!r} is missing")
        outside = dict(self.env)
        constants = dict(self.constants)
        self.env |= {t.name: array_of(t, self.file) for t in branch.initializer}
        for t in branch.initializer:
            self.constants.pop(t.name, None)
        for node in branch.node:
            self.visit(node)
        results = [self.lookup(o.name, "If", Loc(proto.name)) for o in branch.output]
        self.env, self.constants = outside, constants
        return results

    def apply(self, entry: Converter, node: Node, proto: Any, inputs: list[Any]) -> Any:
        """Call a converter."""
        attributes = attributes_of(proto)
        if unknown := [a for a in attributes if a not in entry.attributes]:
            raise FormError(f"attribute {unknown[0]!r} is not known; valid: {', '.join(entry.attributes) or 'none'}")
        if lacking := [a for a, optional in entry.attributes.items() if not optional and a not in attributes]:
            raise FormError(f"attribute {lacking[0]!r} is missing")
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        if len(inputs) < entry.required or (entry.rest is None and len(inputs) > len(entry.kinds)):
            raise FormError(f"it has {len(inputs)} inputs; valid: {entry.required} to {len(entry.kinds)}")
        if left_out := [i for i in range(entry.required) if inputs[i] is None]:
            raise FormError(f"input {left_out[0]} is left out, and it is required")
        kinds = [*entry.kinds, *[entry.rest or object] * len(inputs)]
        args = [self.argument(n, x, kind) for n, x, kind in zip(proto.input, inputs, kinds)]
        try:
            return entry.function(node, *args, **attributes)
        except (FormError, StaticBatchNeeded):
            raise
        except VerifyError as error:
            raise FormError(str(error)) from error
        except TersorError:
            raise
        except Exception as error:
            given = ", ".join("nothing" if x is None else str(x.type) if isinstance(x, Value) else f"{x.dtype}{list(x.shape)}" for x in inputs)
            raise TersorError(
                f"{self.file}: the converter of {node.operator} failed on ({given}) [{node.loc}]: {type(error).__name__}: {error}"
            ) from error

    def argument(self, name: str, x: Any, kind: type) -> Any:
        if x is None:
            return None
        if kind is object:
            return self.value(name)
        if not isinstance(x, np.ndarray):
            raise FormError(f"input {name!r} must be known when the model is loaded, and it is computed from the data")
        flat = x.reshape(-1).tolist()
        return Floats(map(float, flat)) if kind is Floats else Ints(flat)

    def attach(self, result: Any, node: Node) -> list[Any]:
        """Insert a converter's results and the ops they depend on into the graph, with names and locations."""
        results = list(result) if isinstance(result, list | tuple) else [result]
        if len(results) < sum(bool(o) for o in node.outputs):
            raise FormError(f"it has {len(node.outputs)} outputs; valid: {len(results)}")
        found: list[Any] = []
        for name, r in zip(node.outputs, results):
            if isinstance(r, Op):
                r = r.out
            if not name:
                found.append(None)
            elif r is None:
                raise FormError(f"its output {name!r} has no equivalent")
            elif isinstance(r, Value):
                found.append(self.placed(r, name, node))
            else:
                raise TersorError(f"the converter of {node.operator} returned a {type(r).__name__} [{node.loc}]; valid: an op, a value or a list")
        return found

    def placed(self, value: Value, name: str, node: Node) -> Value:
        op = value.op
        if op is not None and op.graph is None:
            for part in unattached(op):
                if part.loc == Loc():
                    part.loc = node.loc
                if not part.out.name:
                    part.out.name = self.unique(name if part is op else f"{name}_{part.name.rpartition('.')[2]}")
                self.twin(part.out)
            self.graph.add(op)
        return value

    # -- values --------------------------------------------------------------------------------

    def storage(self, name: str, x: Any) -> str:
        """Element type as the model declares it."""
        if isinstance(x, Value):
            return self.narrow.get(name, str(x.type.elem))
        if x is None:
            return ""
        kind = str(x.dtype)
        return {"uint16": "u16", "uint4": "u4", "int4": "i4"}.get(kind) or next((e for e, d in NUMPY.items() if d == x.dtype), kind)

    def value(self, name: str) -> Value:
        """A tensor's value, constants included."""
        known = self.env[name]
        if isinstance(known, Value):
            return known
        if is_partial(known):
            raise StaticBatchNeeded(f"{name!r} is computed from the batch size")
        if name not in self.constants:
            known = known.astype(_HELD[str(known.dtype)]) if str(known.dtype) in _HELD else known
            if known.dtype not in NUMPY.values():
                raise FormError(f"the constant {name!r} holds {known.dtype}; valid element types: {', '.join(NUMPY)}")
            op = Const(known, loc=Loc(name))
            op.out.name = self.unique(name)
            self.constants[name] = op.out
        return self.constants[name]

    def unique(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self.names:
            count += 1
            name = f"{wanted}_{count}"
        self.names.add(name)
        return name

    # -- the batch -----------------------------------------------------------------------------

    def twin(self, value: Value) -> Value:
        """The value at the second batch: itself where it does not depend on the batch."""
        op = value.op
        if value in self.twins or op is None or not self.graph.batched:
            return self.twins.get(value, value)
        to = {v: self.twin(v) for v in op.operands}
        if all(a is b for a, b in to.items()):
            self.twins |= zip(op.outs, op.outs)
            return value
        try:
            other = remapped(op, to)
        except TersorError as error:
            raise StaticBatchNeeded(f"{op.name} does not hold for another batch: {error}") from error
        self.twins |= zip(op.outs, other.outs)
        return self.twins[value]

    def dims(self, value: Value) -> tuple[Dim, ...]:
        """Sizes of a value, as functions of the batch."""
        other = self.twin(value)
        if other is value:
            return value.shape
        steps = [((b - a) / 2, a) for a, b in zip(value.shape, other.shape)]
        return tuple(sized(slope, a - slope * self.batch) for slope, a in steps)

    def check_batch(self) -> None:
        """Raise `StaticBatchNeeded` unless the graph holds for a third batch, with sizes on the line through the other two."""
        if not self.graph.batched:
            return
        batch = self.batch + 3
        try:
            other = self.graph.at(batch)
        except TersorError as error:
            raise StaticBatchNeeded(f"the graph does not hold for another batch: {error}") from error
        for mine, its in zip(self.graph.outputs, other.outputs):
            expected = tuple(d if isinstance(d, int) else d.at(batch) for d in self.dims(mine))
            if its.shape != expected:
                raise StaticBatchNeeded(f"{mine.name!r} has shape {its.shape} at batch {batch}, not {expected}")

    # -- errors --------------------------------------------------------------------------------

    def note_missing(self, operator: str, loc: Loc, why: str, proto: Any) -> list[Any]:
        self.missing.setdefault(operator, []).append(f"{loc}: {why}" if why else str(loc))
        return [_MISSING] * len(proto.output)

    def missing_error(self) -> UnsupportedError:
        parts = []
        for operator, places in self.missing.items():
            more = f"; and {len(places) - 4} more" if len(places) > 4 else ""
            parts.append(f"{operator} [{'; '.join(places[:4])}{more}]")
        example = next((o for o in self.missing if o not in {k for _, k in CONVERTERS}), next(iter(self.missing)))
        domain, _, name = example.rpartition(".")
        decorator = f'"{name}"' + (f', domain="{domain}"' if domain else "")
        hint = _hint(self.missing)
        return UnsupportedError(
            f"{self.file} uses {len(parts)} operator{'s' if len(parts) > 1 else ''} that Tersor cannot convert: {', '.join(parts)}; {hint}"
            f"to add one, decorate a function (node, *inputs, **attributes) -> op with @tersor.onnx_converter({decorator})"
        )

    def check_types(self, outputs: Iterable[Value]) -> None:
        """Raise TersorError where an output has another element type than the file declares."""
        for proto, value in zip(self.model.graph.output, outputs):
            declared = proto.type.tensor_type.elem_type
            if declared and elem_type(declared, f"output {proto.name!r}") != value.type.elem:
                raise TersorError(f"{self.file} declares output {proto.name!r} otherwise than its nodes make it: {value.type}")


def _hint(missing: Iterable[str]) -> str:
    """What to do about operators that only onnxruntime knows."""
    if any(o.startswith(("com.microsoft.", "com.ms.")) for o in missing):
        return "operators of com.microsoft come from a model that onnxruntime optimized or quantized: export it without optimization; "
    return ""
