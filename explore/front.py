"""The result of a search: its Pareto front, as a table, a picture and pipelines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..ir.errors import TersorError
from ..ir.graph import Graph

if TYPE_CHECKING:
    from ..backend.runtime.model import CompiledModel


@dataclass(frozen=True)
class Point:
    """A network: the pipeline that makes it; its quality; latency in ms; bytes of its entropy-coded file."""

    pipeline: str
    quality: float
    latency: float
    nbytes: int


@dataclass(frozen=True)
class Budget:
    """Limits on ms, on bytes, and on the quality lost against the original network."""

    text: str
    latency: float | None = None
    nbytes: float | None = None
    loss: float | None = None

    @classmethod
    def parse(cls, text: str | None) -> Budget:
        """`"5 ms"`, `"2 MB"` (kB, B), `"-1 %"`; several, separated by commas."""
        limits: dict[str, float] = {}
        units = {"ms": ("latency", 1.0), "MB": ("nbytes", 1e6), "kB": ("nbytes", 1e3), "B": ("nbytes", 1.0), "%": ("loss", 0.01)}
        for part in (text or "").split(","):
            number, _, unit = part.strip().partition(" ")
            if not part.strip():
                continue
            try:
                value = float(number)
            except ValueError:
                value = float("nan")
            field, factor = units.get(unit.strip(), ("", 0.0))
            if not field or not (value <= 0 if field == "loss" else value > 0):
                raise TersorError(f'expected a budget such as "5 ms", "2 MB" or "-1 %" (of quality), got {part.strip()!r}')
            if field in limits:
                raise TersorError(f"the budget {text!r} says {unit} twice")
            limits[field] = abs(value) * factor
        return cls(text or "", limits.get("latency"), limits.get("nbytes"), limits.get("loss"))

    def excess(self, point: Point, first: Point) -> list[float]:
        """How far a point is above each limit; 0 or less where it is within."""
        found = []
        if self.latency is not None:
            found.append(point.latency / self.latency - 1)
        if self.nbytes is not None:
            found.append(point.nbytes / self.nbytes - 1)
        if self.loss is not None:
            found.append(first.quality - point.quality - self.loss)
        return found

    def allows(self, point: Point, first: Point) -> bool:
        return all(e <= 1e-12 for e in self.excess(point, first))


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other is at least as good as in all and better in one, best quality first; of equal ones the first."""
    kept: list[Point] = []
    for p in points:
        mine = (-p.quality, p.latency, p.nbytes)
        others = [(-q.quality, q.latency, q.nbytes) for q in points]
        dominated = any(all(a <= b for a, b in zip(o, mine)) and o != mine for o in others)
        if not dominated and not any((-q.quality, q.latency, q.nbytes) == mine for q in kept):
            kept.append(p)
    return sorted(kept, key=lambda p: (-p.quality, p.latency))


@dataclass(frozen=True)
class Front:
    """The result of `tersor.auto`: iterates over its points.

    measure: how quality is measured (accuracy, agreement, SQNR). first: the original network. points: the front. tried: all points.
    failed: pipelines that gave an error, with the error. make, build: a point's graph and compiled model.
    """

    measure: str
    budget: Budget
    first: Point
    points: list[Point]
    tried: list[Point]
    failed: dict[str, str]
    make: Callable[[str], Graph]
    build: Callable[[Graph], CompiledModel]

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def best(self) -> Point:
        """The best point within the budget: by quality, or by latency where the budget limits quality. Raises where no point is within it."""
        inside = [p for p in self.tried if self.budget.allows(p, self.first)]
        if not inside:
            raise TersorError(f"none of {len(self.tried)} networks keeps to the budget {self.budget.text!r}; the front has {self._range()}")
        if self.budget.loss is not None:
            return min(inside, key=lambda p: p.latency)
        return max(inside, key=lambda p: (p.quality, -p.latency))

    def _range(self) -> str:
        low, high = min(p.latency for p in self.points), max(p.latency for p in self.points)
        return f"{low:.3g} to {high:.3g} ms, {min(p.nbytes for p in self.points):,} to {max(p.nbytes for p in self.points):,} bytes"

    def graph(self, point: Point) -> Graph:
        """The network of a point, made again by its pipeline."""
        return self.make(point.pipeline)

    def compile(self, point: Point) -> CompiledModel:
        """The compiled network of a point."""
        return self.build(self.graph(point))

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and lines of the table."""
        header = [self.measure, "latency", "bytes", "within", "pipeline"]
        return header, [
            [f"{p.quality:.4f}", f"{p.latency:.4g} ms", f"{p.nbytes:,}", "yes" if self.budget.allows(p, self.first) else "no", p.pipeline]
            for p in self.points
        ]

    def __str__(self) -> str:
        header, lines = self.cells()
        widths = [max(map(len, column)) for column in zip(header, *lines)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in [header, *lines])

    def to_json(self, path: str | Path | None = None) -> str:
        """The points, all pipelines tried, and those that failed."""
        content: dict[str, Any] = {
            "measure": self.measure,
            "budget": self.budget.text,
            "first": asdict(self.first),
            "front": [asdict(p) for p in self.points],
            "tried": [asdict(p) for p in self.tried],
            "failed": self.failed,
        }
        text = json.dumps(content, indent=1)
        if path is not None:
            Path(path).write_text(text)
        return text

    def draw(self, path: str | Path) -> None:
        """Save a picture (needs matplotlib): quality against latency and against bytes, for all points and the front."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise TersorError("drawing a front needs matplotlib: pip install matplotlib") from None
        figure = Figure(figsize=(9, 4), layout="constrained")
        for axis, (label, of) in zip(figure.subplots(1, 2), (("latency, ms", _latency), ("bytes", _nbytes)), strict=True):
            axis.plot([of(p) for p in self.tried], [p.quality for p in self.tried], "o", color="lightgrey", label="tried")
            front = sorted(self.points, key=of)
            axis.plot([of(p) for p in front], [p.quality for p in front], "o", label="front")
            axis.plot([of(self.first)], [self.first.quality], "k*", label="as it was")
            axis.set_xlabel(label)
            axis.set_ylabel(self.measure)
            axis.legend()
        figure.savefig(path)


def _latency(p: Point) -> float:
    return p.latency


def _nbytes(p: Point) -> float:
    return float(p.nbytes)
