"""`tersor export`: write a graph as an ONNX model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import show
from .build import Imports, Json, Shapes, Weights, check_suffix, load_imports
from .images import Mean, Size, Std, calibration_of
from .sources import read_graph


def export(
    source: Annotated[str, typer.Argument(metavar="IN", help="A .tersor, .mlir or .onnx graph.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The .onnx file to write.")],
    pipeline: Annotated[str, typer.Option("--pipeline", "-p", help='Passes that run before: "default" folds batch norms, "qdq" makes int8.')] = "",
    weights: Weights = None,
    shape: Shapes = None,
    calibration: Annotated[
        str | None, typer.Option(help="A folder of images, or an .npz of samples along axis 0, for passes that look at activations.")
    ] = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Write a graph as a standard ONNX model, integers as QDQ; what onnxruntime will not run on integers is listed."""
    load_imports(imports)
    check_suffix(output, (".onnx",))
    graph = read_graph(source, weights, shape)
    if pipeline:
        from .. import transform

        data = calibration_of(calibration, graph, mean, std, size) if calibration is not None else None
        graph = transform(graph, pipeline, calibration=data, progress=True)
    layers = graph.to_onnx(output)
    count = Path(output).stat().st_size
    if as_json:
        ports = {"inputs": [v.name for v in graph.inputs], "outputs": graph.output_names}
        show.emit_json({"file": output, "bytes": count, **ports, "layers": [vars(row) for row in layers]})
    else:
        show.line(f"{output}: {count:,} bytes, {len(graph)} ops")
        if layers.quantized:
            show.line(str(layers))
