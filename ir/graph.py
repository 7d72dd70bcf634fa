"""A graph: named inputs, ops in order (pure SSA), named outputs and the structure they came in."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import TersorError
from .op import Const, Loc, Op, Value, add_use, drop_use
from .types import Tensor

if TYPE_CHECKING:
    from pathlib import Path


class Graph:
    """Ops in an order where every operand comes before its use.

    inputs: values with names; `batched` holds the names of those whose dimension 0 is the batch.
    outputs: the result values; `structure` is the nesting in which the model returned them: an index into `outputs`, or a
    list, tuple or dict of such structures.
    """

    def __init__(self, name: str = "main"):
        self.name = name
        self.inputs: list[Value] = []
        self._ops: list[Op] = []
        # edits not yet in `_ops`, so that a rewrite costs the same in a graph of any length: ops to insert before an op, ops to drop
        self._before: dict[Op, list[Op]] = {}
        self._erased: set[Op] = set()
        self.outputs: list[Value] = []
        self.output_names: list[str] = []
        self.structure: Any = None
        self.batched: set[str] = set()
        #: the ledger of the transform that made this graph, or None
        self.report: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as the bytes of its file, without its report."""
        from .save import from_bytes, to_bytes

        return from_bytes, (to_bytes(self),)

    @property
    def ops(self) -> list[Op]:
        """Ops in order. A list read earlier does not see later edits of the graph."""
        if self._before or self._erased:
            self._settle()
        return self._ops

    @ops.setter
    def ops(self, ops: list[Op]) -> None:
        self._ops = ops
        self._before.clear()
        self._erased.clear()

    def _settle(self) -> None:
        """Put the pending insertions and removals into the list, in one sweep."""
        order: list[Op] = []
        for root in self._ops:
            stack = [root]
            while stack:
                op = stack[-1]
                pending = self._before.pop(op, None)
                if pending:
                    stack.extend(reversed(pending))
                    continue
                stack.pop()
                if op not in self._erased:
                    order.append(op)
        self._ops = order
        self._erased.clear()

    # -- building ------------------------------------------------------------------------------

    def add_input(self, type: Tensor, name: str, batched: bool = False) -> Value:
        if any(v.name == name for v in self.inputs):
            raise TersorError(f"duplicate input name {name!r}")
        value = Value(type, None, name)
        self.inputs.append(value)
        if batched:
            self.batched.add(name)
        return value

    def add(self, op: Op) -> Value:
        """Append an op, and before it the unattached ops it depends on; returns its (first) result."""
        ops = self.ops
        new = unattached(op)
        self._attach(new)
        ops.extend(new)
        return op.outs[0]

    def insert_before(self, anchor: Op, op: Op) -> Value:
        """Insert an op, and the unattached ops it depends on, before `anchor`."""
        if anchor.graph is not self:
            raise TersorError(f"cannot insert before {anchor.name} [{anchor.loc}]: it is not in this graph")
        self._place(unattached(op), anchor)
        return op.outs[0]

    def set_outputs(self, values: Sequence[Value], names: Sequence[str] | None = None, structure: Any = None) -> None:
        """Name the results. Without a structure: one value alone, several as a tuple."""
        for v in self.outputs:
            drop_use(v, None)
        self.outputs = list(values)
        for v in self.outputs:
            add_use(v, None)
        self.output_names = list(names) if names is not None else (["output"] if len(values) == 1 else [f"output_{i}" for i in range(len(values))])
        if len(self.output_names) != len(self.outputs):
            raise TersorError(f"{len(self.outputs)} outputs need as many names, got {len(self.output_names)}")
        self.structure = structure if structure is not None else (0 if len(values) == 1 else tuple(range(len(values))))

    def _attach(self, new: list[Op]) -> None:
        """Make unattached ops part of the graph; the caller inserts them into the order."""
        for o in new:
            o.graph = self
            for v in o.operands:
                add_use(v, o)

    def _place(self, new: list[Op], anchor: Op) -> None:
        """Insert unattached ops before `anchor`."""
        if not self._erased.isdisjoint(new):
            self._settle()
        self._attach(new)
        if new:
            self._before.setdefault(anchor, []).extend(new)

    # -- rewriting -----------------------------------------------------------------------------

    def replace_uses(self, old: Value, new: Value) -> None:
        """Make every user of `old`, graph outputs included, read `new`."""
        for user in old.users:
            user.replace_operand(old, new)
        for i, v in enumerate(self.outputs):
            if v is old:
                self.outputs[i] = new
                drop_use(old, None)
                add_use(new, None)

    def replace(self, op: Op, new: Op | Value) -> None:
        """Replace `op` by `new`, insert the unattached ops that `new` depends on, and erase `op`.

        An op with several results needs a replacement with as many, which take their places in order.
        """
        values = new.outs if isinstance(new, Op) else [new]
        if len(values) != len(op.outs):
            raise TersorError(f"cannot replace {op.name} [{op.loc}] with {len(op.outs)} results by {len(values)}")
        value = values[0]
        if value.op is not None and value.op.graph is None:
            inserted = unattached(value.op)
            for o in inserted:
                if o.loc == Loc():
                    o.loc = op.loc
            self._place(inserted, op)
        for old, value in zip(op.outs, values):
            if not value.name and value.op is not None:
                value.name = old.name
            self.replace_uses(old, value)
        self.erase(op)

    def erase(self, op: Op) -> None:
        """Remove an op whose results have no uses."""
        if op.graph is not self:
            raise TersorError(f"cannot erase {op.name} [{op.loc}]: it is not in this graph")
        used = [v for v in op.outs if v.uses]
        if used:
            raise TersorError(f"cannot erase {op.name} [{op.loc}]: %{used[0].name} is still read")
        for v in op.operands:
            drop_use(v, op)
        self._erased.add(op)
        op.graph = None

    def remove_dead(self) -> int:
        """Erase ops whose results have no uses, until none is left; returns how many."""
        live = []
        before = len(self.ops)
        for op in reversed(self.ops):
            if any(v.uses for v in op.outs):
                live.append(op)
                continue
            for v in op.operands:
                drop_use(v, op)
            op.graph = None
        self.ops = live[::-1]
        return before - len(self.ops)

    # -- copies --------------------------------------------------------------------------------

    def clone(self) -> Graph:
        """A copy that shares only the (read-only) arrays."""
        return self._copy(lambda v: v.type)

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        """A clone: it shares the constants' arrays, which are read-only."""
        return self.clone()

    def at(self, batch: int) -> Graph:
        """A copy for another batch size: dimension 0 of every batched input becomes `batch`, every type is inferred anew."""
        if batch < 1:
            raise TersorError(f"batch must be at least 1, got {batch}")
        if not self.batched:
            sizes = {v.shape[0] for v in self.inputs if v.type.rank}
            if sizes == {batch}:
                return self.clone()
            raise TersorError(f"the graph was traced with a static batch of {sorted(sizes)}, so it cannot run at batch {batch}")
        return self._copy(lambda v: v.type.with_shape((batch, *v.shape[1:])) if v.name in self.batched else v.type)

    def _copy(self, input_type: Callable[[Value], Tensor]) -> Graph:
        new = Graph(self.name)
        to: dict[Value, Value] = {v: new.add_input(input_type(v), v.name, v.name in self.batched) for v in self.inputs}
        for op in self.ops:
            copy = remapped(op, to)
            copy.graph = new
            for v in copy.operands:
                add_use(v, copy)
            new.ops.append(copy)
            for a, b in zip(op.outs, copy.outs):
                b.name = a.name
                to[a] = b
        new.set_outputs([to[v] for v in self.outputs], self.output_names, self.structure)
        new.report = self.report
        return new

    # -- questions -----------------------------------------------------------------------------

    def macs(self) -> int:
        """Multiply-accumulates of one run at the current batch."""
        return sum(op.macs() for op in self.ops)

    def nbytes(self) -> int:
        """Bytes of all constants as stored."""
        return sum(op.out.type.nbytes for op in self.ops if isinstance(op, Const))

    def find(self, kind: type[Op] | str) -> list[Op]:
        """All ops of a class or of a name (`"nn.conv2d"`)."""
        return [op for op in self.ops if (op.name == kind if isinstance(kind, str) else isinstance(op, kind))]

    def verify(self) -> Graph:
        """Raise `VerifyError` at the first broken rule; returns the graph."""
        from .verify import verify

        verify(self)
        return self

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Reference evaluation: torch tensors (or numpy arrays) in, the model's output structure back, same kind."""
        from .evaluate import call

        return call(self, inputs, named)

    def save(self, path: str | Path, *, entropy: bool = False) -> None:
        """Write `model.tersor`: one safetensors file, the graph's text in its header. entropy: Huffman-code the weights that this makes smaller."""
        from .save import save

        save(self, path, entropy=entropy)

    def count_ops(self) -> int:
        """Ops without constants: what reports, the command line and benchmarks call the number of ops. `len(graph)` counts constants too."""
        return sum(not isinstance(op, Const) for op in self.ops)

    def to_onnx(self, path: str | Path) -> Any:
        """Write `model.onnx`: standard operators, names kept, a free batch as `batch`, integers as QDQ.

        Returns a printable report of the layers that onnxruntime runs on integers. Raises UnsupportedError that lists what has no ONNX form.
        """
        # the writer belongs to the frontend, which depends on onnx; the IR imports neither
        return importlib.import_module(f"{__package__.rpartition('.')[0]}.frontend.onnx").save_onnx(self, path)

    def to_networkx(self, times: Mapping[str, float] | None = None, constants: bool = False) -> Any:
        """A `networkx.MultiDiGraph`: inputs, ops and outputs as nodes with type, shape, MACs, bytes and time, values as edges (`ir.digraph`).

        times: ms by the name of an op's result, as `tersor.reports.times` returns them for a profile. constants: include them as nodes.
        """
        from .digraph import to_networkx

        return to_networkx(self, times, constants)

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    def __len__(self) -> int:
        return len(self.ops)

    def __str__(self) -> str:
        from .text import format_graph

        return format_graph(self)

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self.inputs)} inputs, {self.count_ops()} ops, {len(self.outputs)} outputs>"


def unattached(root: Op) -> list[Op]:
    """`root` and the ops it depends on that belong to no graph yet, in topological order, `root` last."""
    order: dict[Op, None] = {}
    stack = [(root, False)]
    while stack:
        op, done = stack.pop()
        if op.graph is not None or op in order:
            continue
        if done:
            order[op] = None
        else:
            stack.append((op, True))
            stack.extend((v.op, False) for v in reversed(op.operands) if v.op is not None)
    return list(order)


def remapped(op: Op, to: dict[Value, Value]) -> Op:
    """A copy of `op` that reads `to[v]` for each operand v; regions are cloned."""
    return type(op)(**remapped_fields(op, to), loc=op.loc)


def remapped_fields(op: Op, to: dict[Value, Value]) -> dict[str, Any]:
    """The fields of a copy of `op` that reads `to[v]` for each operand v, by name."""
    fields: dict[str, Any] = {}
    for f in op.fields:
        v = getattr(op, f.name)
        if f.kind == "list":
            v = [to[o] for o in v]
        elif f.kind != "attr":
            v = None if v is None else to[v]
        elif isinstance(v, Graph):
            v = v.clone()
        fields[f.name] = v
    return fields


def unique_names(names: Iterable[str]) -> list[str]:
    """Names made distinct by a suffix, in order."""
    seen: set[str] = set()
    result = []
    for name in names:
        candidate = name
        for i in itertools.count(1):
            if candidate not in seen:
                break
            candidate = f"{name}_{i}"
        seen.add(candidate)
        result.append(candidate)
    return result
