"""`tersor export`: a graph as an ONNX model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import show
from .build import Imports, Json, Shapes, Weights, check_suffix, load_imports
from .sources import read_graph


def export(
    source: Annotated[str, typer.Argument(metavar="IN", help="A .tersor, .mlir or .onnx graph.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The .onnx file to write.")],
    pipeline: Annotated[str, typer.Option("--pipeline", "-p", help='Passes that run before: "default" folds batch norms.')] = "",
    weights: Weights = None,
    shape: Shapes = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Write a graph as a standard ONNX model."""
    load_imports(imports)
    check_suffix(output, (".onnx",))
    graph = read_graph(source, weights, shape)
    if pipeline:
        from .. import transform

        graph = transform(graph, pipeline)
    graph.to_onnx(output)
    size = Path(output).stat().st_size
    if as_json:
        show.emit_json({"file": output, "bytes": size, "inputs": [v.name for v in graph.inputs], "outputs": graph.output_names})
    else:
        show.line(f"{output}: {size:,} bytes, {len(graph)} ops")
