"""Quality of a model on data: top-1, top-5, agreement with another model, SQNR. Images are read batch by batch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ir.errors import TersorError
from ..ir.evaluate import to_numpy
from ..ir.graph import Graph

if TYPE_CHECKING:
    from ..backend.runtime.model import CompiledModel

#: Images of a batch, where the model takes any batch size.
BATCH = 32
#: Called with the number of images done, and the total.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Quality:
    """Shares of images: whose label has the largest output (top1) or one of the five largest (top5); with the same largest output as the other
    model (agreement). sqnr: dB of the outputs against the other model's. None where there were no labels, or no other model."""

    images: int
    top1: float | None = None
    top5: float | None = None
    agreement: float | None = None
    sqnr: float | None = None

    def __str__(self) -> str:
        shares = {"top-1": self.top1, "top-5": self.top5, "agreement": self.agreement}
        parts = [f"{name} {share:.2%}" for name, share in shares.items() if share is not None]
        return ", ".join([f"{self.images} images", *parts, *([] if self.sqnr is None else [f"SQNR {self.sqnr:.1f} dB"])])

    def to_json(self) -> str:
        """An object; an SQNR without noise is the string "inf"."""
        return json.dumps({k: str(v) if isinstance(v, float) and math.isinf(v) else v for k, v in asdict(self).items()}, indent=1)


def evaluate(
    model: Graph | CompiledModel, data: Any, against: Graph | CompiledModel | None = None, *, labels: bool = True, progress: Progress | None = None
) -> Quality:
    """Quality of a classifier on data.

    model: takes images (N, ...) and gives logits (N, classes). data: (images, labels) as arrays or tensors, images alone, or a torch Dataset of
    (image, label), which is read image by image. labels: whether the labels of a Dataset are used. against: a model to compare with, such as the one
    before compression.

    Raises TersorError for a model of several inputs or outputs, labels that are not a class, empty data, and data without labels where
    there is no model to compare with.
    """
    run, other = Runner(model), None if against is None else Runner(against)
    count = run.batch or BATCH
    images, total = 0, len(data[1]) if isinstance(data, tuple) else len(data)
    top1 = top5 = agree = 0
    labelled = False
    signal = noise = 0.0
    for x, y in _chunks(data, count, labels):
        got = run(x)
        images += len(got)
        if y is not None:
            labelled = True
            if y.min() < 0 or y.max() >= got.shape[1]:
                raise TersorError(f"the labels must be classes 0 to {got.shape[1] - 1} of the model, got {int(y.min())} to {int(y.max())}")
            # classes with a larger output than the label's; among equal ones the first counts as larger, as in argmax
            mine = got[np.arange(len(got)), y][:, None]
            above = (got > mine).sum(1) + ((got == mine) & (np.arange(got.shape[1]) < y[:, None])).sum(1)
            top1, top5 = top1 + int((above == 0).sum()), top5 + int((above < 5).sum())
        if other is not None:
            wanted = other(x)
            if wanted.shape != got.shape:
                raise TersorError(f"the models give outputs of other shapes: {list(got.shape)} and {list(wanted.shape)}")
            agree += int((wanted.argmax(1) == got.argmax(1)).sum())
            signal, noise = signal + float(np.square(wanted).sum()), noise + float(np.square(got - wanted).sum())
        if progress is not None:
            progress(images, total)
    if not images:
        raise TersorError("there are no images to evaluate on")
    if not labelled and other is None:
        raise TersorError("nothing to measure by: give labels (a sub-folder for each class, or `labels` in the .npz) or a model to compare with")
    right = (top1 / images, top5 / images) if labelled else (None, None)
    return Quality(images, *right, *((agree / images, _decibels(signal, noise)) if other is not None else (None, None)))


class Runner:
    """A model of one input and one output of logits, called with any number of images: a fixed batch is padded."""

    def __init__(self, model: Graph | CompiledModel):
        inputs = list(model.inputs) if isinstance(model, Graph) else list(model.inputs.values())
        names = model.output_names if isinstance(model, Graph) else list(model.outputs)
        if len(inputs) != 1 or len(names) != 1:
            raise TersorError(f"a model to evaluate has one input and one output, got {[v.name for v in inputs]} and {names}")
        self._model, self._dtype = model, inputs[0].type.dtype
        #: images of one call, None if any; with several compiled batches the largest
        self.batch: int | None = inputs[0].shape[0]
        if isinstance(model, Graph):
            self.batch = None if model.batched else self.batch
        else:
            self.batch = max(e.batch or self.batch or 1 for e in model.entries)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits in float64."""
        size = self.batch or len(images)
        parts = []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            full = np.concatenate([part, np.repeat(part[-1:], size - len(part), 0)]) if len(part) < size else part
            y = self._model(np.ascontiguousarray(full, self._dtype))
            result = next(iter(y.values())) if isinstance(y, dict) else y[0] if isinstance(y, list | tuple) else y
            if result.ndim != 2 or len(result) != size:
                raise TersorError(f"a model to evaluate gives logits (N, classes), got {list(result.shape)} for {size} images")
            parts.append(np.asarray(result[: len(part)], np.float64))
        return np.concatenate(parts)


def _chunks(data: Any, count: int, labels: bool) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Images and labels, `count` at a time."""
    if isinstance(data, tuple):
        images, classes = (_array(part) for part in data)
        if len(images) != len(classes):
            raise TersorError(f"expected a label for each image, got {len(images)} images and {len(classes)} labels")
        yield from ((images[i : i + count], classes[i : i + count]) for i in range(0, len(images), count))
    elif hasattr(data, "shape"):
        images = _array(data)
        yield from ((images[i : i + count], None) for i in range(0, len(images), count))
    else:
        for start in range(0, len(data), count):
            pairs = [data[i] for i in range(start, min(start + count, len(data)))]
            found = np.stack([_array(x) for x, _ in pairs])
            yield found, np.array([int(y) for _, y in pairs]) if labels else None


def _array(x: Any) -> np.ndarray:
    return x if isinstance(x, np.ndarray) else to_numpy(x)


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 and math.isfinite(noise) else -math.inf
