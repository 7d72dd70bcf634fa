"""`tersor eval`: quality of a model on images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..ir.errors import TersorError
from . import show
from .build import Imports, Json, Shapes, Weights, load_imports
from .images import FASHION, Mean, Size, Std, read_images
from .sources import COMPILED, read_arrays, read_graph


def evaluate(
    source: Annotated[str, typer.Argument(metavar="IN", help="A .tso, or a .tersor, .mlir or .onnx graph.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="A folder with a sub-folder for each class, an .npz with `labels`, or fashion-mnist.")],
    against: Annotated[str | None, typer.Option(help="Another model to compare with: gives agreement and SQNR, and needs no labels.")] = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    limit: Annotated[int | None, typer.Option(help="Take only so many images, evenly spread.")] = None,
    weights: Weights = None,
    shape: Shapes = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Top-1 and top-5 on labelled images; agreement with another model and SQNR. Images of a folder are read as they are needed."""
    load_imports(imports)
    from .. import evaluate as measure

    model = _open(source, weights, shape)
    other = None if against is None else _open(against, None, shape)
    images, labels = _data(data, model, mean, std, size)
    if limit is not None:
        images = _some(images, limit)
    with show.counting(f"evaluating {source}") as progress:
        found = measure(model, images, other, labels=labels, progress=progress)
    print(found.to_json()) if as_json else show.line(str(found))


def _open(source: str, weights: str | None, shape: list[str] | None) -> Any:
    if source.endswith(COMPILED):
        from .. import load_compiled

        return load_compiled(source)
    return read_graph(source, weights, shape if source.endswith(".onnx") else None)


def _data(source: str, model: Any, mean: str | None, std: str | None, size: int | None) -> tuple[Any, bool]:
    """Images with or without labels, and whether the labels are real."""
    if source != FASHION and not Path(source).is_dir():
        arrays = read_arrays(source)
        if not isinstance(arrays, dict):
            return arrays, False
        images = {k: v for k, v in arrays.items() if k != "labels"}
        if len(images) != 1:
            raise TersorError(f"{source} must hold one array of images, and may hold `labels`; it has {', '.join(arrays) or 'nothing'}")
        (array,) = images.values()
        return ((array, arrays["labels"]), True) if "labels" in arrays else (array, False)
    labelled = source == FASHION or any(p.is_dir() for p in Path(source).iterdir())
    return read_images(source, model, mean, std, size, "t10k", labels=labelled), labelled


def _some(data: Any, limit: int) -> Any:
    if limit < 1:
        raise TersorError(f"--limit must be at least 1, got {limit}")
    if isinstance(data, tuple):
        return tuple(_some(part, limit) for part in data)
    places = [i * len(data) // min(limit, len(data)) for i in range(min(limit, len(data)))]
    if hasattr(data, "shape"):
        return data[places]
    from torch.utils.data import Subset

    return Subset(data, places)
