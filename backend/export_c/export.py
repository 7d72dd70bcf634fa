"""export_c: write a compiled model as a folder for a C project, without Python, TVM and malloc.

NAME.h, libNAME.a    the function NAME_run(weights, inputs…, outputs…, arena), with sizes and shapes as macros
NAME.bin             weights, to be read or mapped
main.c, Makefile     an example that runs the model on NAME_test.bin, compares the outputs, and times it
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import TersorError, UnsupportedError
from ..codegen.link import linker
from ..emit.code import Code
from ..runtime.artifact import Entry, Port, batches_of
from ..runtime.measure import random_inputs
from ..runtime.model import CompiledModel, require_host
from .example import Recording, main_text, makefile_text
from .interface import C_TYPES, Interface, check_name
from .static_library import write_library


def export_c(
    code: Code,
    model: CompiledModel,
    weights: np.ndarray,
    folder: str | Path,
    inputs: Sequence[Any] | None = None,
    expected: Sequence[Any] | None = None,
    name: str = "model",
) -> None:
    """Write the folder, which is created if its parent exists. code: of the model; other arguments as in `CompiledModel.export_c`."""
    check_name(name)
    folder = Path(folder)
    _check(model, folder)
    interface = Interface(name, model.manifest, weights.nbytes)
    recording = _record(model, inputs, expected)
    with tempfile.TemporaryDirectory(prefix="tersor-") as made:
        part = Path(made)
        (part / f"{name}.h").write_text(interface.header())
        undefined = write_library(code, interface, part)
        (part / f"{name}.bin").write_bytes(weights.data)
        (part / f"{name}_test.bin").write_bytes(recording.data())
        (part / "main.c").write_text(main_text(interface, recording))
        compiler = Path(linker(model.target)).name
        (part / "Makefile").write_text(makefile_text(interface, compiler, undefined))
        try:
            folder.mkdir(exist_ok=True)
            for file in part.iterdir():
                shutil.copyfile(file, folder / file.name)
        except OSError as error:
            raise TersorError(f"cannot write to {folder}: {error.strerror or error}") from None


def _check(model: CompiledModel, folder: Path) -> None:
    if model.threads != 1:
        raise TersorError(f"a C export runs on one thread, and {model.manifest.name} was compiled for {model.threads}: compile(graph, threads=1)")
    if len(model.entries) != 1:
        some = batches_of(model.entries)
        raise TersorError(f"a C export holds one batch size, and {model.manifest.name} was compiled for {some}: compile(graph, batch=1)")
    if not folder.absolute().parent.is_dir():
        raise TersorError(f"cannot write to {folder}: there is no folder {folder.parent}")
    if folder.exists() and not folder.is_dir():
        raise TersorError(f"cannot write to {folder}: it is a file, and a C export is a folder")
    for port in (*model.entries[0].inputs, *model.entries[0].outputs):
        if port.elem not in C_TYPES:
            raise UnsupportedError(f"{port.name} is {port.type}, which C has no type for; it has {', '.join(C_TYPES)}")


def _record(model: CompiledModel, inputs: Sequence[Any] | None, expected: Sequence[Any] | None) -> Recording:
    """The inputs of the self-test and its expected outputs."""
    entry = model.entries[0]
    if inputs is None and expected is not None:
        raise TersorError("expected outputs belong to inputs: give both, or inputs alone")
    given = random_inputs(entry) if inputs is None else list(model.arrays(model.bind(inputs, {}), entry))
    if expected is None:
        try:
            require_host(model.target, model.manifest.name)
        except TersorError as error:
            raise TersorError(f"{error}. The self-test needs the outputs: export_c(folder, inputs=[x], expected=[graph(x)])") from None
        return Recording(given, model.program(entry).run(given), True)
    return Recording(given, _expected(entry, expected), False)


def _expected(entry: Entry, expected: Sequence[Any]) -> list[np.ndarray]:
    """Outputs as arrays, checked."""
    if len(expected) != len(entry.outputs):
        raise TersorError(f"expected={len(expected)} arrays: the model has {len(entry.outputs)} outputs, {', '.join(p.name for p in entry.outputs)}")
    return [_output(port, value) for port, value in zip(entry.outputs, expected)]


def _output(port: Port, value: Any) -> np.ndarray:
    if port.elem in ("f16", "bf16"):
        raise UnsupportedError(f"output {port.name!r} is {port.elem}, and the self-test compares f32, f64 and integers: leave expected= out")
    array = np.ascontiguousarray(value)
    if array.dtype != port.dtype or array.shape != port.shape:
        raise TersorError(f"expected output {port.name!r} must be {port.type}, got {array.dtype}{list(array.shape)}")
    return array
