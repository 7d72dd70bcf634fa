"""Training data in any supported form, as batches in an order that a seed fixes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, default_collate

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ..core.samples import arguments, tensors

FORMS = (
    "a tuple (images, labels), an array of images, a torch Dataset, an iterable of batches (a DataLoader, a list), or a function of the epoch that "
    "gives one; a batch is (inputs, labels), or inputs alone"
)

#: Function that seeds torch for a place in training: an epoch, a step, a process.
Draw = Callable[..., None]
#: Function that gives examples by number, as a batch.
Fetch = Callable[[Sequence[int]], Any]


@dataclass(frozen=True)
class Batch:
    """Inputs of the graph in order, and labels: integers of shape (N,) or (N, ...), or None."""

    inputs: list[torch.Tensor]
    labels: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.inputs[0])

    def to(self, device: torch.device) -> Batch:
        """On a device, images in the layout of the trained module."""
        layouts = (torch.channels_last if x.dim() == 4 else torch.preserve_format for x in self.inputs)
        inputs = [x.to(device, memory_format=layout) for x, layout in zip(self.inputs, layouts)]
        return Batch(inputs, None if self.labels is None else self.labels.to(device))


@dataclass(frozen=True)
class Share:
    """Which of several processes this is: number `rank` of `count`."""

    rank: int = 0
    count: int = 1


class Indexed:
    """Examples by number: shuffled anew in each epoch, without a last incomplete batch; each process gets a part of every batch.

    held_out: this share of the examples is never trained on; `validation` gives it. seed: of all random numbers.
    """

    def __init__(self, graph: Graph, fetch: Fetch, count: int, batch: int, held_out: float, seed: Sequence[int], share: Share):
        self.graph = graph
        self.fetch = fetch
        self.seed = list(seed)
        self.share = share
        order = np.random.default_rng(self.seed).permutation(count)
        self.kept, self.held = np.split(order, [count - round(held_out * count)])
        if len(self.kept) < share.count:
            raise TersorError(f"the training data holds {len(self.kept)} examples for {share.count} processes: expected one for each at least")
        self.batch = batch if graph.batched else graph.inputs[0].shape[0]
        if held_out and len(self.held) < (1 if graph.batched else self.batch):
            raise TersorError(f"validate={held_out} of {count} examples holds out {len(self.held)}, which is too few to measure accuracy on")
        self.steps = max(1, len(self.kept) // (self.batch * share.count))
        self.each = min(self.batch, len(self.kept) // share.count)

    def epoch(self, epoch: int, start: int, draw: Draw) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on. draw: seeds torch for a place in training, so that a Dataset may draw numbers too."""
        order = np.random.default_rng([*self.seed, epoch]).permutation(self.kept)
        for step in range(start, self.steps):
            draw(epoch, step, self.share.rank)
            first = (step * self.share.count + self.share.rank) * self.each
            yield as_batch(self.graph, self.fetch(order[first : first + self.each].tolist()))

    def validation(self) -> Iterator[Batch]:
        """The examples held out, in batches."""
        size = min(self.batch, len(self.held)) if self.graph.batched else self.batch
        for first in range(0, len(self.held), size):
            if self.graph.batched or first + size <= len(self.held):
                yield as_batch(self.graph, self.fetch(self.held[first : first + size].tolist()))


class Streamed:
    """Batches in the order of an iterable: each of `count` processes takes every count-th. An epoch is one iteration."""

    def __init__(self, graph: Graph, make: Callable[[int], Iterable[Any]], length: int | None, share: Share):
        self.graph = graph
        self.make = make
        self.share = share
        self.steps = None if length is None else length // share.count

    def epoch(self, epoch: int, start: int, draw: Draw) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on; those before are drawn and dropped. All processes draw the same."""
        draw(epoch)
        batches = iter(self.make(epoch))
        for step in itertools.count():
            draw(epoch, step)
            group = list(itertools.islice(batches, self.share.count))
            if len(group) < self.share.count:
                if not step:
                    raise TersorError(
                        f"the training data gave no batch in epoch {epoch + 1}; a generator is used up after one epoch, a function of it is not"
                    )
                return
            if step >= start:
                yield as_batch(self.graph, group[self.share.rank])

    def validation(self) -> Iterator[Batch]:
        return iter(())


Data = Indexed | Streamed


def data_of(graph: Graph, train: Any, batch: int, held_out: float, seed: Sequence[int], share: Share) -> Data:
    """The training data of a transform as batches for a graph."""
    found = _examples(train)
    if found is not None:
        return Indexed(graph, *found, batch, held_out, seed, share)
    if held_out:
        raise TersorError(
            f"validate={held_out} holds out examples, and batches that come one by one have none to hold out: give a tuple or a Dataset"
        )
    if callable(train) and not isinstance(train, Iterable):
        return Streamed(graph, train, None, share)
    if not isinstance(train, Iterable) or isinstance(train, str | bytes):
        raise TersorError(f"training data is {FORMS}; got {type(train).__name__}")
    return Streamed(graph, lambda epoch: train, len(train) if isinstance(train, Sized) else None, share)


def _examples(train: Any) -> tuple[Fetch, int] | None:
    """How to fetch examples by number and how many there are, where the data is indexed."""
    if _is_array(train):
        return (lambda chosen: train[chosen]), len(train)
    if isinstance(train, tuple) and len(train) == 2 and _is_array(train[0]) and (train[1] is None or _is_array(train[1])):
        images, labels = train
        if labels is not None and len(images) != len(labels):
            raise TersorError(f"training data holds {len(images)} images and {len(labels)} labels: expected as many of each")
        return (lambda chosen: (images[chosen], None if labels is None else labels[chosen])), len(images)
    if isinstance(train, Dataset) and not isinstance(train, IterableDataset):
        if not hasattr(train, "__len__"):
            raise TersorError(f"the training Dataset {type(train).__name__} has no __len__: expected one, or an IterableDataset")
        return (lambda chosen: default_collate([train[i] for i in chosen])), len(train)
    return None


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray | torch.Tensor)


def as_batch(graph: Graph, given: Any) -> Batch:
    """A batch checked against the inputs of the graph; the second of a pair are labels."""
    inputs, labels = given if isinstance(given, tuple | list) and len(given) == 2 else (given, None)
    values = tensors(arguments(graph, inputs))
    if labels is None:
        return Batch(values, None)
    labels = torch.as_tensor(labels)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TersorError(f"labels must be integers, the numbers of classes, got {labels.dtype}")
    if not labels.dim() or len(labels) != len(values[0]):
        raise TersorError(f"a batch of {len(values[0])} images needs as many labels, got shape {list(labels.shape)}")
    return Batch(values, labels.long())
