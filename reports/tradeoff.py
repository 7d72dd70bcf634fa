"""Plots of the result of `tersor.auto`: quality against latency, and against bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..ir.errors import TersorError

#: Pixels of a plot, and of its margins.
WIDTH, HEIGHT, LEFT, BELOW = 420.0, 260.0, 60.0, 40.0
#: Steps between the ends of an axis.
TICKS = 4


class Front(Protocol):
    """The result of `tersor.auto`."""

    def to_json(self) -> str: ...


@dataclass(frozen=True)
class Dot:
    """One network in a plot. kind: `front`, `tried`, or `first` for the original."""

    x: float
    y: float
    name: str
    kind: str


@dataclass(frozen=True)
class Plot:
    """Dots in pixels. across, up: labels of the axes; ticks: (pixel, text)."""

    across: str
    up: str
    dots: list[Dot]
    ticks_x: list[tuple[float, str]]
    ticks_y: list[tuple[float, str]]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    below: float = BELOW


@dataclass(frozen=True)
class Tradeoff:
    """Both plots, and the table of the front."""

    plots: list[Plot]
    header: list[str]
    lines: list[list[str]]

    @classmethod
    def of(cls, front: Front | str | Path) -> Tradeoff:
        """From the result of `tersor.auto`, or the file that its `to_json` wrote. Raises TersorError for any other file."""
        found = _read(front) if isinstance(front, str | Path) else json.loads(front.to_json())
        measure, first, best = found["measure"], found["first"], found["front"]
        plots = [_plot(found, measure, key, words) for key, words in (("latency", "latency, ms"), ("nbytes", "kB"))]
        lines = [[p["pipeline"] or "as it was", f"{p['quality']:.4f}", f"{p['latency']:.4g}", f"{p['nbytes'] / 1e3:.1f}"] for p in [first, *best]]
        return cls(plots, ["pipeline", measure, "latency, ms", "kB"], lines)


def _read(path: str | Path) -> Any:
    try:
        found = json.loads(Path(path).read_text())
        for point in (found["first"], *found["front"], *found["tried"]):
            float(point["quality"]), float(point["latency"]), int(point["nbytes"]), str(point["pipeline"])
        return found | {"measure": str(found["measure"])}
    except FileNotFoundError:
        raise TersorError(f"there is no file {path}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TersorError(f"{path} is no front that `tersor auto --json` or `front.to_json` writes: {error}") from None


def _plot(found: Any, measure: str, key: str, words: str) -> Plot:
    scale = 1e-3 if key == "nbytes" else 1.0
    kept = {p["pipeline"] for p in found["front"]}
    points = [("tried", p) for p in found["tried"] if p["pipeline"] not in kept]
    points += [("front", p) for p in found["front"]] + [("first", found["first"])]
    x0, x1 = _span([p[key] * scale for _, p in points])
    y0, y1 = _span([p["quality"] for _, p in points])

    def px(value: float) -> float:
        return round(LEFT + WIDTH * (value - x0) / (x1 - x0), 1)

    def py(value: float) -> float:
        return round(HEIGHT * (1 - (value - y0) / (y1 - y0)), 1)

    dots = [
        Dot(px(p[key] * scale), py(p["quality"]), f"{p['pipeline'] or 'as it was'}: {measure} {p['quality']:.4f}, {p[key] * scale:.4g} {words}", kind)
        for kind, p in points
    ]
    xs, ys = ([low + (high - low) * i / TICKS for i in range(TICKS + 1)] for low, high in ((x0, x1), (y0, y1)))
    return Plot(words, measure, dots, [(px(v), f"{v:.3g}") for v in xs], [(py(v), f"{v:.3g}") for v in ys])


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with a margin, even where all are equal."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or max(abs(high), 1.0) * 0.1
    return low - room, high + room
