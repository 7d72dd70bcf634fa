"""Build the candidates of several fusions as one native module: each is a host function of one step, over shared inputs, results and arena."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tvm import ir as tir_ir
from tvm import tirx as t
from tvm_ffi import structural_equal

from ...ir.graph import Graph
from ...ir.op import Const, Value
from ..codegen.builder import Builder, const
from ..codegen.calls import call, callee, symbol_of
from ..emit.module import Emitter
from ..kernels.cpu.window import tasks
from ..kernels.template import Params, Template
from ..lowering.fuse_chains import SEPARATE
from ..lowering.plan_memory import plan_memory
from ..runtime.native import Arguments, Function, aligned, function_object, runtime
from ..target import Target, cache_size
from ..tile.fusion import ALIGN
from ..tile.ops import Fused

FLUSH = "flush"
_CHAINS = 8


@dataclass(frozen=True)
class Separate:
    """The option not to chain: a kernel for each fusion."""

    name: str = SEPARATE


@dataclass
class Task:
    """A distinct fusion: how often the network has it, and the options to compute it, the cost model's choice first.

    parts: of a chain, its fusions with their choices; the option `Separate` runs them one after the other.
    """

    key: str
    op: Fused
    options: Sequence[tuple[Template | Separate, Params]]
    count: int = 1
    parts: tuple[Fused, ...] = ()

    @property
    def nbytes(self) -> int:
        """About the bytes of memory that its candidates need together."""
        constants = sum(v.type.nbytes for v in self.op.args if isinstance(v.op, Const))
        return 2 * constants * len(self.options) + sum(v.type.nbytes for v in (*self.op.args, self.op.out))


@dataclass
class Candidate:
    """A template and parameters for a task.

    run: its code. fetch: copies the result here, for a GPU. same: an earlier candidate with equal code. problem: why there is no code.
    """

    task: Task
    template: Template | Separate
    params: Params
    run: Callable[[], None] | None = None
    idle: Callable[[], None] | None = None
    fetch: Callable[[], None] | None = None
    same: Candidate | None = None
    problem: str = ""
    error: float = 0.0
    samples: list[float] = field(default_factory=list)
    functions: dict[Any, Any] = field(default_factory=dict)
    arena: int = 0

    @property
    def steps(self) -> int:
        """Kernels of one call."""
        return len(self.task.parts) if isinstance(self.template, Separate) else 1

    @property
    def kernel(self) -> Any:
        """The function of its (first) kernel, beside the host function that calls it."""
        return next(iter(self.functions.values()))

    def __str__(self) -> str:
        return f"{self.template.name} {' '.join(f'{k}={v}' for k, v in self.params.items())}".rstrip()


@dataclass
class Group:
    """Tasks built together. `inputs` and `outputs` by task; `flush(array)` reads an array on all threads and returns sums of it; `sweep(arrays)`
    empties the caches of everything but these arrays: with one thread they stay in its own cache, with several in the shared cache, since no
    thread owns a part of them."""

    candidates: list[Candidate]
    inputs: dict[str, list[np.ndarray]]
    outputs: dict[str, np.ndarray]
    flush: Callable[[np.ndarray], np.ndarray]
    sweep: Callable[[Sequence[np.ndarray]], None]
    arena: np.ndarray


@dataclass
class Built:
    """Code and operands of candidates, not loaded. modules: of TVM, by host function: `c0`, `c1`, … and `FLUSH`. arena: bytes."""

    candidates: list[Candidate]
    modules: dict[str, Any]
    weights: np.ndarray
    arena: int
    inputs: dict[str, list[np.ndarray]]
    outputs: dict[str, np.ndarray]
    target: Target
    threads: int


def built(group: Sequence[Task], target: Target, threads: int, seed: int) -> Built:
    """Native code of every candidate of the tasks. A template's failure is recorded in its candidate and does not stop the others."""
    candidates = [Candidate(task, *option) for task in group for option in task.options]
    emitter = Emitter(target, threads)
    arenas = [ALIGN]
    for i, candidate in enumerate(candidates):
        twins = [c for c in candidates[:i] if c.task is candidate.task and c.same is None and not c.problem]
        try:
            candidate.arena = _emit(emitter, candidate, f"c{i}", twins)
            arenas.append(candidate.arena)
        except Exception as error:
            candidate.problem = _said(error)
    modules = _compile(emitter, _flush_functions(target, threads), candidates)
    rng = np.random.default_rng(seed)
    inputs = {task.key: [_random(v, rng) for v in task.op.args if not isinstance(v.op, Const)] for task in group}
    outputs = {task.key: _empty(task.op.out) for task in group}
    return Built(candidates, modules, emitter.weights.blob(), max(arenas), inputs, outputs, target, threads)


def build(group: Sequence[Task], target: Target, threads: int, seed: int) -> Group:
    """`built` for this machine, loaded."""
    made = built(group, target, threads, seed)
    return loaded(made, lambda name: function_object(made.modules[name][name]), target, threads)


def loaded(made: Built, function: Callable[[str], Function], target: Target, threads: int) -> Group:
    """A group whose candidates run. function: a host function by name."""
    arena = aligned(made.arena)
    for i, candidate in enumerate(made.candidates):
        if not candidate.problem and candidate.same is None:
            key = candidate.task.key
            arrays = [*made.inputs[key], made.outputs[key], made.weights, arena]
            candidate.run, candidate.idle = _calls(function(f"c{i}"), arrays, candidate.steps, threads)
    flush = _flush(function(FLUSH), threads, target.lanes)
    # memory that was never written is mapped to one page of zeros, which would not empty a cache
    other = np.full((2 * cache_size(3) + threads * 4 * target.l2) // 4, 1.0, np.float32)
    spill = other[: threads * 2 * target.l2 // 4]

    def sweep(arrays: Sequence[np.ndarray]) -> None:
        flush(other)
        for array in arrays:
            flush(array)
        if threads > 1:
            flush(spill)

    return Group(made.candidates, made.inputs, made.outputs, flush, sweep, arena)


def region_graph(op: Fused, template: str, params: Params) -> Graph:
    """A graph of one fusion: its constants, the other operands as inputs."""
    graph = Graph("fusion")
    args = [graph.add(v.op.rebuilt()) if isinstance(v.op, Const) else graph.add_input(v.type, f"x{i}") for i, v in enumerate(op.args)]
    graph.set_outputs([graph.add(Fused(args, op.body, template, params, loc=op.loc))])
    return graph


def parts_graph(task: Task) -> Graph:
    """A graph of the separate fusions of a chain, with the operands of `region_graph` for the whole chain."""
    graph = Graph("parts")
    made = {v: graph.add(v.op.rebuilt()) if isinstance(v.op, Const) else graph.add_input(v.type, f"x{i}") for i, v in enumerate(task.op.args)}
    for op in task.parts:
        made[op.out] = graph.add(Fused([made[v] for v in op.args], op.body, op.template, op.params, loc=op.loc))
    graph.set_outputs([made[task.parts[-1].out]])
    return graph


def _emit(emitter: Emitter, candidate: Candidate, name: str, twins: list[Candidate]) -> int:
    """Add a candidate's host function and kernel; returns the bytes of its arena. Code equal to that of one of the `twins` is removed again."""
    mark = emitter.mark()
    try:
        task = candidate.task
        separate = isinstance(candidate.template, Separate)
        graph = parts_graph(task) if separate else region_graph(task.op, candidate.template.name, candidate.params)
        graph = plan_memory(graph, emitter.target, emitter.threads)
        _, arena = emitter.add(graph, name)
    except Exception:
        emitter.undo(mark)
        raise
    candidate.functions = emitter.functions_of(graph, name)
    candidate.same = next((twin for twin in twins if structural_equal(twin.kernel, candidate.kernel)), None)
    if candidate.same is not None:
        emitter.undo(mark)
    return arena


def _compile(emitter: Emitter, extra: dict[Any, Any], candidates: list[Candidate]) -> dict[str, Any]:
    """The module of each host function. If a kernel does not compile, each is built separately, so that it does not stop the others."""
    emitter.functions.update(extra)
    try:
        return dict.fromkeys(_visible(emitter.functions), emitter.build())
    except Exception:
        modules: dict[str, Any] = {}
        for functions in (extra, *(c.functions for c in candidates if c.functions and c.same is None)):
            alone = Emitter(emitter.target, emitter.threads, functions=dict(functions))
            try:
                modules |= dict.fromkeys(_visible(functions), alone.build())
            except Exception as error:
                for c in candidates:
                    if c.functions is functions:
                        c.problem = _said(error)
        return modules


def _visible(functions: dict[Any, Any]) -> list[str]:
    """Names of host functions."""
    return [var.name_hint for var, f in functions.items() if f.attrs and "global_symbol" in f.attrs]


def _said(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _calls(function: Function, arrays: Sequence[np.ndarray], steps: int, threads: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Two calls of a host function with `steps` steps on these arrays: one runs all steps, one none."""
    needed = runtime()
    needed.threads.expect(threads)
    team = needed.threads.use(threads)

    def call(steps: int) -> Callable[[], None]:
        arguments = Arguments([(a.dtype, a.size) for a in arrays], 3)
        for i, array in enumerate(arrays):
            arguments.point(i, array.ctypes.data)
        arguments.integer(1, steps)
        arguments.integer(2, team)
        # the default argument keeps the arrays alive as long as the call
        return lambda held=arrays: function(arguments)  # type: ignore[misc]

    return call(steps), call(0)


def _random(v: Value, rng: np.random.Generator) -> np.ndarray:
    """Normal floats; stored integers of the whole range, accumulators of 21 bits; zeros for other integers and bools, which may be indices."""
    array = _empty(v)
    if v.type.is_float:
        array[...] = rng.standard_normal(v.shape)
    elif v.type.elem in ("u8", "i8") or (v.type.elem == "i32" and v.type.layout is not None):
        limits = np.iinfo(v.type.dtype)
        array[...] = rng.integers(max(limits.min, -(2**20)), min(limits.max, 2**20), v.shape, endpoint=True)
    else:
        array.fill(0)
    return array


def _empty(v: Value) -> np.ndarray:
    return aligned(v.type.size * v.type.dtype.itemsize).view(v.type.dtype).reshape(v.shape)


# -- reading memory on all threads ---------------------------------------------------------------


def _flush_functions(target: Target, threads: int) -> dict[Any, Any]:
    """`flush(x, out, count)`: each thread reads its `count` rounds of x, so that afterwards its own caches hold nothing else."""
    lanes, b = target.lanes, Builder("flush_kernel")
    x = b.param("x", "float32", 1 << 30)
    out = b.param("out", "float32", threads * _CHAINS * lanes)
    count = t.Var("count", "int32")
    b.params.append(count)
    with b.loop("task", 0, threads, tasks(threads, threads)) as task:
        chains = [b.local(lanes) for _ in range(_CHAINS)]
        for acc in chains:
            b.store(acc, 0, const(0.0, lanes=lanes), lanes)
        with b.loop("i", 0, count) as i:
            at = b.let("at", (task * count + i) * (_CHAINS * lanes))
            for j, acc in enumerate(chains):
                b.store(acc, 0, b.load(acc, 0, lanes) + b.load(x, at + j * lanes, lanes), lanes)
        for j, acc in enumerate(chains):
            b.store(out, (task * _CHAINS + j) * lanes, b.load(acc, 0, lanes), lanes)
    kernel = tir_ir.GlobalVar(b.name)
    ports = [t.decl_buffer((t.Var("size", "int64"),), "float32", "x", data_alignment=ALIGN)]
    ports.append(t.decl_buffer((threads * _CHAINS * lanes,), "float32", "out", data_alignment=ALIGN))
    function = callee(b.function())
    main = (
        t.PrimFunc([*ports, count], call(symbol_of(function), [*(p.data for p in ports), count]))
        .with_attr("global_symbol", FLUSH)
        .with_attr("s_tir", True)
    )
    return {kernel: function, tir_ir.GlobalVar(FLUSH): main}


def _flush(function: Function, threads: int, lanes: int) -> Callable[[np.ndarray], np.ndarray]:
    out = aligned(4 * threads * _CHAINS * lanes).view(np.float32)

    def flush(array: np.ndarray) -> np.ndarray:
        size = array.nbytes // 4
        arguments = Arguments([(np.dtype(np.float32), size), (out.dtype, out.size)], 1)
        arguments.point(0, array.ctypes.data)
        arguments.point(1, out.ctypes.data)
        arguments.integer(0, size // (threads * _CHAINS * lanes))
        function(arguments)
        return out

    return flush
