"""Images for calibration, training and accuracy, and the options for their normalization."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..ir.errors import TersorError
from ..ir.graph import Graph
from .sources import read_calibration

if TYPE_CHECKING:
    import torch

    from ..backend.runtime.model import CompiledModel

#: The one data set that has a name instead of a folder.
FASHION = "fashion-mnist"
#: Images of Fashion-MNIST to calibrate with.
CALIBRATION = 512
#: Images of a batch when accuracy is measured.
BATCH = 200

Mean = Annotated[str | None, typer.Option(help="Mean of the channels, of 1, that images are normalized by: 0.485,0.456,0.406.")]
Std = Annotated[str | None, typer.Option(help="Their standard deviation.")]
Size = Annotated[int | None, typer.Option(help="Resize the shorter side of images to this before the middle is cut out.")]


def read_images(
    source: str, graph: Graph | CompiledModel, mean: str | None, std: str | None, size: int | None, part: str, labels: bool = True
) -> Any:
    """The data of `--train` or `--test`, in the shape of the model's input: arrays of Fashion-MNIST, else an ImageFolder; normalized if it is float.

    part: of Fashion-MNIST, `train` or `t10k`. labels: whether the sub-folders of a folder are classes.
    """
    from ..passes.train.images import FASHION_MEAN, FASHION_STD, ImageFolder, fashion_mnist, fashion_mnist_bytes

    inputs = graph.inputs if isinstance(graph, Graph) else list(graph.inputs.values())
    if len(inputs) != 1 or inputs[0].type.rank != 4:
        shapes = ", ".join(f"{v.name}: {v.type}" for v in inputs)
        raise TersorError(f"images from disk need a model with one input (N, C, H, W), got {shapes}; do this from Python")
    takes_bytes = inputs[0].type.elem == "u8"
    if takes_bytes and (mean or std):
        raise TersorError(
            f"the input {inputs[0].name!r} of the graph takes bytes, and its mean and std are in the network: leave --mean and --std out"
        )
    _, *rest = inputs[0].shape
    high, wide, channels = rest if takes_bytes else (*rest[1:], rest[0])
    if source == FASHION:
        if (channels, high, wide) != (1, 28, 28):
            raise TersorError(f"{FASHION} is 1x28x28, and the input {inputs[0].name!r} of the graph is {channels}x{high}x{wide}")
        if takes_bytes:
            pixels, classes = fashion_mnist_bytes(part)
            return pixels.permute(0, 2, 3, 1), classes
        return fashion_mnist(part, numbers(mean, "--mean") or [FASHION_MEAN], numbers(std, "--std") or [FASHION_STD])
    if takes_bytes:
        return ImageFolder(source, (channels, high, wide), None, None, resize=size, labels=labels)
    given = numbers(mean, "--mean"), numbers(std, "--std")
    if not all(given):
        raise TersorError("images in folders need --mean and --std, the numbers that the network was trained with: 0.485,0.456,0.406 or 0.5")
    return ImageFolder(source, (channels, high, wide), *given, resize=size, labels=labels)


def with_image_input(graph: Graph, mean: str | None, std: str | None) -> Graph:
    """The graph that takes bytes; one number stands for all channels."""
    from .. import image_input

    given = numbers(mean, "--mean"), numbers(std, "--std")
    if not all(given):
        raise TersorError("--image-input needs --mean and --std, the numbers that the network was trained with: 0.485,0.456,0.406 or 0.5")
    channels = graph.inputs[0].shape[1] if graph.inputs and graph.inputs[0].type.rank == 4 else 1
    return image_input(graph, *(v * channels if len(v) == 1 else v for v in given))


def numbers(text: str | None, option: str) -> list[float]:
    """`"0.485,0.456,0.406"` -> three numbers; an empty list without text."""
    if text is None:
        return []
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise TersorError(f"{option} expects numbers such as 0.485,0.456,0.406, got {text!r}") from None


def accuracy_on(data: Any) -> Callable[[Graph], float]:
    """The share of labels that a graph gets right, of a data set or of (images, labels)."""

    def accuracy(graph: Graph) -> float:
        right = count = 0
        for x, y in _batches(data, BATCH if graph.batched else graph.inputs[0].shape[0]):
            result = graph(x)
            if not hasattr(result, "argmax"):
                raise TersorError(f"accuracy needs one output of logits, and the graph gives {type(result).__name__}")
            right, count = right + int((result.argmax(1) == y).sum()), count + len(y)
        return right / max(count, 1)

    return accuracy


def _batches(data: Any, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    import torch

    if isinstance(data, tuple):
        yield from zip(data[0].split(size), data[1].split(size))
        return
    for start in range(0, len(data), size):
        images, labels = zip(*(data[i] for i in range(start, min(start + size, len(data)))))
        yield torch.stack(images), torch.tensor(labels)


def calibration_of(source: str, graph: Graph, mean: str | None, std: str | None, size: int | None) -> Sequence[Any]:
    """Batches of the images in a folder (or the first of Fashion-MNIST) for passes that look at activations."""
    if source != FASHION and not Path(source).is_dir():
        return read_calibration(source, graph)
    data = read_images(source, graph, mean, std, size, "train", labels=False)
    count = 16 if graph.batched else graph.inputs[0].shape[0]
    if isinstance(data, tuple):
        batches = data[0][:CALIBRATION].split(count)
        return [x for x in batches if graph.batched or len(x) == count]
    found: Sequence[Any] = data.batches(count, whole=not graph.batched)
    return found


def first_process() -> bool:
    """Whether this process writes files: it is the only one, or number 0 of those that `torchrun` started."""
    return os.environ.get("RANK", "0") == "0"
