"""`tersor show`: a row for each layer, and the totals."""

from __future__ import annotations

from typing import Annotated

import typer

from . import show as output
from .build import Imports, Json, Shapes, Weights, load_imports
from .sources import COMPILED, read_graph


def show(
    source: Annotated[str, typer.Argument(metavar="IN", help="A .tersor, .mlir or .onnx graph, or a .tso.")],
    heavy: Annotated[bool, typer.Option("--heavy", help="Only what multiplies, with the largest number of MACs first.")] = False,
    weights: Weights = None,
    shape: Shapes = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """A table of the layers of a graph, or of the kernels of a .tso: shape, type, parameters, MACs, bytes; and their totals."""
    load_imports(imports)
    from ..reports.layers import Layers, layers

    if source.endswith(COMPILED):
        from .. import load_compiled

        rows = layers(load_compiled(source))
    else:
        rows = layers(read_graph(source, weights, shape))
    if heavy:
        rows = Layers(sorted((r for r in rows if r.macs), key=lambda r: -r.macs), rows.kind, rows.weight_bytes)
    if as_json:
        print(rows.to_json())
        return
    header, lines = rows.cells()
    output.table(header, lines, left=3)
    output.line(rows.summary)
