"""Machine code of an emitted model: one object file per function, compiled on all cores, kept in the kernel cache, then linked.

Equal kernels have equal objects, so a second compile of a network, or one for another batch, finds most of them in the cache. A small model
is compiled in memory instead (`Jitted`), which is faster than starting a linker.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol

import tvm

from ...ir.errors import TersorError
from ..codegen.calls import CALLEE, code_hash, symbol_of
from ..codegen.link import link, linker
from ..runtime.native import Function, Library, function_object, versions
from ..target import Target
from .kernel_cache import KernelCache
from .recall import function_of

#: Most functions of a model that is compiled in memory.
FEW = 12
#: Version of how objects are made from functions; raise it when that changes.
_FORMAT = 1

#: TVM passes switched off, because CPU kernels contain nothing they lower: blocks, threads of GPUs, their memories and matrix units, small floats,
#: wide indices, buffers of several dimensions, and conditions and splits of loops. Each would walk through all code; CompactBufferAllocation takes
#: time quadratic in a kernel's stack arrays. One of the two simplifiers is enough, and LLVM removes dead and repeated code.
DISABLED_TVM_PASSES = [
    *(f"s_tir.{name}" for name in (
        "LowerInitBlock", "PlanAndUpdateBufferAllocationLocation", "CompactBufferAllocation", "ConvertBlocksToOpaque", "LowerMatchBuffer",
        "LowerCrossThreadReduction", "LiftThreadBinding", "UnifyThreadBinding", "InjectVirtualThread", "ThreadSync", "LowerThreadAllreduce",
        "ManifestSharedMemoryLocalStage", "MergeSharedMemoryAllocations", "LowerAutoCopy", "InjectSoftwarePipeline", "InjectDoubleBuffer",
        "InjectPermutedLayout", "TransformMmaBufferLayout", "InferFragment", "VerifyVTCMLimit", "LowerVtcmAlloc", "AnnotateIrregularLoop",
        "LoopPartition", "HoistIfThenElse", "RenormalizeSplitPattern", "StmtSimplify",
    )),
    *(f"tirx.{kind}{step}Legalize" for kind in ("BF16", "FP8") for step in ("Compute", "Storage")),
    "tirx.NarrowDataType", "tirx.VerifyMemory", "tirx.AnnotateEntryFunc", "tirx.FlattenBuffer", "tirx.RemoveNoOp", "tirx.CommonSubexprElim",
]  # fmt: skip

#: Called with the number of functions compiled, and the total.
Progress = Callable[[int, int], None]


class Code(Protocol):
    """Machine code of a model."""

    def function(self, name: str) -> Function:
        """A host function, loaded into this process."""

    def shared_library(self) -> bytes:
        """A shared library. Symbols of the TVM runtime stay undefined until it is loaded."""

    def write_object(self, path: Path) -> None:
        """One object file with everything."""


class Jitted:
    """Code in memory. module: of TVM."""

    def __init__(self, module: Any, target: Target):
        self._module = module
        self._target = target

    def function(self, name: str) -> Function:
        return function_object(self._module[name])

    def shared_library(self) -> bytes:
        with tempfile.TemporaryDirectory(prefix="tersor-") as folder:
            source = Path(folder) / "model.o"
            self.write_object(source)
            return link([source], self._target)

    def write_object(self, path: Path) -> None:
        self._module.write_to_file(str(path), "o")


class Linked:
    """Code as objects, one for each function; linked and loaded on demand."""

    def __init__(self, objects: Sequence[bytes], target: Target):
        self._objects = objects
        self._target = target

    def function(self, name: str) -> Function:
        return self._loaded[name]

    def shared_library(self) -> bytes:
        return self._library

    def write_object(self, path: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="tersor-") as folder:
            command = [linker(self._target), "-r", "-nostdlib", "-o", str(path), *map(str, self._written(Path(folder)))]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise TersorError(f"{command[0]} failed to join the kernels: {' '.join(done.stderr.split())}")

    @functools.cached_property
    def _library(self) -> bytes:
        with tempfile.TemporaryDirectory(prefix="tersor-") as folder:
            return link(self._written(Path(folder)), self._target)

    @functools.cached_property
    def _loaded(self) -> Library:
        return Library(self._library)

    def _written(self, folder: Path) -> list[Path]:
        paths = [folder / f"{i}.o" for i in range(len(self._objects))]
        for path, code in zip(paths, self._objects):
            path.write_bytes(code)
        return paths


def code_for(functions: Mapping[Any, Any], target: Target, threads: int, progress: Progress | None = None) -> Code:
    """Code for host functions and callees (`codegen.calls`), by their variables."""
    if len(functions) <= FEW or not _links(target):
        return Jitted(jit(functions, target, threads), target)
    return Linked(objects(functions, target, threads, KernelCache.default(), progress), target)


def jit(functions: Mapping[Any, Any], target: Target, threads: int) -> Any:
    """One TVM module of all functions."""
    return _compiled(tvm.IRModule({var: function_of(f) for var, f in functions.items()}), target.tvm(threads))


def objects(functions: Mapping[Any, Any], target: Target, threads: int, cache: KernelCache, progress: Progress | None = None) -> list[bytes]:
    """An object file for each function, in order. Functions that are not in the cache are compiled on all cores.

    An exception (or Ctrl-C) is raised after the functions that are being compiled are done.
    """
    made = target.tvm(threads)
    basis = repr((_FORMAT, str(made), sorted(versions().items()), DISABLED_TVM_PASSES))
    keys = [hashlib.sha256(f"{basis} {_identity(f)}".encode()).hexdigest() for f in functions.values()]
    found: dict[int, bytes] = {}
    missing: list[tuple[int, Any, Any]] = []
    for i, (key, (var, function)) in enumerate(zip(keys, functions.items())):
        if (code := cache.get(key)) is not None:
            found[i] = code
        else:
            missing.append((i, var, function_of(function)))
    if progress is not None:
        progress(len(found), len(functions))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pending = {pool.submit(_object, var, function, made): i for i, var, function in missing}
        try:
            for done in as_completed(pending):
                i = pending[done]
                found[i] = done.result()
                cache.put(keys[i], found[i])
                if progress is not None:
                    progress(len(found), len(functions))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if missing:
        cache.trim()
    return [found[i] for i in range(len(functions))]


def _identity(function: Any) -> str:
    """A key that identifies a function: for a callee its symbol, a hash of its code."""
    symbol = symbol_of(function)
    return symbol if symbol.startswith(CALLEE) else f"{symbol} {code_hash(function)}"


def _object(var: Any, function: Any, target: Any) -> bytes:
    with tempfile.TemporaryDirectory(prefix="tersor-") as folder:
        path = Path(folder) / "function.o"
        _compiled(tvm.IRModule({var: function}), target).write_to_file(str(path), "o")
        return path.read_bytes()


def _compiled(module: Any, target: Any) -> Any:
    with tvm.transform.PassContext(opt_level=3, disabled_pass=DISABLED_TVM_PASSES):
        return tvm.compile(module, target=target).mod


def _links(target: Target) -> bool:
    try:
        linker(target)
    except TersorError:
        return False
    return True
