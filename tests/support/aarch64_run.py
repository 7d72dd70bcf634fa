"""Run compiled models for 64-bit ARM on this machine: linked with harness.c by a cross compiler, emulated by qemu."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tersor.backend.emit.module import Emitter
from tersor.backend.pipelines import lower
from tersor.backend.runtime.artifact import Step
from tersor.backend.runtime.native import _CODES
from tersor.backend.target import resolve
from tersor.ir.graph import Graph

TARGET = "arm64:cortex-a72"
GCC, QEMU = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64")
needs_gcc = pytest.mark.skipif(GCC is None, reason="aarch64-linux-gnu-gcc is missing: apt-get install gcc-aarch64-linux-gnu")
needs_qemu = pytest.mark.skipif(QEMU is None, reason="qemu-aarch64 is missing: apt-get install qemu-user")


def emulated(folder: Path, graph: Graph, inputs: Sequence[np.ndarray], threads: int = 1, name: str = TARGET) -> tuple[list[np.ndarray], list[Step]]:
    """The outputs of a graph, lowered for aarch64 and run under qemu, and its steps."""
    target = resolve(name)
    emitter = Emitter(target, threads)
    steps, arena = emitter.add(lower(graph, target, threads), "entry")
    emitter.build().write_to_file(str(folder / "model.o"), "o")
    include = Path(importlib.util.find_spec("tvm_ffi").submodule_search_locations[0]) / "include"  # type: ignore[union-attr,index]
    harness = Path(__file__).parents[1] / "backend/harness.c"
    flags = ["-static", "-O1", "-Wall", "-Werror", f"-I{include}", "-DENTRY=__tvm_ffi_entry", f"-DTHREADS={threads}"]
    _run([str(GCC), *flags, str(harness), "model.o", "-o", "harness", "-lm", "-lpthread"], folder)
    weights = emitter.weights.blob()
    outputs = [np.zeros(v.shape, v.type.dtype) for v in graph.outputs]
    tensors = [*((x, "r") for x in inputs), *((y, "w") for y in outputs), (weights, "r")]
    for i, (array, mode) in enumerate(tensors):
        if mode == "r":
            array.tofile(folder / f"{i}.bin")
    specs = [_spec(array.dtype, array.size, mode) for array, mode in tensors] + [_spec(weights.dtype, arena, "z")]
    _run([str(QEMU), "-cpu", "max", "./harness", str(len(steps)), *specs], folder)
    files = [folder / f"{len(inputs) + i}.bin" for i in range(len(outputs))]
    return [np.fromfile(f, y.dtype)[: y.size].reshape(y.shape) for f, y in zip(files, outputs)], steps


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def _spec(dtype: np.dtype, count: int, mode: str) -> str:
    return f"{_CODES[dtype.kind]}.{dtype.itemsize * 8}.{max(count, 1)}.{mode}"
