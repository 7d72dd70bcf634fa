"""`tersor sensitivity`: the error of int8 and pruning in each layer, and a pipeline that leaves out the worst ones."""

from __future__ import annotations

from typing import Annotated

import typer

from . import show
from .build import Imports, Json, Shapes, Weights, load_imports
from .images import Mean, Size, Std, calibration_of
from .sources import read_graph


def sensitivity(
    source: Annotated[str, typer.Argument(metavar="IN", help="A .tersor, .mlir or .onnx graph.")],
    calibration: Annotated[str, typer.Option(help="A folder of images, or an .npz of samples along axis 0.")],
    what: Annotated[str, typer.Option(help="int8, prune, or both with a comma.")] = "int8,prune",
    ratio: Annotated[float, typer.Option(help="Share of a layer's output channels that pruning removes.")] = 0.5,
    exclude_above: Annotated[float | None, typer.Option(help="Also print pipelines that leave out layers whose error is larger.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Compile and time: milliseconds that each layer saves.")] = False,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    weights: Weights = None,
    shape: Shapes = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Quantize and prune each layer alone: the error of the network's outputs, and what is saved."""
    load_imports(imports)
    from .. import sensitivity as judge

    graph = read_graph(source, weights, shape)
    kinds = [w.strip() for w in what.split(",")]
    batches = calibration_of(calibration, graph, mean, std, size)
    found = judge(graph, calibration=batches, what=kinds, ratio=ratio, measure=measure, progress=True)
    if as_json:
        print(found.to_json())
    else:
        show.table(*found.cells(), left=2)
    if exclude_above is not None:
        pipelines = {"int8": found.int8_pipeline, "prune": found.prune_pipeline}
        for kind in kinds:
            write = show.note if as_json else show.line
            write(pipelines[kind](exclude_above))
