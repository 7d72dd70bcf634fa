"""`tersor report`: one HTML page of a graph or a compiled model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..ir.errors import TersorError
from . import show
from .build import Imports, Shapes, Weights, load_imports
from .images import Mean, Size, Std, calibration_of
from .sources import COMPILED, read_graph


def report(
    source: Annotated[str, typer.Argument(metavar="IN", help="A .tersor, .mlir or .onnx graph, or a .tso.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The .html file to write.")],
    before: Annotated[str | None, typer.Option(help="Another graph beside it, such as the one before a pass: gives the SQNR of every value.")] = None,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", "-p", help="Passes to run first: the page shows the graph before and after, and the ledger.")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(help="A folder of images, or an .npz of samples: for passes, and to compare on; random without it.")
    ] = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    profile: Annotated[bool, typer.Option("--profile", help="Measure every kernel here: time on the nodes, and the roofline.")] = False,
    front: Annotated[str | None, typer.Option(help="The .json of `tersor auto`: quality against latency and bytes.")] = None,
    weights: Weights = None,
    shape: Shapes = None,
    imports: Imports = None,
) -> None:
    """Write one HTML page: the graph drawn, its layers, what passes changed, and where the time goes. It needs no network."""
    load_imports(imports)
    from .. import report as write

    if source.endswith(COMPILED):
        from .. import load_compiled

        if given := [name for name, value in (("--before", before), ("--pipeline", pipeline), ("--calibration", calibration)) if value]:
            raise TersorError(f"{given[0]} belongs to a graph, and {source} is compiled: give the .tersor file")
        with show.working(f"reporting {source}"):
            path = write(load_compiled(source), output, profile=profile, front=front, title=Path(source).name)
    else:
        if before is not None and pipeline is not None:
            raise TersorError("--before names the graph beside this one, and --pipeline makes one of this: give one of them")
        path = write(**_graphs(source, before, pipeline, calibration, (mean, std, size), weights, shape), path=output, profile=profile, front=front)
    show.line(f"{path}: {path.stat().st_size:,} bytes")


def _graphs(
    source: str,
    before: str | None,
    pipeline: str | None,
    calibration: str | None,
    images: tuple[str | None, str | None, int | None],
    weights: str | None,
    shape: list[str] | None,
) -> dict[str, Any]:
    """The graph, what stands beside it, and the inputs that both run on."""
    from .. import transform
    from ..passes.core.samples import arguments, tensors

    graph = read_graph(source, weights, shape)
    batches = calibration_of(calibration, graph, *images) if calibration is not None else None
    found: dict[str, Any] = {"model": graph, "before": read_graph(before, None, shape) if before is not None else None, "title": Path(source).name}
    found["inputs"] = tensors(arguments(graph, batches[0])) if batches else None
    if pipeline is not None:
        found |= {
            "model": transform(graph, pipeline, calibration=batches, progress=True),
            "before": graph,
            "title": f"{Path(source).name} -p {pipeline}",
        }
    return found
