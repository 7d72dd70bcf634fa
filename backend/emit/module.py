"""Emit a planned graph as one TVM module: a function per distinct kernel, and one host function that calls them with raw pointers.

    main_b<batch>(inputs…, outputs…, weights, arena, first, last, team)    runs the steps first <= i < last

team: run all steps in one parallel region with barriers (`codegen.threads`), which needs all threads; else launch each kernel.
The host function has no state: each concurrent caller passes its own arena. `profile` and `diff` run ranges of steps.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tvm import ir as tir_ir
from tvm import tirx as t

from ...ir.addresses import index_in_words
from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.types import Tensor, storage_elem
from ..codegen.builder import TIR_DTYPE, Builder
from ..codegen.calls import callee, symbol_of
from ..codegen.kernel_builder import KernelBuilder
from ..codegen.prefetch import NextWeights
from ..codegen.threads import Call, barrier, counters_size, launch_each, launch_once
from ..kernels.packed import Packed
from ..kernels.template import template_named, templates_for
from ..lowering.plan_memory import arena_size
from ..runtime.artifact import Step
from ..runtime.faults import RECORD, Check
from ..target import Target
from ..tile.fusion import ALIGN, Fusion, root
from ..tile.half import NBYTES
from ..tile.integer import byte_range
from ..tile.ops import Fused
from . import code
from .code import Code, Progress, code_for, jit
from .next_weights import next_weights
from .recall import recall

_BARRIER = "barrier"
#: At most so many bytes of an array tell it from others before all are compared.
SAMPLE = 4096
#: Bytes that a thread copies at a time.
PART = 32 << 20


class Constant:
    """An array for the weights blob, or one that is written there."""

    def __init__(self, array: np.ndarray | Packed):
        self.size, self.dtype = array.size, str(array.dtype)
        self.packed = array if isinstance(array, Packed) else None
        #: What its bytes depend on: themselves, or what they are made of and how.
        self.data = np.ascontiguousarray(array if self.packed is None else self.packed.source).reshape(-1).view(np.uint8)
        self.form = None if self.packed is None else self.packed.form

    @property
    def nbytes(self) -> int:
        return self.size * np.dtype(self.dtype).itemsize

    @property
    def sample(self) -> tuple[Hashable, int, bytes]:
        """Equal for equal bytes, and mostly different for others."""
        return self.form, len(self.data), self.data[:: len(self.data) // SAMPLE + 1].tobytes()

    def writers(self) -> Iterator[tuple[int, int, Callable[[np.ndarray], None]]]:
        """Parts that are written at a time: (first byte, bytes, what fills them)."""
        if self.packed is not None:
            write, dtype = self.packed.write, self.dtype
            yield 0, self.nbytes, lambda place: write(place.view(dtype))
            return
        for i in range(0, self.nbytes, PART):
            part = self.data[i : i + PART]
            yield i, len(part), functools.partial(np.copyto, src=part)


@dataclass
class Weights:
    """The blob of all constants, each once, 64-byte aligned."""

    size: int = 0
    _constants: dict[Hashable, list[tuple[int, Constant]]] = field(default_factory=dict)

    def add(self, array: np.ndarray | Packed | Constant) -> int:
        """Byte offset of the array in the blob."""
        constant = array if isinstance(array, Constant) else Constant(array)
        alike = self._constants.setdefault(constant.sample, [])
        for at, other in alike:
            if np.array_equal(other.data, constant.data):
                return at
        alike.append((self.size, constant))
        self.size += -(-(constant.nbytes + ALIGN) // ALIGN) * ALIGN
        return alike[-1][0]

    def blob(self) -> np.ndarray:
        """All bytes, with an extra cache line after each array, so that prefetches and loads that straddle its end stay inside.

        Arrays are written on all cores and released one by one, so that weights are never held twice.
        """
        result = np.zeros(self.size + 2 * ALIGN, np.uint8)
        start = -result.ctypes.data % ALIGN
        result = result[start : start + self.size + ALIGN]

        def write_next(_: int) -> None:
            at, size, write = parts.pop()
            write(result[at : at + size])

        parts = [(at + i, size, write) for alike in self._constants.values() for at, constant in alike for i, size, write in constant.writers()]
        # the longest first, so that no core waits for it at the end
        parts.sort(key=lambda part: part[1])
        self._constants.clear()
        with ThreadPoolExecutor(os.cpu_count(), "tersor-blob") as pool:
            list(pool.map(write_next, range(len(parts))))
        return result


@dataclass
class Emitter:
    """Kernels and host functions of one artifact; several batches share weights and equal kernels.

    remember: whether kernels that this process has emitted before are referred to, and emitted again only if the kernel cache has lost their code.
    """

    target: Target
    threads: int
    remember: bool = False
    weights: Weights = field(default_factory=Weights)
    functions: dict[Any, Any] = field(default_factory=dict)
    _kernels: dict[str, Any] = field(default_factory=dict)
    _phases: dict[Any, int | None] = field(default_factory=dict)
    _large: bool = False

    def add(self, graph: Graph, name: str) -> tuple[list[Step], int]:
        """Emit a planned graph as the host function `name`; returns its steps and the bytes of its arena."""
        ports = [t.decl_buffer((max(v.type.size, 1),), storage_dtype(v.type), _safe(n), data_alignment=ALIGN) for v, n in _ports(graph)]
        arena = arena_size(graph, self.target, self.threads)
        records = arena + counters_size(self.threads)
        weights_port = t.decl_buffer((t.Var("weights_size", "int64"),), "uint8", "weights", data_alignment=ALIGN)
        arena_port = t.decl_buffer((t.Var("arena_size", "int64"),), "uint8", "arena", data_alignment=ALIGN)
        first, last, team = (t.Var(n, "int32") for n in ("first", "last", "team"))
        where: dict[Value, Any] = {v: buffer.data for (v, _), buffer in zip(_ports(graph), ports)}
        for v in graph.outputs:
            where[root(v)] = where[v]
        fetched = next_weights(graph, self.target)
        fetching: dict[Fused, list[Any]] = {}
        steps: list[Step] = []
        calls: list[Call] = []
        packing = self._packing(graph)
        self._large = len(packing) > code.FEW
        for op in graph.ops:
            if not isinstance(op, Fused):
                continue
            if op.alias:
                where[op.out] = _at(arena_port, op.offset)
                continue
            constants = packing[op].result()
            function = self._kernel(op, fetched.get(op), constants)
            packed = {v: self.weights.add(c) for v, c in constants.items()}
            pointers = [self._pointer(v, inner, packed, where, weights_port, arena_port) for v, inner in zip(op.args, op.body.inputs)]
            result = root(op.out)
            pointers.append(where[result] if op.offset < 0 else _at(arena_port, op.offset))
            if op.scratch >= 0:
                pointers.append(_at(arena_port, op.scratch))
            check = _check(op, graph)
            if check is not None:
                pointers.append(_at(arena_port, records))
                records += RECORD
            if op in fetched:
                fetching[fetched[op]] = pointers
            if op in fetching:
                fetching[op].append(_at(weights_port, packed[self._streamed(op)[0]]))
            if op.offset >= 0:
                where[op.out] = pointers[len(op.args)]
            calls.append(Call(symbol_of(self.functions[function]), pointers, self._phases[function]))
            steps.append(step_of(op, function.name_hint, graph, self.target))
        inside = [t.all(first <= i, t.IntImm("int32", i) < last) for i in range(len(calls))]
        body = launch_each(calls, inside, self.threads)
        if self.threads > 1 and calls and all(call.phases is not None for call in calls):
            waiting = self._add(_BARRIER, callee(barrier(self.target, self.threads)))
            once = launch_once(calls, inside, self.threads, symbol_of(self.functions[waiting]), arena_port, arena)
            body = t.IfThenElse(team != 0, once, body)
        main = t.PrimFunc([*ports, weights_port, arena_port, first, last, team], body)
        self.functions[tir_ir.GlobalVar(name)] = main.with_attr("global_symbol", name).with_attr("s_tir", True)
        return steps, records

    def _pointer(self, v: Value, inner: Value, packed: dict[Value, int], where: dict[Value, Any], weights: Any, arena: Any) -> Any:
        if inner in packed:
            return _at(weights, packed[inner])
        source = root(v)
        if isinstance(source.op, Const):
            return _at(weights, self.weights.add(source.op.array))
        return where[source]

    def _packing(self, graph: Graph) -> dict[Fused, Future[dict[Value, Constant]]]:
        """The packed constants of each fusion: arrays are packed on all cores while kernels are emitted on one."""

        def pack(op: Fused) -> dict[Value, Constant]:
            fusion = Fusion(op)
            packed = template_named(op.template, fusion.anchor).pack(fusion, self.target, op.params)
            return {v: Constant(array) for v, array in packed.items()}

        # the threads end after the last array
        pool = ThreadPoolExecutor(os.cpu_count(), "tersor-pack")
        ops = [op for op in graph.ops if isinstance(op, Fused) and not op.alias]
        # the largest first, so that no core waits for it at the end
        ops.sort(key=lambda op: -sum(v.type.nbytes for v in op.args if isinstance(v.op, Const)))
        result = {op: pool.submit(pack, op) for op in ops}
        pool.shutdown(wait=False)
        return result

    def _kernel(self, op: Fused, dense: Fused | None, packed: Mapping[Value, Constant]) -> Any:
        """The function of a fusion (shared by fusions with the same code). dense: the fusion whose weights it prefetches; packed: its constants."""
        fusion = Fusion(op)
        template = template_named(op.template, fusion.anchor)
        key = _key(op, dense)
        if key not in self._kernels:
            name = f"{_safe(fusion.anchor.name)}_{len(self._kernels)}"
            arrays = {v: (c.size, c.dtype) for v, c in packed.items()}

            def emit() -> tuple[Any, int | None]:
                b = self._emitted(name, op, dense, arrays)
                return callee(b.function()), b.phases

            classes = tuple(type(o) for f in (op, dense) if f is not None for o in f.body.ops)
            known = (key, tuple(arrays.values()), self.target, self.threads, template, classes)
            function, phases = recall(known, emit) if self.remember and self._large else emit()
            self._kernels[key] = self._add(name, function)
            self._phases[self._kernels[key]] = phases
        return self._kernels[key]

    def _emitted(self, name: str, op: Fused, dense: Fused | None, arrays: Mapping[Value, tuple[int, str]]) -> Builder:
        """The statements of a kernel. arrays: elements and dtype of the packed constants."""
        fusion = Fusion(op)
        template = template_named(op.template, fusion.anchor)
        b = Builder(name, team=self.threads)
        args = {}
        for i, v in enumerate(op.body.inputs):
            size, dtype = arrays.get(v) or (fusion.size(v), storage_dtype(v.type))
            args[v] = b.param(f"a{i}", dtype, size)
        out = b.param("out", storage_dtype(op.out.type), fusion.size(fusion.result))
        scratch_bytes = template.scratch(fusion, self.target, op.params, self.threads)
        dtype = template.scratch_dtype(fusion)
        scratch = b.param("scratch", dtype, scratch_bytes // np.dtype(dtype).itemsize) if scratch_bytes else None
        k = KernelBuilder(b, fusion, op.params, self.target, self.threads, args, out, scratch)
        if fusion.addresses:
            k.faults = b.param("faults", "int64", RECORD // 8)
        if dense is not None:
            elements = self._streamed(dense)[1]
            k.next_weights = NextWeights(b, b.param("next_weights", "float32", elements), elements, op.macs())
        template.emit(k)
        return b

    def _add(self, name: str, function: Any) -> Any:
        """The variable of a callee: a new one, or that of an equal function."""
        for var, other in self.functions.items():
            if symbol_of(other) == symbol_of(function):
                return var
        var = tir_ir.GlobalVar(name)
        self.functions[var] = function
        return var

    def _streamed(self, op: Fused) -> tuple[Value, int]:
        """The weights of a kernel that an earlier one prefetches, and how many elements they have."""
        fusion = Fusion(op)
        weights = template_named(op.template, fusion.anchor).streamed_weights(fusion, self.target)
        assert weights is not None
        return weights

    def functions_of(self, graph: Graph, name: str) -> dict[Any, Any]:
        """The kernels of an emitted graph, in the order of its fusions, and then its host function `name`."""
        fetched = next_weights(graph, self.target)
        used = [self._kernels[_key(op, fetched.get(op))] for op in graph.ops if isinstance(op, Fused) and not op.alias]
        main = [var for var in self.functions if var.name_hint in (name, _BARRIER)]
        return {var: self.functions[var] for var in (*used, *main)}

    def mark(self) -> tuple[dict[Any, Any], dict[str, Any]]:
        """The functions so far, for `undo`."""
        return dict(self.functions), dict(self._kernels)

    def undo(self, mark: tuple[dict[Any, Any], dict[str, Any]]) -> None:
        """Forget the functions added since a mark."""
        self.functions, self._kernels = mark

    def build(self) -> Any:
        """The TVM module, compiled for the target in memory."""
        return jit(self.functions, self.target, self.threads)

    def code(self, progress: Progress | None = None) -> Code:
        """Machine code for the target, with the help of the kernel cache. progress: called with the number of functions done, and the total."""
        return code_for(self.functions, self.target, self.threads, progress)


def _key(op: Fused, dense: Fused | None) -> str:
    """A key that is equal for the same code, its prefetches included."""
    return kernel_key(op) if dense is None else f"{kernel_key(op)}|{kernel_key(dense)}"


def _at(buffer: Any, offset: int) -> Any:
    return t.handle_add_byte_offset(buffer.data, offset) if offset else buffer.data


def storage_dtype(type: Tensor) -> str:
    return TIR_DTYPE[storage_elem(type.elem)]


def _ports(graph: Graph) -> list[tuple[Value, str]]:
    outputs = [(v, f"out_{n}") for v, n in zip(graph.outputs, graph.output_names)]
    return [*((v, f"in_{v.name}") for v in graph.inputs), *outputs]


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def _check(op: Fused, graph: Graph) -> Check | None:
    """The index that a fusion's kernel checks while it runs, if any."""
    fusion = Fusion(op)
    for v, size in fusion.addresses:
        return Check(index_in_words(op.args[op.body.inputs.index(v)], graph.inputs), size)
    return None


def step_of(op: Fused, kernel: str, graph: Graph, target: Target) -> Step:
    """The description of a step that `profile` reports."""
    check = _check(op, graph)
    anchor = op.body.ops[0]
    moved = sum(v.type.nbytes // (v.type.dtype.itemsize // NBYTES[op.half_elem] if i in op.half else 1) for i, v in enumerate(op.args)) + op.nbytes
    offers = ((fusion, template) for fusion in Fusion(op).segments for template in templates_for(fusion.anchor) if target.kind in template.kinds)
    notes = (template.note(fusion, target, op.template) for fusion, template in offers)
    note = "; ".join(n for n in notes if n)
    names = "+".join(o.name.split(".")[-1] for o in op.body.ops)
    return Step(names, kernel, op.template, dict(op.params), op.macs(), moved, op.out.shape, str(anchor.loc), op.chosen, check, note)


def kernel_key(op: Fused) -> str:
    """Equal for fusions that become the same code: structure, types, attributes, template and parameters, and of the constants' values
    no more than `byte_range`."""
    number: dict[Value, int] = {}

    def describe(v: Value) -> str:
        number.setdefault(v, len(number))
        return f"{number[v]}:{v.type}"

    parts = [
        op.template,
        repr(sorted(op.params.items())),
        str(op.scratch >= 0),
        f"{op.partitions}:{op.stride}:{op.lane_offset}:{op.half}:{op.half_elem}",
    ]
    parts.extend(f"{v.op.partitions}:{v.op.stride}" if isinstance(v.op, Fused) else "" for v in op.args)
    parts.extend(describe(v) for v in op.body.inputs)
    for o in op.body.ops:
        parts.append(f"{o.name}{_attrs(o)}({','.join(describe(v) for v in o.operands)})->{describe(o.out)}")
        parts.append(",".join(f.name for f in o.operand_fields if getattr(o, f.name) is not None))
    parts.append(",".join(describe(v) for v in op.body.outputs))
    fusion = Fusion(op)
    parts.extend(f"checked {describe(v)}" for v, _ in fusion.addresses)
    parts.append(str([byte_range(o, fusion.array) for o in op.body.ops]))
    return "|".join(parts)


def _attrs(op: Op) -> str:
    return repr(sorted((k, v) for k, v in op.attrs.items()))
