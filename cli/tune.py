"""`tersor tune`: measure kernels and their parameters on this machine, or on another."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..ir.errors import TersorError
from . import show
from .build import Imports, Json, Shapes, Weights, batches_of, load_imports
from .remote import On
from .sources import read_graph


def tune(
    source: Annotated[str, typer.Argument(metavar="IN", help="A .tersor, .mlir or .onnx graph.")],
    target: Annotated[str, typer.Option("--target", "-t", help="Must be this machine, its GPU (opencl, cuda:sm_90), or the device.")] = "cpu",
    device: On = None,
    threads: Annotated[int, typer.Option(help="Threads of one call.")] = 1,
    batch: Annotated[str | None, typer.Option(help="Batch sizes: 1,8. Without it 1, or the graph's where that is fixed.")] = None,
    db: Annotated[str | None, typer.Option("--db", help="The database to add to; made where there is none. tuned.json without it.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long; what takes most time comes first.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the operands and of the order of the calls.")] = 0,
    search_by: Annotated[
        str, typer.Option("--search", help="templates, or metaschedule: TVM's search too, each region in its own process.")
    ] = "templates",
    trials: Annotated[int, typer.Option(help="Kernels that MetaSchedule measures for each region.")] = 64,
    again: Annotated[bool, typer.Option("--again", help="Measure what the database has already, too.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Measure nothing: print what a database (without --db the shipped one) holds for the graph.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="For GPUs: f32, f16, bf16 or tf32, as for `compile`.")] = "f32",
    pipeline: Annotated[str, typer.Option("--pipeline", "-p", help="Passes that run before, as for `compile`.")] = "default",
    weights: Weights = None,
    shape: Shapes = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Measure every template and parameter choice of each distinct fusion on cold data, and keep the winners for `compile --tuned`."""
    load_imports(imports)
    if compare and (again or seconds is not None or search_by != "templates"):
        raise TersorError("--compare measures nothing: leave --seconds, --again and --search out")
    from .. import transform
    from ..backend.tuning import search

    graph = transform(read_graph(source, weights, shape), pipeline)
    if compare:
        result = search.compare(graph, target, threads, batches_of(batch), db)
    else:
        how = (seconds, seed, again, True, search_by, trials, dtype, device)
        result = search.tune(graph, target, threads, batches_of(batch), db or "tuned.json", *how)
    if as_json:
        show.emit_json(json.loads(result.to_json()))
        return
    show.table(*result.cells(), left=3)
    for searched in result.searched:
        show.line(str(searched))
    for line in result.complaints:
        show.note(f"warning: {line}", style="yellow")
    show.line(result.summary)
