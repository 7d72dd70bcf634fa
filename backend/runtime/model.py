"""CompiledModel: native code that is called like the model it was compiled from. Importing this loads neither torch nor TVM's compiler."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import TersorError
from ...ir.evaluate import structured, to_numpy
from ...ir.signature import in_order
from ..target import Target, host_features
from . import artifact
from .artifact import Entry, Manifest, Port, batches_of
from .faults import raise_first
from .measure import Benchmark, Inputs, Profile, Report, benchmark, empty, profile
from .native import Arguments, Function, Library, address, aligned, runtime, versions

ALIGN = 64
_PAGE = 4096
#: Result arrays are allocated for this many calls at once, if they take at most `_SMALL` bytes together.
_AT_ONCE, _SMALL = 16, 1 << 16


class CompiledModel:
    """A compiled graph.

    Call it with numpy arrays or torch tensors, in order or by name; the results are of the same kind and in the model's structure.
    Concurrent calls from several threads are safe: each has its own arena. Results belong to the caller.
    """

    def __init__(
        self,
        manifest: Manifest,
        weights: np.ndarray,
        function: Callable[[str], Function],
        code: Callable[[], bytes | memoryview],
        export_c: Callable[..., None] | None = None,
    ):
        self.manifest = manifest
        self._weights = weights
        self._function = function
        self._code = code
        self._export_c = export_c
        self._first = manifest.entries[0]
        self._programs: dict[str, Program] = {}
        self._lock = threading.Lock()

    # -- running -------------------------------------------------------------------------------

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Run the model on inputs of the shapes and dtypes it was compiled for. Contiguous memory that is aligned to 64 bytes is not copied,
        nor is any contiguous memory of an input with `unaligned`."""
        # A large model evicts the interpreter from the caches, so each step here costs several times what a loop of small calls shows.
        values = self.bind(inputs, named) if named or len(inputs) != len(self._first.inputs) else inputs
        entry = self.entry_for(values)
        arrays = self.arrays(values, entry)
        results: Sequence[Any] = self.program(entry).run(arrays)
        if arrays is not values and any(a is not v for a, v in zip(arrays, values)):
            # an input was a tensor
            results = [sys.modules["torch"].from_numpy(y) for y in results]
        return structured(self.manifest.structure, results)

    def arrays(self, values: Sequence[Any], entry: Entry) -> Sequence[np.ndarray]:
        """Inputs of an entry as numpy arrays, checked; `values` themselves if they are such arrays."""
        for port, value in zip(entry.inputs, values):
            if type(value) is not np.ndarray or value.dtype != port.dtype or value.shape != port.shape:
                return [_array(self.manifest.name, p, v) for p, v in zip(entry.inputs, values)]
        return values

    def bind(self, inputs: Sequence[Any], named: dict[str, Any]) -> list[Any]:
        """Arguments in the order of the inputs."""
        shown = {p.name: _shown(p, self.entries[0]) for p in self._first.inputs}
        return in_order(self.manifest.name, shown, inputs, named)

    def entry_for(self, values: Sequence[Any]) -> Entry:
        """The host function for the batch of these inputs."""
        first = self._first
        if first.batch is None:
            return first
        for port, value in zip(first.inputs, values):
            shape = getattr(value, "shape", None)
            if port.name in first.batched and shape is not None and len(shape) == len(port.shape) and tuple(shape[1:]) == port.shape[1:]:
                for entry in self.entries:
                    if entry.batch == shape[0]:
                        return entry
                raise TersorError(
                    f"input {port.name!r} of {self.manifest.name} has batch {shape[0]}; compiled batches: {batches_of(self.entries)}. "
                    f"For others: compile(graph, batch=[{batches_of(self.entries)}, {shape[0]}])"
                )
        return first

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The host functions, one for each compiled batch."""
        return self.manifest.entries

    def entry(self, batch: int | None = None) -> Entry:
        """The host function of a batch size, or the first one."""
        for entry in self.entries:
            if batch is None or entry.batch == batch:
                return entry
        raise TersorError(f"{self.manifest.name} was not compiled for batch {batch}; compiled batches: {batches_of(self.entries)}")

    def program(self, entry: Entry) -> Program:
        """An entry ready to run in this process."""
        if (made := self._programs.get(entry.function)) is not None:
            return made
        with self._lock:
            if entry.function not in self._programs:
                require_host(self.manifest.target, self.manifest.name)
                runtime().threads.expect(self.manifest.threads)
                self._programs[entry.function] = Program(
                    self.manifest.name, entry, self._function(entry.function), self._weights, self.manifest.threads
                )
            return self._programs[entry.function]

    def native(self, name: str) -> Function:
        """A function of the compiled library."""
        require_host(self.manifest.target, self.manifest.name)
        return self._function(name)

    # -- questions -----------------------------------------------------------------------------

    @property
    def target(self) -> Target:
        return self.manifest.target

    @property
    def threads(self) -> int:
        return self.manifest.threads

    @property
    def inputs(self) -> dict[str, Port]:
        """Inputs by name, at the first compiled batch."""
        return {p.name: p for p in self.entries[0].inputs}

    @property
    def outputs(self) -> dict[str, Port]:
        """Outputs by name, at the first compiled batch."""
        return {p.name: p for p in self.entries[0].outputs}

    @property
    def report(self) -> Report:
        """Which operators run in which precision, the memory they need, and on which kernels layers with zeros run."""
        return Report(
            self.manifest.precision,
            self.manifest.macs,
            self._weights.nbytes,
            {e.batch: e.arena for e in self.entries},
            self.target.name,
            self.threads,
            {s.loc: s.note for s in self.entries[-1].steps if s.note},
            self.manifest.accuracy,
        )

    def benchmark(self, repeat: int = 50, warmup: int = 5, inputs: Inputs = None, batch: int | None = None) -> Benchmark:
        """Latency of whole calls; random inputs unless given."""
        return benchmark(self, repeat, warmup, inputs, batch)

    def profile(self, rounds: int = 20, inputs: Inputs = None, batch: int | None = None, cold: bool = False) -> Profile:
        """Time of each kernel within whole runs: its template and tiles, and its share of the processor's peak. cold: with emptied caches."""
        return profile(self, rounds, inputs, batch, cold)

    def save(self, path: str | Path) -> None:
        """Write a `.tso` file. For a model compiled in this process this needs a C compiler, to link."""
        artifact.write(path, self.manifest, self._code(), self._weights)

    def export_c(self, folder: str | Path, inputs: Sequence[Any] | None = None, expected: Sequence[Any] | None = None, name: str = "model") -> None:
        """Write a folder for a C project: a static library without TVM and malloc, header, weights, and an example that tests itself.

        inputs: of the self-test, random if not given. expected: its outputs, which are compared within 1e-4 of the largest value;
        without it the model runs here, and the self-test requires the same bits. name: the prefix of files and functions.

        Raises `TersorError` for more threads than one, more batches than one, a folder whose parent is missing, a model that was loaded from
        a file, one for another processor without `expected`, and where there is no C compiler for the target; `UnsupportedError` where a kernel
        needs the TVM runtime.
        """
        if self._export_c is None:
            raise TersorError(f"{self.manifest.name} was loaded from a file, which holds no object to link: compile the graph again, then export_c")
        self._export_c(self, self._weights, folder, inputs, expected, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as the bytes of the `.tso` file, with the requirements of `save`."""
        try:
            data = artifact.to_bytes(self.manifest, self._code(), self._weights)
        except TersorError as error:
            raise TersorError(f"{self.manifest.name} is pickled as what save() writes, and {error}") from None
        return load_bytes, (data,)

    def __repr__(self) -> str:
        batches = "" if self.entries[0].batch is None else f", batch {batches_of(self.entries)}"
        return f"<CompiledModel {self.manifest.name}: {self.target.name}, {self.threads} threads{batches}>"


def load_compiled(path: str | Path) -> CompiledModel:
    """Load a `.tso` file. Its weights are mapped, not read.

    Raises `TersorError` when the file is missing, truncated or of another format version, was compiled for a processor with features that this one
    lacks, or by other versions of TVM than are installed.
    """
    return _loaded(path, *artifact.read(path))


def load_bytes(data: bytes) -> CompiledModel:
    """Load the bytes of a `.tso` file; the weights are copied to aligned memory."""
    manifest, code, weights = artifact.parts("a pickled model", memoryview(data))
    own = aligned(weights.nbytes)
    own[:] = weights
    return _loaded("a pickled model", manifest, code, own)


def _loaded(path: str | Path, manifest: Manifest, code: memoryview, weights: np.ndarray) -> CompiledModel:
    if manifest.launches:
        from .device.compiled import DeviceModel

        return DeviceModel(manifest, weights, lambda: code)
    require_host(manifest.target, str(path))
    installed = versions()
    if any(manifest.versions[k] != installed[k] for k in ("tvm", "ffi")):
        made, here = (f"apache-tvm {v['tvm']} with apache-tvm-ffi {v['ffi']}" for v in (manifest.versions, installed))
        raise TersorError(f"{path} was compiled with {made}, but {here} is installed: install those, or compile the model again")
    library = Library(code)
    return CompiledModel(manifest, weights, library.__getitem__, lambda: code)


def require_host(target: Target, what: str) -> None:
    """Raise when this processor cannot run code for the target."""
    arch, machine = target.triple.partition("-")[0], os.uname().machine
    if arch != machine:
        raise TersorError(f"{what} was compiled for {target.name} ({arch}), this machine is {machine}: run it there, or compile with target='cpu'")
    present = host_features()
    missing = [f for f in target.features if f not in present]
    if present and missing:
        lacks = ", ".join(missing)
        raise TersorError(f"{what} was compiled for {target.name} and needs {lacks}, which this processor lacks: compile with target='cpu' here")


class Program:
    """A host function with its weights, and the arenas of its callers."""

    def __init__(self, name: str, entry: Entry, function: Function, weights: np.ndarray, threads: int):
        self._name = name
        self.entry = entry
        self._function = function
        self._weights = weights
        self._threads = threads
        self._pool = runtime().threads
        # pop and append of lists are atomic: no lock
        self._free: list[_Slot] = []
        self._results: list[_Results] = []

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """All steps on checked inputs; returns fresh arrays."""
        results, slot = self._fresh(), self._slot()
        try:
            slot.give(arrays, results.addresses)
            self._function(slot.arguments)
            if slot.records is not None:
                raise_first(self._name, self.entry, slot.records)
        finally:
            self._free.append(slot)
        return results.arrays

    @contextlib.contextmanager
    def session(self, arrays: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> Iterator[Callable[[int, int], None]]:
        """`run(first, last)` runs a range of steps on these inputs, outputs and an arena that no other caller uses meanwhile."""
        slot = self._slot()
        try:
            slot.give(arrays, [address(y) for y in outputs])
            yield functools.partial(self._run, slot)
            if slot.records is not None:
                raise_first(self._name, self.entry, slot.records)
        finally:
            slot.steps(0, len(self.entry.steps))
            self._free.append(slot)

    def _fresh(self) -> _Results:
        """Memory for the results of a call. Small ones are allocated for several calls at once, while the code for that is in the caches."""
        try:
            return self._results.pop()
        except IndexError:
            size = sum(p.nbytes for p in self.entry.outputs)
            made = [_Results(self.entry) for _ in range(max(1, min(_AT_ONCE, _SMALL // max(size, 1))))]
            self._results += made[1:]
            return made[0]

    def _slot(self) -> _Slot:
        try:
            slot = self._free.pop()
        except IndexError:
            slot = _Slot(self.entry, self._weights)
        slot.arguments.integer(2, self._pool.use(self._threads))
        return slot

    def _run(self, slot: _Slot, first: int, last: int) -> None:
        slot.steps(first, last)
        self._function(slot.arguments)


class _Results:
    """New arrays for the outputs of one call, and their addresses."""

    def __init__(self, entry: Entry):
        self.arrays = [empty(p) for p in entry.outputs]
        self.addresses = [address(a) for a in self.arrays]


class _Slot:
    """The memory of one call: an arena, the argument array, and aligned memory for inputs that are not aligned."""

    def __init__(self, entry: Entry, weights: np.ndarray):
        ports = (*entry.inputs, *entry.outputs)
        self.arena = aligned(max(entry.arena, ALIGN))
        blobs = ((weights.dtype, weights.size), (self.arena.dtype, self.arena.size))
        # the fault records of steps, if there are any
        records = self.arena[entry.arena - entry.records : entry.arena]
        self.records: memoryview | None = records.view(np.int64).data if entry.records else None
        self.arguments = Arguments([*((p.type.dtype, p.type.size) for p in ports), *blobs], 3)
        self.arguments.point(len(ports), weights.ctypes.data)
        self.arguments.point(len(ports) + 1, self.arena.ctypes.data)
        self.steps(0, len(entry.steps))
        self._inputs = entry.inputs
        self._staging: dict[int, np.ndarray] = {}

    def steps(self, first: int, last: int) -> None:
        """Set which steps a call runs: from `first` to before `last`."""
        self.arguments.integer(0, first)
        self.arguments.integer(1, last)

    def give(self, arrays: Sequence[np.ndarray], outputs: Sequence[int]) -> None:
        """Set the pointers to inputs and outputs."""
        pointers, i = self.arguments.pointers, 0
        for array in arrays:
            pointers[i].value = self.stage(i, array)
            i += 1
        for start in outputs:
            pointers[i].value = start
            i += 1

    def stage(self, index: int, array: np.ndarray) -> int:
        """Address of contiguous memory with the values of an input, aligned if its kernels load vectors."""
        start, port = address(array), self._inputs[index]
        if start and not start % (port.dtype.itemsize if port.unaligned else ALIGN):
            # A vector may be loaded beyond the end: that must not reach another page.
            end = start + port.nbytes
            if port.unaligned or (end + ALIGN - 1) // _PAGE == (end - 1) // _PAGE:
                return start
        if index not in self._staging:
            self._staging[index] = aligned(array.nbytes).view(array.dtype).reshape(array.shape)
        np.copyto(self._staging[index], array)
        return address(self._staging[index])


def _shown(port: Port, entry: Entry) -> str:
    dims = ["batch" if i == 0 and port.name in entry.batched else str(s) for i, s in enumerate(port.shape)]
    return f"{port.elem}[{', '.join(dims)}]"


def _array(model: str, port: Port, x: Any) -> np.ndarray:
    """An input as numpy, checked: an array itself, another object for a tensor."""
    torch = sys.modules.get("torch")
    tensor = torch is not None and isinstance(x, torch.Tensor)
    try:
        array = x.numpy() if tensor else x
    except (RuntimeError, TypeError):
        array = None  # with a gradient, negated, of a type that numpy lacks, or on another device
    if isinstance(array, np.ndarray) and array.dtype == port.dtype and array.shape == port.shape:
        return array
    what = f"input {port.name!r} of {model}"
    if torch is not None and tensor:
        if x.device.type != "cpu" or x.layout != torch.strided:
            raise TersorError(f"{what} must be a dense tensor on the CPU, got {x.layout} on {x.device}")
        if str(x.dtype) == f"torch.{port.dtype.name}" and x.shape == port.shape:
            return to_numpy(x.resolve_neg())
    elif not isinstance(x, np.ndarray):
        raise TersorError(f"{what} must be a torch tensor or a numpy array, got {type(x).__name__}")
    raise TersorError(f"{what} must be {port.elem}{list(port.shape)} ({port.dtype.name}), got {x.dtype}{list(x.shape)}")
