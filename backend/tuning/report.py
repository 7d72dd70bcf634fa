"""The report of tuning: for each fusion the cost model's choice, the tuned one, and how much slower the former is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..kernels.metaschedule.template import NAME
from ..tuned.database import Database, Entry
from .build import Task
from .metaschedule import Searched


@dataclass(frozen=True)
class Comparison:
    """A fusion. count: how often the network has it; macs: of one. model, tuned: the choices; ms: None where not measured.

    loss: time of the model's choice over that of the tuned one, minus one. chain: it competes with separate kernels, which have their own rows.
    """

    key: str
    count: int
    macs: int
    candidates: int
    model: str
    tuned: str
    model_ms: float | None
    tuned_ms: float | None
    chain: bool = False

    @property
    def loss(self) -> float | None:
        return self.model_ms / self.tuned_ms - 1 if self.model_ms is not None and self.tuned_ms else None


@dataclass(frozen=True)
class Problem:
    """A candidate that did not build, or whose result differs from the interpreter's."""

    key: str
    template: str
    params: dict[str, Any]
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {shown(self.template, self.params)}: {self.message}"


@dataclass(frozen=True)
class Tuning:
    """Result of `tune`. rows: fusions with more than one option; measured, left: how many were measured now, and how many the time limit left out.

    searched: the outcome of MetaSchedule for each fusion, if it was used.
    """

    rows: tuple[Comparison, ...]
    problems: tuple[Problem, ...]
    database: Database
    target: str
    threads: int
    seconds: float
    measured: int
    left: int
    searched: tuple[Searched, ...] = ()

    @property
    def model_ms(self) -> float:
        """Total time of the fusions in the network with the model's choices; only fusions with both times, and not chains."""
        return sum(r.count * r.model_ms for r in self.rows if r.model_ms is not None and r.tuned_ms is not None and not r.chain)

    @property
    def tuned_ms(self) -> float:
        """The same with the tuned choices."""
        return sum(r.count * r.tuned_ms for r in self.rows if r.model_ms is not None and r.tuned_ms is not None and not r.chain)

    @property
    def loss(self) -> float:
        """Loss of the model's choices against the tuned ones, over these fusions together."""
        return self.model_ms / self.tuned_ms - 1 if self.tuned_ms else 0.0

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and lines of the table; the slowest fusions by the model first."""
        header = ["fusion", "model", "tuned", "times", "candidates", "model, ms", "tuned, ms", "loss"]
        return header, [
            [
                r.key,
                r.model,
                "the same" if r.tuned == r.model else r.tuned,
                str(r.count),
                str(r.candidates),
                "" if r.model_ms is None else f"{r.model_ms:.4f}",
                "" if r.tuned_ms is None else f"{r.tuned_ms:.4f}",
                "" if r.loss is None else f"{r.loss:.1%}",
            ]
            for r in self.rows
        ]

    @property
    def complaints(self) -> list[str]:
        """A line for each kind of problem: the first of it in full, and how many more there are."""
        kinds: dict[tuple[str, str], list[Problem]] = {}
        for p in self.problems:
            kinds.setdefault((p.template, p.message.partition(": error")[0]), []).append(p)
        return [str(own[0]) + (f" (and {len(own) - 1} more)" if len(own) > 1 else "") for own in kinds.values()]

    @property
    def summary(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        made = f"{self.measured} measured now in {self.seconds:.0f} s" if self.measured else "none measured now"
        left = f", {self.left} not in the database" if self.left else ""
        chains = sum(r.chain for r in self.rows)
        fusions = f"{len(self.rows) - chains} distinct fusions with a choice" + (f" and {chains} chains" if chains else "")
        return (
            f"{fusions}, {made}{left}; cold kernel times in the network: {self.model_ms:.3f} ms by the model, {self.tuned_ms:.3f} ms tuned, "
            f"loss {self.loss:.1%} ({threads}, {self.target})"
        )

    def __str__(self) -> str:
        header, lines = self.cells()
        widths = [max(map(len, column)) for column in zip(header, *lines)]
        table = ["  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip() for line in (header, *lines)]
        return "\n".join([*table, *map(str, self.searched), *self.complaints, self.summary])

    def to_json(self, path: str | Path | None = None) -> str:
        """Everything but the database as a JSON object, written to a file if one is named."""
        data = {
            "target": self.target,
            "threads": self.threads,
            "seconds": self.seconds,
            "measured": self.measured,
            "left": self.left,
            "model_ms": self.model_ms,
            "tuned_ms": self.tuned_ms,
            "loss": self.loss,
            "rows": [asdict(r) | {"loss": r.loss} for r in self.rows],
            "problems": [asdict(p) for p in self.problems],
            "searched": [asdict(s) for s in self.searched],
        }
        text = json.dumps(data, indent=1)
        if path is not None:
            Path(path).write_text(text + "\n")
        return text


def shown(template: str, params: dict[str, Any]) -> str:
    """`direct {chunk=7}`"""
    return template + (f" {{{' '.join(f'{k}={v}' for k, v in params.items())}}}" if params else "")


def compared(tasks: Sequence[Task], entries: dict[str, Entry]) -> list[Comparison]:
    """A row for each task; the first of its options is the model's choice."""
    rows = []
    for task in tasks:
        (template, params), entry = task.options[0], entries.get(task.key)
        model = entry.of(template.name, params) if entry is not None else None
        tuned = "" if entry is None else shown(entry.template, entry.params) if entry.found is None else NAME
        times = (model.ms if model is not None else None, entry.ms if entry is not None else None)
        rows.append(
            Comparison(task.key, task.count, task.op.macs(), len(task.options), shown(template.name, params), tuned, *times, bool(task.parts))
        )
    return rows
