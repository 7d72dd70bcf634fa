"""What a pass may need besides the graph: batches, a loss, a teacher, accuracy and latency functions, a seed, a progress bar."""

from __future__ import annotations

import pkgutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.rewrite import Rewrite, Trace, greedy

if TYPE_CHECKING:
    from .base import Pass

#: One call of the graph: an array or tensor, a tuple of them for several inputs, or a dict by input name.
Batch = Any
#: Called as progress(what, done, total). The part of `what` after ": " may change from call to call ("finetune: epoch 1/2, loss 0.31").
Progress = Callable[[str, int, int], None]
T = TypeVar("T")
#: The default latency function, by name because passes import no backend.
DEFAULT_LATENCY = "tersor.backend.latency:latency"


@dataclass
class Context:
    """Shared by the passes of one `transform`."""

    calibration: Sequence[Batch] | None = None
    train: Any = None
    evaluate: Callable[[Graph], float] | None = None
    teacher: Any = None
    #: the graph before the first pass
    original: Graph | None = None
    seed: int = 0
    latency: Callable[[Graph], float] | None = None
    progress: Progress | None = None
    #: collects refused matches when the caller asks why something was not rewritten
    why: Trace | None = None
    #: index of the running pass in its pipeline
    position: int = 0
    #: how often each pattern of the running pass was applied
    rewrites: Counter[str] = field(default_factory=Counter)
    #: the running pass's report on each layer, for the ledger
    layers: list[Any] = field(default_factory=list)

    @property
    def rng(self) -> np.random.Generator:
        """Random numbers of the running pass: the same for a seed and a position, whatever ran before."""
        return np.random.default_rng([self.seed, self.position])

    def greedy(self, graph: Graph, *patterns: Rewrite) -> Counter[str]:
        """`ir.rewrite.greedy`, with its counts in the ledger and its refusals in `why`."""
        return self.record(greedy(graph, *patterns, why=self.why))

    def record(self, counts: Counter[str]) -> Counter[str]:
        """Put counts of rewrites in the ledger."""
        self.rewrites += counts
        return counts

    def need_calibration(self, who: Pass) -> Sequence[Batch]:
        """The calibration batches; an error that says how to give them when there are none."""
        if not self.calibration:
            raise TersorError(
                f"pass {who.name!r} needs calibration batches: transform(graph, pipeline, calibration=[batch, ...]) where a batch is what the graph "
                "is called with (an array, a tuple for several inputs, or a dict by input name)"
            )
        return self.calibration

    def need_train(self, who: Pass) -> Any:
        """The training data; an error that says how to give them when there are none."""
        if self.train is None:
            raise TersorError(
                f"pass {who.name!r} needs training data: transform(graph, pipeline, train=data) where data is (images, labels), a torch Dataset, or "
                "a loader that yields (inputs, labels)"
            )
        return self.train

    def need_evaluate(self, who: Pass) -> Callable[[Graph], float]:
        """The accuracy function; an error that says how to give it when there is none."""
        if self.evaluate is None:
            raise TersorError(f"pass {who.name!r} needs an accuracy function: transform(graph, pipeline, evaluate=f) where f(graph) gives a float")
        return self.evaluate

    def need_latency(self, who: Pass) -> Callable[[Graph], float]:
        """The function that measures latency: the caller's, else `DEFAULT_LATENCY`; an error where that needs a compiler that is not installed."""
        if self.latency is not None:
            return self.latency
        try:
            measure: Callable[[Graph], float] = pkgutil.resolve_name(DEFAULT_LATENCY)
        except ImportError as error:
            raise TersorError(
                f"pass {who.name!r} needs to measure latency, and {error}: transform(graph, pipeline, latency=f) where f(graph) gives a time"
            ) from error
        return measure

    def need_teacher(self, who: Pass) -> Any:
        """The teacher: the one that was given, else the graph before the first pass; an error that says how to give it when there is neither."""
        teacher = self.original if self.teacher is None else self.teacher
        if teacher is None:
            raise TersorError(f"pass {who.name!r} needs a teacher: transform(graph, pipeline, teacher=uncompressed_graph)")
        return teacher

    def track(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """Yield items, and report to `progress` how many are done."""
        if total is None:
            items = list(items)
            total = len(items)
        for done, item in enumerate(items):
            yield item
            if self.progress is not None:
                self.progress(what, done + 1, total)


def batches(calibration: Any) -> Sequence[Batch] | None:
    """Calibration as a sequence: a single array is one batch; a sequence stays as it is, and may read its batches when they are used; a loader is
    read once."""
    if calibration is None:
        return None
    if hasattr(calibration, "shape") or isinstance(calibration, Mapping):
        return [calibration]
    if isinstance(calibration, Sequence) and not isinstance(calibration, str):
        return calibration
    if not isinstance(calibration, Iterable):
        raise TersorError(f"calibration must be a list of batches, got {type(calibration).__name__}")
    return list(calibration)


@contextmanager
def open_progress(progress: Progress | bool | None) -> Iterator[Progress | None]:
    """The given function; for True a bar on standard error if that is a terminal; otherwise None."""
    if callable(progress):
        yield progress
    elif not progress or not sys.stderr.isatty():
        yield None
    else:
        from rich.console import Console
        from rich.progress import Progress as Bar

        tasks: dict[str, Any] = {}
        with Bar(console=Console(stderr=True), transient=True) as bar:

            def show(what: str, done: int, total: int) -> None:
                name = what.partition(": ")[0]
                if name not in tasks:
                    tasks[name] = bar.add_task(what, total=total)
                bar.update(tasks[name], description=what, completed=done, total=total)
                if done >= total:
                    bar.remove_task(tasks.pop(name))

            yield show
