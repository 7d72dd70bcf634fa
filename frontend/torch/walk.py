"""Converts an exported program in order: placeholders become inputs and constants, calls become ops through their converters."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, SymBoolArgument, SymFloatArgument, SymIntArgument, TensorArgument

from ...ir.errors import TersorError, UnsupportedError, VerifyError
from ...ir.graph import Graph, unattached
from ...ir.op import Loc, Op, Value
from ...ir.types import Tensor
from ..call import TORCH, Call, FormError, StaticBatchNeeded, elem_of
from ..registry import CONVERTERS
from . import aten  # noqa: F401  registers the converters
from .constants import Constants
from .locations import node_loc
from .sizes import Sizes, is_symbolic
from .structure import leaf_paths, output_names, structure_of

#: Stands for the result of an operator that has no converter, so that all such operators are found in one walk.
_MISSING = object()


class Walk:
    """Builds the graph of one exported program.

    batch: the example's batch when dimension 0 of some inputs is symbolic, else None.
    """

    def __init__(self, module: nn.Module, program: ExportedProgram, batch: int | None, input_names: Sequence[str] | None = None):
        self.module = module
        self.name = type(module).__name__
        self.program = program
        self.batch = batch
        self.sizes = Sizes(self.name, _batch_symbol(program), batch)
        self.graph = Graph()
        #: what a node stands for: a Value, a tensor that is known now, a list of them, or _MISSING
        self.env: dict[fx.Node, Any] = {}
        self.parameters: set[fx.Node] = set()
        self.dims: dict[Value, tuple[Any, ...]] = {}
        self.names: set[str] = set()
        self.constants = Constants(module, program, self.unique)
        self.missing: dict[str, list[str]] = {}
        self.unexplained = False
        self.input_names = input_names

    def run(self) -> Graph:
        self.check_mutation()
        self.add_inputs()
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self.env[node] = self.convert(node)
        if self.missing:
            raise self.missing_error()
        self.add_outputs()
        self.graph.remove_dead()
        return self.graph

    # -- inputs and outputs --------------------------------------------------------------------

    def check_mutation(self) -> None:
        signature = self.program.graph_signature
        changed = sorted(signature.buffers_to_mutate.values())
        if changed:
            raise UnsupportedError(
                f"{self.name}.forward changes the buffer {', '.join(map(repr, changed[:3]))}: a graph keeps no state between runs; "
                "call model.eval() if it is in training mode, or take the update out of forward"
            )
        for name in signature.user_inputs_to_mutate.values():
            warnings.warn(f"{self.name}.forward changes its input {name!r} in place; the graph leaves it as it is", stacklevel=4)

    def add_inputs(self) -> None:
        nodes = {n.name: n for n in self.program.graph.nodes if n.op == "placeholder"}
        specs = self.program.graph_signature.input_specs
        users = [nodes[s.arg.name] for s in specs if s.kind is InputKind.USER_INPUT and isinstance(s.arg, TensorArgument)]
        names = [n.name for n in users] if self.input_names is None else list(self.input_names)
        if len(names) != len(users):
            own = ", ".join(n.name for n in users)
            raise TersorError(f"{self.name} has {len(users)} tensor inputs ({own}), got {len(names)} input_names")
        for node, name in zip(users, names):
            val = node.meta["val"]
            dims = self.sizes.dims(val.shape)
            type = Tensor(self.sizes.at(val.shape), elem_of(val.dtype, f"input {name!r}"))
            value = self.graph.add_input(type, name, dims[:1] == (-1,))
            self.dims[value] = dims
            self.names.add(name)
            self.env[node] = value
        for spec in specs:
            if spec.kind is not InputKind.USER_INPUT:
                self.env[nodes[spec.arg.name]] = self.constants.stored(str(spec.target))
                if spec.kind is InputKind.PARAMETER:
                    self.parameters.add(nodes[spec.arg.name])

    def add_outputs(self) -> None:
        output = next(n for n in self.program.graph.nodes if n.op == "output")
        spec = self.program.call_spec.out_spec
        values: list[Value] = []
        leaves: list[int | None] = []
        paths = leaf_paths(spec)
        results = [(s, n) for s, n in zip(self.program.graph_signature.output_specs, output.args[0]) if s.kind is OutputKind.USER_OUTPUT]
        for (out, node), path in zip(results, paths):
            if isinstance(out.arg, TensorArgument):
                leaves.append(len(values))
                values.append(self.value(node))
            elif isinstance(out.arg, ConstantArgument) and out.arg.value is None:
                leaves.append(None)
            else:
                raise self.output_error(out.arg, node, "result" + "".join(f"[{key!r}]" for key in path))
        if not values:
            raise UnsupportedError(f"{self.name}.forward returns no tensor")
        names = output_names([path for path, leaf in zip(paths, leaves) if leaf is not None])
        self.graph.set_outputs(values, names, structure_of(spec, iter(leaves)))

    def output_error(self, argument: Any, node: Any, where: str) -> Exception:
        """The exception for a result that is not a tensor; the batch size is a number once the batch is fixed."""
        if not isinstance(argument, SymIntArgument | SymFloatArgument | SymBoolArgument):
            return UnsupportedError(
                f"{self.name}.forward returns a {type(node).__name__} in its {where}; a graph returns tensors (other results are out of scope)"
            )
        if self.batch is not None and node.meta["val"].node.expr.free_symbols <= {self.sizes.symbol}:
            return StaticBatchNeeded(f"{self.name}.forward returns its batch size")
        return UnsupportedError(
            f"{self.name}.forward returns the value of a tensor as a Python number in its {where}; "
            "return the tensor (numbers from data are out of scope: no .item(), no .tolist())"
        )

    # -- calls ---------------------------------------------------------------------------------

    def convert(self, node: fx.Node) -> Any:
        """The result of a call: a value, a tensor known now, a list of these, or _MISSING; None for sizes and assertions."""
        if node.target is operator.getitem:
            return self.getitem(node)
        val = node.meta.get("val")
        if val is None or isinstance(val, int | float | torch.SymInt | torch.SymFloat | torch.SymBool):
            return None  # size arithmetic is read from its result, assertions are torch's own
        target = str(node.target)
        if isinstance(val, torch.Tensor) and not is_symbolic(val) and 0 in val.shape and val.dtype in TORCH.values():
            # an empty tensor is known, whatever it is made from
            return torch.empty(val.shape, dtype=val.dtype)
        known = self.known_now(node, target)
        if known is not None:
            return known
        call = self.call(node, target)
        if any(self.env.get(n) is _MISSING for n in node.all_input_nodes):
            if target not in CONVERTERS:
                self.note_missing(target, call.loc, "")
            return _MISSING
        if target not in CONVERTERS:
            self.note_missing(target, call.loc, self.why_missing(node, call))
            return _MISSING
        try:
            return self.attach(self.apply(node, call), node, call)
        except FormError as err:
            self.note_missing(target, call.loc, str(err))
            return _MISSING

    def getitem(self, node: fx.Node) -> Any:
        source, index = node.args
        assert isinstance(source, fx.Node)
        results = self.env[source]
        if results is _MISSING:
            return _MISSING
        result = results[index]
        val = node.meta["val"]
        if result is None and isinstance(val, torch.Tensor) and not is_symbolic(val) and 0 in val.shape:
            return torch.empty(val.shape, dtype=val.dtype)
        if result is None:
            self.note_missing(str(source.target), node_loc(source), f"its result {index} is not supported yet")
            return _MISSING
        if isinstance(result, Value):
            self.dims[result] = self.sizes.dims(val.shape)
        return result

    def call(self, node: fx.Node, target: str) -> Call:
        val = node.meta["val"]
        while isinstance(val, tuple | list):
            val = val[0]
        loc = node_loc(node)
        source = next((v for v in self.graph.inputs if v.name in self.graph.batched), None)
        elem = elem_of(val.dtype, f"{target} [{loc}]")
        shape, sizes, batch_axes = self.sizes.dims(val.shape), self.sizes.at(val.shape, loc=loc), self.sizes.batch_axes(val.shape)

        def plain() -> bool:
            return all(_lies_plainly(v) for n in node.all_input_nodes if isinstance(v := n.meta.get("val"), torch.Tensor))

        return Call(target, loc, elem, shape, sizes, batch_axes, self.dims_of, source, plain)

    def apply(self, node: fx.Node, call: Call) -> Any:
        entry = CONVERTERS[call.target]

        def argument(x: Any) -> Any:
            if isinstance(x, fx.Node):
                val = x.meta.get("val")
                if isinstance(val, torch.SymInt | torch.SymFloat | int | float):
                    return self.sizes.number(val, call, entry.symbolic)
                result = self.env[x]
                return self.constants.value(x, result) if isinstance(result, torch.Tensor) else result
            if isinstance(x, list | tuple):
                return [argument(y) for y in x]
            return x

        args = [argument(a) for a in node.args]
        kwargs = {k: argument(v) for k, v in node.kwargs.items() if k not in ("device", "layout", "pin_memory", "memory_format")}
        try:
            return entry.function(call, *args, **kwargs)
        except (TersorError, StaticBatchNeeded) as err:
            if isinstance(err, VerifyError):
                raise TersorError(f"{call.target} [{call.loc}]: {err}") from err
            raise
        except Exception as err:
            raise TersorError(f"the converter of {call.target} failed [{call.loc}]: {type(err).__name__}: {err}") from err

    def attach(self, result: Any, node: fx.Node, call: Call, suffix: str = "") -> Any:
        """Insert a converter's result and the ops it depends on into the graph, with names and locations."""
        if isinstance(result, list | tuple):
            several = sum(r is not None for r in result) > 1
            return [None if r is None else self.attach(r, node, call, f"_{i}" if several else "") for i, r in enumerate(result)]
        if isinstance(result, Op):
            result = result.out
        if not isinstance(result, Value):
            got = type(result).__name__
            raise TersorError(f"the converter of {call.target} returned a {got} [{call.loc}]; valid: an op, a value, or a list of them")
        op = result.op
        if op is not None and op.graph is None:
            # results of torch's private operators are named after the op
            own = (op.name.rpartition(".")[2] if node.name.startswith("_") else node.name) + suffix
            for part in unattached(op):
                if part.loc == Loc():
                    part.loc = call.loc
                if not part.out.name:
                    part.out.name = self.unique(own if part is op else f"{own}_{part.name.rpartition('.')[2]}")
            self.graph.add(op)
        if not isinstance(node.meta["val"], tuple | list):
            expected = Tensor(call.sizes, call.elem)
            if result.type != expected:
                given = f"{result.type.shape} {result.type.elem}"
                raise TersorError(f"the converter of {call.target} gives {given}, torch {expected.shape} {expected.elem} [{call.loc}]")
            self.dims.setdefault(result, call.shape)
        return result

    def known_now(self, node: fx.Node, target: str) -> Any:
        """The result of a call that reads only constants (grids, masks, scalars), computed by torch; None where it must become an op.

        Calls on parameters stay ops where they can, so that passes still see the parameter.
        """
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            return None
        if target.startswith("quantized_decomposed.dequantize"):
            # layers run on the integers
            return None
        inputs = [n for n in node.all_input_nodes if _has_tensor(n.meta.get("val"))]
        known = all(isinstance(self.env.get(n), torch.Tensor) for n in inputs)
        if not known or any(is_symbolic(n.meta.get("val")) for n in (node, *node.all_input_nodes)):
            return None
        if any(n in self.parameters for n in inputs):
            if target in CONVERTERS:
                return None
            self.parameters.add(node)

        def argument(n: fx.Node) -> Any:
            return self.env[n] if n in inputs else n.meta["val"]

        assert callable(node.target)
        with torch.no_grad():
            try:
                result = node.target(*fx.map_arg(node.args, argument), **fx.map_arg(node.kwargs, argument))
                # uninitialized memory becomes zeros
                return result.zero_() if "empty" in target and isinstance(result, torch.Tensor) else result
            except RuntimeError:
                # an access outside of an empty tensor; the converter reports it
                return None

    # -- the batch -----------------------------------------------------------------------------

    def dims_of(self, x: Value) -> tuple[int, ...]:
        if x in self.dims:
            return self.dims[x]
        source = getattr(x.op, "x", None)
        return self.dims_of(source) if x.op is not None and x.op.name == "nn.cast" and isinstance(source, Value) else x.shape

    def check_batch(self) -> None:
        """Raise `StaticBatchNeeded` unless the graph at another batch has the shapes that torch says."""
        assert self.batch is not None
        try:
            other = self.graph.at(self.batch + 2)
        except TersorError as err:
            raise StaticBatchNeeded(f"the graph does not hold for another batch: {err}") from err
        by_name = {v.name: v for op in other.ops for v in op.outs}
        for node, value in self.env.items():
            if isinstance(value, Value) and value.op is not None and value.name in by_name:
                given, expected = by_name[value.name].shape, self.sizes.at(node.meta["val"].shape, self.batch + 2)
                if given != expected:
                    raise StaticBatchNeeded(f"{value.op.name} has shape {given} at batch {self.batch + 2}, not {expected} [{value.op.loc}]")

    # -- names and errors ----------------------------------------------------------------------

    def value(self, node: fx.Node) -> Value:
        """A node's value, constants included."""
        result = self.env[node]
        if isinstance(result, torch.Tensor):
            result = self.constants.value(node, result)
            if result.op is not None and result.op.graph is None:
                self.graph.add(result.op)
        assert isinstance(result, Value)
        return result

    def unique(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self.names:
            count += 1
            name = f"{wanted}_{count}"
        self.names.add(name)
        return name

    def why_missing(self, node: fx.Node, call: Call) -> str:
        """Why a call has no converter, empty where unknown; raises `StaticBatchNeeded` when a fixed batch would do."""
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            return "out of scope: it draws random numbers, and a graph computes the same on every run"
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return "out of scope: it is control flow, and a graph has none"
        if call.target.endswith(("_backward.default", "_backward_data.default")):
            return "out of scope: it is a step of backpropagation, and a graph computes forward"
        if any(word in call.target for word in ("sparse", "quantized", "int_repr")):
            return "out of scope: it works on torch's own sparse or quantized tensors"
        if not any(_has_tensor(n.meta.get("val")) for n in node.all_input_nodes):
            if self.batch is None:
                return "it makes a tensor from the value of another as a Python number; keep it a tensor (no .item())"
            raise StaticBatchNeeded(f"{call.target} makes a tensor from the batch size [{call.loc}]")
        return ""

    def note_missing(self, target: str, loc: Loc, why: str) -> None:
        self.unexplained = self.unexplained or not why
        self.missing.setdefault(target, []).append(f"{loc}: {why}" if why else str(loc))

    def missing_error(self) -> UnsupportedError:
        parts = []
        for target, places in self.missing.items():
            more = f"; and {len(places) - 4} more" if len(places) > 4 else ""
            parts.append(f"{target} [{'; '.join(places[:4])}{more}]")
        example = next((target for target in self.missing if target not in CONVERTERS and "." in target), next(iter(self.missing)))
        return UnsupportedError(
            f"{self.name} uses {len(parts)} operator{'s' if len(parts) > 1 else ''} that Tersor cannot convert: {', '.join(parts)}; "
            f"{'what has no reason is not supported yet; ' if self.unexplained else ''}"
            f'to add one, decorate a function (call, *args) -> op with @tersor.frontend.converter("{example}")'
        )


def _lies_plainly(val: torch.Tensor) -> bool:
    """Whether a tensor covers all of its storage, in row-major order."""
    return val.is_contiguous() and val.storage_offset() == 0 and val.untyped_storage().nbytes() == val.numel() * val.element_size()


def _has_tensor(val: Any) -> bool:
    return isinstance(val, torch.Tensor) or (isinstance(val, tuple | list) and any(_has_tensor(v) for v in val))


def _batch_symbol(program: ExportedProgram) -> Any:
    """The symbol that torch made for dimension 0 of the batched inputs."""
    for node in program.graph.nodes:
        val = node.meta.get("val")
        if node.op == "placeholder" and isinstance(val, torch.Tensor) and val.dim() and isinstance(val.shape[0], torch.SymInt):
            return val.shape[0].node.expr
    return None
