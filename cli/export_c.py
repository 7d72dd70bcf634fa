"""`tersor export-c`: write a graph as a folder for a C project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ..ir.errors import TersorError
from ..ir.graph import Graph
from . import show
from .build import Imports, Json, Shapes, Tuned, Weights, database_of, load_imports
from .sources import leaves, random_array, read_graph, read_inputs

if TYPE_CHECKING:
    from ..backend.target import Target


def export_c(
    source: Annotated[str, typer.Argument(metavar="IN", help="A .tersor, .mlir or .onnx graph.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The folder to write.")],
    target: Annotated[str, typer.Option("--target", "-t", help="cpu, cpu:znver3, arm64:cortex-a72, ...")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of one call: a C export has 1.")] = 1,
    batch: Annotated[int | None, typer.Option(help="The batch size, 1 unless given or fixed by the graph.")] = None,
    name: Annotated[str, typer.Option(help="Prefix of files and functions.")] = "model",
    inputs: Annotated[list[str] | None, typer.Option("--input", "-i", help="Of the self-test: x.npy, NAME=x.npy or an .npz; random without.")] = None,
    pipeline: Annotated[str, typer.Option("--pipeline", "-p", help="Passes that run before; lowering itself begins with `default`.")] = "default",
    tuned: Tuned = None,
    winograd: Annotated[int, typer.Option(help="Largest m of Winograd's F(m x m, 3x3): 0 none, 2, 4 or 6 (less precise).")] = 4,
    weights: Weights = None,
    shape: Shapes = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Write a C library of a model, with header, weights, and an example that tests itself: no Python, no TVM, no malloc."""
    load_imports(imports)
    check_folder(output)
    if threads != 1:
        raise TersorError(f"a C export runs on one thread, got --threads {threads}")
    from .. import compile, transform
    from ..backend.target import resolve

    facts = resolve(target)
    graph = transform(read_graph(source, weights, shape), pipeline)
    given = batch or (1 if graph.batched else None)
    with show.working(f"compiling {source} for {target}"):
        model = compile(graph, target=facts, batch=given, tuned=database_of(tuned), winograd=winograd)
        fixed = graph if given is None else graph.at(given)
        arrays = recorded_inputs(fixed, inputs)
        # for another processor than this machine's, the interpreter gives the expected outputs
        expected = None if runs_here(facts) else leaves(fixed.structure, fixed(*arrays))
        model.export_c(output, arrays, expected, name)
    files = {p.name: p.stat().st_size for p in sorted(Path(output).iterdir()) if p.name.startswith((f"{name}.", f"{name}_test.", f"lib{name}."))}
    if as_json:
        show.emit_json({"folder": output, "function": f"{name}_run", "bytes": files} | vars(model.report))
    else:
        show.line(f"{output}: " + ", ".join(f"{n} {size:,} bytes" for n, size in files.items()))
        show.line(f"make -C {output} test  builds the example and runs it")


def check_folder(path: str) -> None:
    """Fail before the work rather than after it."""
    if not Path(path).resolve().parent.is_dir():
        raise TersorError(f"cannot write {path}: there is no folder {Path(path).parent}")


def runs_here(target: Target) -> bool:
    """Whether this processor runs code for the target."""
    from ..backend.runtime.model import require_host

    try:
        require_host(target, "the model")
    except TersorError:
        return False
    return True


def recorded_inputs(graph: Graph, files: list[str] | None) -> list[Any]:
    """The inputs of the self-test in order."""
    rng = np.random.default_rng(0)
    names = [v.name for v in graph.inputs]
    if files is None:
        return [random_array(rng, v.shape, v.type.dtype) for v in graph.inputs]
    arrays = read_inputs(files, names)
    if missing := [n for n in names if n not in arrays]:
        raise TersorError(f"there is nothing for input {missing[0]!r}; inputs: {', '.join(names)}")
    return [arrays[n] for n in names]
