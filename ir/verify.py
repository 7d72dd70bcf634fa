"""The rules of the IR. `verify` runs after every pass, so it builds no ops, and reads each array only once."""

from __future__ import annotations

import math
import re
import weakref
from typing import Any

import numpy as np

from .attributes import attribute_problem, region_fields
from .errors import VerifyError
from .graph import Graph
from .op import OPS, Const, Op, Value
from .types import FLOATS, NUMPY, STORAGE, Layout, Tensor, Uniform, storage_elem, storage_range

#: Smallest and largest element of arrays that were read (nan if there is one), by identity; an entry is dropped with its array.
_LIMITS: dict[int, tuple[weakref.ref[np.ndarray], float, float]] = {}


def verify(graph: Graph, *, constants: bool = True) -> None:
    """Raise `VerifyError` at the first broken rule.

    Types are what each op infers; operands come earlier in the same graph; uses are counted right; attributes fit their annotations;
    quantized types are consistent; constants hold no NaN and stay in the range of their type; inputs and outputs have distinct names.
    constants=False reads no arrays, so that a mapped file stays unread.
    """
    _verify(graph, constants, "")


def _verify(graph: Graph, constants: bool, where: str) -> None:
    seen: dict[Value, dict[Op | None, int]] = {}
    valid: set[Tensor] = set()
    _check_inputs(graph, where)
    for v in graph.inputs:
        _check_type(v.type, f"input {v.name!r}{where}")
        seen[v] = {}
    for op in graph.ops:
        cls = type(op)
        if OPS.get(op.name) is not cls:
            raise VerifyError(f'{cls.__name__} is not a registered op: write `class {cls.__name__}(Op, name="dialect.name")` [{op.loc}]{where}')
        if op.graph is not graph:
            owner = "None" if op.graph is None else "another graph"
            raise VerifyError(f"{_label(op)}{where} is among the ops of the graph, but its .graph is {owner}")
        for v in op.operands:
            uses = seen.get(v)
            if uses is None:
                raise _undefined(v, op, graph, where)
            uses[op] = uses.get(op, 0) + 1
        if cls is not Const and (problem := attribute_problem(cls, op.__dict__)):
            raise op.fail(problem)
        inferred = op.infer_all()
        if len(inferred) != len(op.outs):
            raise op.fail(f"has {len(op.outs)} results, but infers {len(inferred)}")
        for v, t in zip(op.outs, inferred):
            if v.op is not op or v in seen:
                raise VerifyError(f"{_label(op)}{where} is in the graph twice, or shares a result with another op")
            if v.type != t:
                raise op.fail(f"its result is typed {v.type}, but it infers {t}")
            if t not in valid:
                _check_type(t, f"{_label(op)}{where}")
                valid.add(t)
            seen[v] = {}
        if cls is Const:
            _check_constant(op, constants)
        for f in region_fields(cls):
            if (region := getattr(op, f.name)) is not None:
                _check_region(op, region, constants, where)
    _check_outputs(graph, seen, where)
    for v, uses in seen.items():
        if uses != v.uses:
            counted, real = _count(v.uses), _count(uses)
            raise VerifyError(f"the uses of {_value(v)}{where} are counted as {counted}, but there are {real}; change operands through the graph")


# -- the interface of a graph ------------------------------------------------------------------


def _check_inputs(graph: Graph, where: str) -> None:
    names = [v.name for v in graph.inputs]
    if len(set(names)) != len(names):
        raise VerifyError(f"the names of the inputs must differ, got {', '.join(names)}{where}")
    if unknown := graph.batched - set(names):
        raise VerifyError(f"batched names {', '.join(sorted(unknown))}, which are no inputs; inputs: {', '.join(names)}{where}")
    for v in graph.inputs:
        if v.op is not None:
            raise VerifyError(f"input {v.name!r} is the result of {_label(v.op)}{where}")
        if v.name in graph.batched and not v.shape:
            raise VerifyError(f"input {v.name!r} is batched but has no dimensions{where}")


def _check_outputs(graph: Graph, seen: dict[Value, dict[Op | None, int]], where: str) -> None:
    if not graph.outputs:
        raise VerifyError(f"the graph has no outputs: call set_outputs{where}")
    if len(graph.output_names) != len(graph.outputs) or len(set(graph.output_names)) != len(graph.outputs):
        raise VerifyError(f"{len(graph.outputs)} outputs need as many distinct names, got {', '.join(graph.output_names)}{where}")
    for name, v in zip(graph.output_names, graph.outputs):
        if v not in seen:
            raise VerifyError(f"output {name!r} is {_value(v)}, which is no value of this graph{where}")
        seen[v][None] = seen[v].get(None, 0) + 1
    for i in _leaves(graph.structure):
        if i is not None and not (type(i) is int and 0 <= i < len(graph.outputs)):
            raise VerifyError(f"the structure of the outputs names {i!r}; valid: 0 to {len(graph.outputs) - 1}{where}")


def _leaves(structure: Any) -> list[Any]:
    if isinstance(structure, dict):
        structure = list(structure.values())
    return [leaf for s in structure for leaf in _leaves(s)] if isinstance(structure, list | tuple) else [structure]


def _undefined(v: Value, op: Op, graph: Graph, where: str) -> VerifyError:
    if v.op is not None and v.op.graph is graph:
        return VerifyError(f"{_label(op)}{where} reads {_value(v)} before it is defined")
    if where:
        return VerifyError(f"{_label(op)}{where} captures {_value(v)} from outside its region; pass it as an operand")
    return VerifyError(f"{_label(op)} reads {_value(v)}, which is no value of this graph")


def _check_region(op: Op, region: Graph, constants: bool, where: str) -> None:
    inner = f" in the region of {_label(op)}{where}"
    if [v.type for v in region.inputs] != [v.type for v in op.operands]:
        arguments, operands = (", ".join(str(v.type) for v in vs) or "none" for vs in (region.inputs, op.operands))
        raise op.fail(f"operands and block arguments must map one to one; operands: {operands}; arguments: {arguments}")
    for o in region.ops:
        if type(o) is Const:
            raise VerifyError(f"{_label(o)}{inner}: constants stay outside regions, pass it as an operand")
    _verify(region, constants, inner)


# -- types -------------------------------------------------------------------------------------


def _check_type(type: Tensor, where: str) -> None:
    elem = type.elem
    problem = None
    if any(d < 0 for d in type.shape):
        problem = "negative dimensions"
    elif isinstance(elem, str):
        if elem not in NUMPY:
            problem = f"the unknown element type {elem!r}; valid: {', '.join(NUMPY)}"
    elif elem.storage not in STORAGE:
        problem = f"the unknown storage type {elem.storage!r}; valid: {', '.join(STORAGE)}"
    else:
        second = elem.zero_points if isinstance(elem, Uniform) else elem.offsets
        channels = 1 if elem.axis is None else _axis_length(type, elem.axis)
        if channels is None:
            problem = f"quantization axis {elem.axis}, but rank {type.rank}"
        elif len(elem.scales) != channels or len(second) != channels:
            problem = f"{len(elem.scales)} scales and {len(second)} {'zero points' if isinstance(elem, Uniform) else 'offsets'}, but needs {channels}"
        elif not all(0 < s < math.inf for s in elem.scales):
            problem = f"the scale {next(s for s in elem.scales if not 0 < s < math.inf)}; scales are positive and finite"
        elif isinstance(elem, Uniform):
            problem = _uniform_problem(elem)
        elif not all(map(math.isfinite, elem.offsets)):
            problem = "an offset that is not finite"
    if problem is None and type.layout is not None:
        problem = _layout_problem(type, type.layout)
    if problem is not None:
        raise VerifyError(f"{where}: its type has {problem}")


def _axis_length(type: Tensor, axis: int) -> int | None:
    """Number of scales along a quantization axis; the blocked axis of a layout counts logical channels."""
    if not 0 <= axis < type.rank:
        return None
    return type.shape[axis] if type.layout is None else type.layout.channels


def _uniform_problem(elem: Uniform) -> str | None:
    lo, hi = elem.range
    smallest, largest = storage_range(elem.storage)
    if not smallest <= lo < hi <= largest:
        return f"the storage range {lo}:{hi}, which does not fit {elem.storage} ({smallest}:{largest})"
    if elem.expressed not in FLOATS:
        return f"the expressed type {elem.expressed!r}; valid: {', '.join(FLOATS)}"
    outside = [z for z in elem.zero_points if not lo <= z <= hi]
    return f"the zero point {outside[0]}, outside the storage range {lo}:{hi}" if outside else None


def _layout_problem(type: Tensor, layout: Layout) -> str | None:
    axes = re.findall(r"(\d*)([A-Za-z])", layout.name)
    blocks = [(int(n), d) for (n, _), d in zip(axes, type.shape) if n]
    if "".join([n + a for n, a in axes]) != layout.name or len(axes) != type.rank:
        return f"the layout {layout.name!r} of {len(axes)} axes, but rank {type.rank}"
    if any(n != d for n, d in blocks):
        return f"blocks of {[d for _, d in blocks]}, but the layout is {layout.name!r}"
    return "a negative halo or no channels" if min(layout.halo) < 0 or layout.channels < 1 else None


# -- constants ---------------------------------------------------------------------------------


def _check_constant(op: Op, read: bool) -> None:
    assert isinstance(op, Const)
    array, elem = op.array, op.out.type.elem
    if array.dtype != NUMPY[storage_elem(elem)]:
        raise op.fail(f"%{op.out.name} holds {array.dtype}, but its type {op.out.type} is stored as {storage_elem(elem)}")
    if not read or not array.size or (elem not in FLOATS and isinstance(elem, str)):
        return
    lo, hi = _limits(array)
    if isinstance(elem, str):
        # inf is a value (a mask of -inf before softmax); nan never is
        if math.isnan(lo) or math.isnan(hi):
            raise op.fail(f"the constant %{op.out.name} holds nan; weights must be numbers")
    else:
        smallest, largest = elem.range if isinstance(elem, Uniform) else storage_range(elem.storage)
        if lo < smallest or hi > largest:
            raise op.fail(f"the constant %{op.out.name} holds integers from {lo:g} to {hi:g}, outside {smallest}:{largest} of its type")


def _limits(array: np.ndarray) -> tuple[float, float]:
    known = _LIMITS.get(id(array))
    if known is not None and known[0]() is array:
        return known[1:]
    key = id(array)
    with np.errstate(invalid="ignore"):
        lo, hi = float(array.min()), float(array.max())
    _LIMITS[key] = (weakref.ref(array, lambda _: _LIMITS.pop(key, None)), lo, hi)
    return lo, hi


# -- words for messages ------------------------------------------------------------------------


def _label(op: Op) -> str:
    name = f" %{op.outs[0].name}" if op.outs and op.outs[0].name else ""
    return f"{op.name}{name} [{op.loc}]"


def _value(v: Value) -> str:
    return f"%{v.name or '?'}" + (f", the result of {_label(v.op)}" if v.op is not None else "")


def _count(uses: dict[Op | None, int]) -> str:
    return f"{sum(uses.values())} by {len(uses)} reader{'' if len(uses) == 1 else 's'}"
