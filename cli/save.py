"""`tersor save`: write a graph to a file, optionally entropy-coded, and print its sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import show
from .build import Imports, Json, Shapes, Weights, check_suffix, load_imports
from .sources import GRAPHS, read_graph


def save(
    source: Annotated[str, typer.Argument(metavar="IN", help="A .tersor, .mlir or .onnx graph.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The .tersor (or .mlir) file to write.")],
    entropy: Annotated[
        bool, typer.Option("--entropy", help="Huffman-code weights with zeros or few values; decoded when the file is loaded.")
    ] = False,
    weights: Weights = None,
    shape: Shapes = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Write a graph again, and say what its weights take: dense, zeros left out, values shared, and the file."""
    load_imports(imports)
    check_suffix(output, GRAPHS)
    from ..passes.sparse.sizes import sizes

    graph = read_graph(source, weights, shape)
    graph.save(output, entropy=entropy)
    found, size = sizes(graph), Path(output).stat().st_size
    if as_json:
        show.emit_json({"file": output, "bytes": size} | vars(found))
        return
    coded = "the file, entropy-coded" if entropy else "the file"
    stages = {"dense": found.dense, "zeros left out": found.pruned, "values shared": found.shared, coded: size}
    show.table(["weights", "bytes", "times smaller"], [(name, f"{n:,}", f"{found.times(n):.1f}") for name, n in stages.items()], left=1)
