"""Instruments: callbacks around every pass of a transform."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from .base import Pass
from .check import outputs, relative_error
from .context import Batch, Context
from .pipeline import format_pass
from .report import Row
from .samples import arguments, tensors


@dataclass(frozen=True)
class Step:
    """One pass of a running transform; `index` counts from 1 to `total`. The graph is the one before or after the pass; `row` is set after it."""

    pass_: Pass
    index: int
    total: int
    graph: Graph
    ctx: Context
    row: Row | None = None

    def __str__(self) -> str:
        return f"pass {self.pass_.name!r} ({self.index} of {self.total})"


class Instrument:
    """Base of instruments: override one or both methods. An exception stops the transform."""

    def before(self, step: Step) -> None:
        """Called with the graph that the pass is going to change."""

    def after(self, step: Step) -> None:
        """Called with the verified graph and its row of the ledger."""


class DumpAfterEach(Instrument):
    """Write the text of the graph before the first pass and after each: to `00-input.mlir`, `01-fold-bn.mlir`, … in a folder, or to a stream."""

    def __init__(self, target: str | Path | TextIO):
        self.folder = Path(target) if isinstance(target, (str, Path)) else None
        self.stream = None if isinstance(target, (str, Path)) else target
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def before(self, step: Step) -> None:
        if step.index == 1:
            self._write(0, "input", step.graph)

    def after(self, step: Step) -> None:
        self._write(step.index, format_pass(step.pass_), step.graph)

    def _write(self, index: int, name: str, graph: Graph) -> None:
        if self.folder is not None:
            short = re.sub(r"[^\w.-]", "_", name.partition("{")[0])
            (self.folder / f"{index:02}-{short}.mlir").write_text(str(graph))
        if self.stream is not None:
            self.stream.write(f"// ---- {index} {name}\n{graph}\n")


class Timing(Instrument):
    """Write a line per pass as it ends: its time, ops and rewrites."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def after(self, step: Step) -> None:
        if step.row is not None:
            rewrites = ", ".join(f"{name} {count}" for name, count in step.row.rewrites.items())
            self.stream.write(f"{step.row.seconds * 1e3:8.1f} ms  {format_pass(step.pass_)}  {step.row.ops} ops  {rewrites}".rstrip() + "\n")


class StopAtFirstBad(Instrument):
    """Stop at the first pass after which the graph is bad, with an error that names it.

    Bad: an output that differs by more than `tolerance` (max|y - y'| / max|y|) from those of the graph before the first pass on the given
    batch, or that is no longer finite; or what `is_bad(graph)` says.
    """

    def __init__(self, batch: Batch = None, tolerance: float = 1e-3, is_bad: Callable[[Graph], bool] | None = None):
        if (batch is None) == (is_bad is None):
            raise TersorError("StopAtFirstBad needs a batch to compare on, or a function is_bad(graph)")
        self.batch = batch
        self.tolerance = tolerance
        self.is_bad = is_bad
        self.expected: Sequence[np.ndarray] = ()

    def before(self, step: Step) -> None:
        if step.index == 1 and self.is_bad is None:
            self.expected = self._run(step.graph)

    def after(self, step: Step) -> None:
        if self.is_bad is not None:
            if self.is_bad(step.graph):
                raise TersorError(f"{step} is the first after which the graph is bad")
            return
        error = relative_error(self.expected, self._run(step.graph))
        if error > self.tolerance:
            raise TersorError(f"{step} is the first bad one: its outputs differ from the input's by {error:.1e}, more than {self.tolerance:.1e}")

    def _run(self, graph: Graph) -> Sequence[np.ndarray]:
        return outputs(graph, tensors(arguments(graph, self.batch)))
