"""Lower a graph, build it for a target, run it on this machine and compare it with the interpreter in float64."""

from __future__ import annotations

import functools
import os
import tempfile

os.environ.setdefault("TVM_NUM_THREADS", "2")

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tvm

from tersor.backend.emit.module import Emitter
from tersor.backend.lowering.select_kernels import select_kernels
from tersor.backend.pipelines import CPU_STAGES, lower, resume
from tersor.backend.runtime.artifact import Step
from tersor.backend.runtime.native import runtime
from tersor.backend.target import Target, resolve
from tersor.ir.evaluate import evaluate, to_numpy, to_torch
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Op, Value
from tersor.ir.ops import Conv2d
from tersor.ir.save import load, save
from tersor.ir.types import Tensor

#: Vector widths of 16, 8 and 4 f32; the first is this machine's own where it has AVX-512.
ALL_TARGETS = ("cpu", "cpu:x86-64-v3", "cpu:x86-64-v2")
#: The same without x86-64-v3 on a machine where its code equals that of `cpu`.
DISTINCT_TARGETS = ALL_TARGETS if resolve("cpu").lanes == 16 else ALL_TARGETS[::2]
#: Two of them for every test; the third is slow.
TARGETS = [*DISTINCT_TARGETS[:2], *(pytest.param(target, marks=pytest.mark.slow) for target in DISTINCT_TARGETS[2:])]


def graph_of(build: Callable[..., Op | Value | Sequence[Op | Value]], *inputs: tuple[int, ...] | Tensor) -> Graph:
    """A graph of f32 inputs of these shapes (or of these types) and the ops that `build` makes of them."""
    graph = Graph()
    values = [graph.add_input(t if isinstance(t, Tensor) else Tensor(t), f"x{i}") for i, t in enumerate(inputs)]
    results = build(*values)
    outputs = [r.op if isinstance(r, Value) else r for r in ([results] if isinstance(results, (Op, Value)) else results)]
    graph.set_outputs([op.out if op.graph is graph else graph.add(op) for op in outputs if op is not None])
    return graph


def conv(x: Value, out: int, kernel: int = 1, stride: int = 1, groups: int = 1, seed: int = 0) -> Value:
    """A convolution with bias that keeps the size of the feature map, except for the stride."""
    rng, side = np.random.default_rng(seed), kernel // 2
    w = rng.standard_normal((out, x.shape[1] // groups, kernel, kernel)) / np.sqrt(x.shape[1] // groups * kernel**2)
    b = Const(rng.standard_normal(out).astype(np.float32))
    return Conv2d(x, Const(w.astype(np.float32)), b, stride=(stride, stride), padding=(side,) * 4, groups=groups).out


def arrays_for(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    """Random inputs: normal floats, small integers, random bools."""
    rng = np.random.default_rng(seed)
    return [
        (rng.standard_normal(v.shape) if v.type.is_float else rng.integers(0, 2 if v.type.elem == "bool" else 100, v.shape)).astype(v.type.dtype)
        for v in graph.inputs
    ]


def lowered(graph: Graph, target: str | Target = "cpu", threads: int = 1, legal: bool = True) -> Graph:
    """The graph after every stage up to plan-memory. `legal=False` leaves `legalize` out, so that a kernel sees the op as written."""
    facts, graph = resolve(target), graph.clone()
    for name, stage in (CPU_STAGES | {"select-kernels": select_kernels}).items():
        if name not in ("prepare", *(() if legal else ("legalize",))):
            graph = stage(graph, facts, threads)
    return graph


def resumes(graph: Graph, *stages: str, threads: int = 1) -> dict[str, Graph]:
    """Check that each of these stages, saved, read back and continued, ends in the same plan. Returns the graph after every stage."""
    seen: dict[str, Graph] = {}
    target = resolve("cpu")
    lower(graph, target, threads, lambda stage, after: seen.update({stage: after.clone()}), tuned=False)
    with tempfile.TemporaryDirectory() as folder:
        for stage in stages:
            save(seen[stage], Path(folder) / "stage.mlir", Path(folder) / "stage.safetensors")
            again = load(Path(folder) / "stage.mlir", Path(folder) / "stage.safetensors")
            assert str(again) == str(seen[stage])
            assert str(resume(again, stage, target, threads)) == str(seen["plan-memory"])
    return seen


@functools.cache
def _caller(threads: int) -> ThreadPoolExecutor:
    """A thread that calls kernels with its own `threads` workers: their number is fixed at its first call."""
    return ThreadPoolExecutor(1)


class Compiled:
    """A lowered graph, built and loaded."""

    def __init__(self, graph: Graph, target: str | Target = "cpu", threads: int = 1, legal: bool = True):
        self.graph = lowered(graph, target, threads, legal)
        self.threads = threads
        emitter = Emitter(resolve(target), threads)
        self.steps: list[Step]
        self.steps, arena = emitter.add(self.graph, "main")
        self.module = emitter.build()
        self.weights = tvm.runtime.tensor(emitter.weights.blob())
        # memory that a kernel must not read is nan
        self.arena = tvm.runtime.tensor(np.full(max(arena, 64), 0xFF, np.uint8))

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs. Runs in one parallel region and then phase by phase, which must give the same bits."""
        result = self.run(inputs, team=self.threads > 1)
        if self.threads > 1:
            for again, first in zip(self.run(inputs, team=False), result, strict=True):
                np.testing.assert_array_equal(again, first)
        return result

    def run(self, inputs: Sequence[np.ndarray], team: bool, arena: Any = None) -> list[np.ndarray]:
        """The outputs. team: run in one parallel region, by a thread with as many workers as needed."""
        arguments = [tvm.runtime.tensor(np.ascontiguousarray(a).reshape(-1)) for a in inputs]
        results = [tvm.runtime.tensor(np.zeros(max(v.type.size, 1), v.type.dtype)) for v in self.graph.outputs]
        main, memory = self.module["main"], (self.weights, self.arena if arena is None else arena)

        def call() -> None:
            pool = runtime().threads
            pool.expect(self.threads)
            there = pool.use(self.threads)
            assert there or not team
            main(*arguments, *results, *memory, 0, len(self.steps), int(team))

        _caller(self.threads).submit(call).result()
        return [r.numpy().reshape(v.shape) for r, v in zip(results, self.graph.outputs)]

    @property
    def templates(self) -> list[str]:
        """Template of each step."""
        return [s.template for s in self.steps]


def check(
    graph: Graph,
    *,
    inputs: Sequence[np.ndarray] | None = None,
    target: str = "cpu",
    threads: int = 1,
    tolerance: float = 1e-5,
    legal: bool = True,
) -> Compiled:
    """Every output within max|y - y64| / max|y64| <= tolerance of the interpreter; integers and bools equal. Returns what was built."""
    compiled = Compiled(graph, target, threads, legal)
    given = list(inputs) if inputs is not None else arrays_for(graph)
    for name, got, wanted in zip(graph.output_names, compiled(*given), reference(graph, given), strict=True):
        assert_close(got, wanted, tolerance, name)
    return compiled


def reference(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of the interpreter in float64."""
    return [to_numpy(y) for y in evaluate(graph, [to_torch(a) for a in inputs], dtype=torch.float64)]


def assert_close(got: np.ndarray, wanted: Any, tolerance: float, name: str = "output") -> None:
    """Error max|y - y64| / max|y64| within tolerance (0: equal after rounding); what is not a float must be equal."""
    assert got.shape == wanted.shape
    if got.dtype.kind != "f" or tolerance == 0:
        np.testing.assert_array_equal(got, wanted.astype(got.dtype))
        return
    assert np.isfinite(got).all(), f"{name} is not finite"
    scale = max(float(np.abs(wanted).max(initial=0)), 1e-30)
    error = float(np.abs(got - wanted).max(initial=0)) / scale
    assert error <= tolerance, f"{name}: error {error:.2e} exceeds {tolerance:.0e}"
