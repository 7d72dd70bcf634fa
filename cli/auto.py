"""`tersor auto`: search for pipelines under a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..ir.errors import TersorError
from . import show
from .build import Imports, Json, Shapes, Weights, load_imports
from .images import Mean, Size, Std, accuracy_on, calibration_of, read_images
from .sources import read_graph


def auto(
    source: Annotated[str, typer.Argument(metavar="IN", help="A .tersor, .mlir or .onnx graph.")],
    calibration: Annotated[str, typer.Option(help="A folder of images, or an .npz of samples along axis 0.")],
    output: Annotated[str, typer.Option("--output", "-o", help="A folder for the front: front.json, front.png, and a .tersor file for each point.")],
    held: Annotated[str | None, typer.Option(help="Others to judge by, without --test; else a part of the calibration is held out.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", "-b", help='"5 ms", "2 MB", "-1 %", or several with commas.')] = None,
    trials: Annotated[int, typer.Option(help="Networks to try in all, those of the storage included.")] = 30,
    ways: Annotated[str | None, typer.Option(help="Of prune, factorize, sparsify, int8, ternary, with commas; without it all that apply.")] = None,
    target: Annotated[str, typer.Option("--target", "-t", help="What to compile for.")] = "cpu",
    storage: Annotated[str | None, typer.Option(help="A file, or a database URL: a killed search goes on, and several processes share one.")] = None,
    train: Annotated[str | None, typer.Option(help="Images to fine-tune on: a folder with a sub-folder for each class, or fashion-mnist.")] = None,
    epochs: Annotated[int, typer.Option(help="Of fine-tuning.")] = 1,
    test: Annotated[str | None, typer.Option(help="Images to measure accuracy on; without it agreement with the graph.")] = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    seed: Annotated[int, typer.Option(help="Seed of the search and of its passes.")] = 0,
    weights: Weights = None,
    shape: Shapes = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Search for pipelines: the front of quality, measured latency and size."""
    load_imports(imports)
    from .. import auto as search

    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TersorError(f"cannot write to {folder}: {error.strerror}") from None
    graph = read_graph(source, weights, shape)
    data: dict[str, Any] = {"calibration": calibration_of(calibration, graph, mean, std, size)}
    data["train"] = read_images(train, graph, mean, std, size, "train") if train is not None else None
    data["evaluate"] = accuracy_on(read_images(test, graph, mean, std, size, "t10k")) if test is not None else None
    chosen = None if ways is None else tuple(w.strip() for w in ways.split(","))
    data["held"] = calibration_of(held, graph, mean, std, size) if held is not None else None
    options: dict[str, Any] = {"budget": budget, "target": target, "trials": trials, "ways": chosen, "storage": storage, "seed": seed}
    front = search(graph, **data, **options, epochs=epochs, progress=True)
    front.to_json(folder / "front.json")
    front.draw(folder / "front.png")
    for i, point in enumerate(front):
        front.graph(point).save(folder / f"point{i}.tersor", entropy=True)
    if as_json:
        print(front.to_json())
        return
    header, lines = front.cells()
    show.table(["point", *header], [(f"{folder}/point{i}.tersor", *line) for i, line in enumerate(lines)], left=1)
    for pipeline, why in front.failed.items():
        show.note(f"failed: {pipeline}: {why.splitlines()[0]}")
    if budget is not None:
        show.line(f"best within {budget}: {front.best.pipeline}")
