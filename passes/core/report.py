"""The ledger of a transform: what each pass cost and what it left."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Const

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """The graph after one pass (the first row: before the first pass).

    seconds: of the pass alone. ops: without constants. parameters, nbytes: elements and bytes of all constants. macs: at the graph's own batch.
    rewrites: applications by pattern. error: max|y - y'| / max|y| of a checked numeric pass against its own input.
    sqnr: dB of the outputs against those of the first row in float64. accuracy: what `evaluate` gave.
    layers: the pass's report on each layer, as dataclasses.
    """

    name: str
    keeps: str
    seconds: float
    ops: int
    parameters: int
    macs: int
    nbytes: int
    rewrites: dict[str, int] = field(default_factory=dict)
    error: float | None = None
    sqnr: float | None = None
    accuracy: float | None = None
    layers: list[Any] = field(default_factory=list)


def measure(graph: Graph, name: str, keeps: str = "", seconds: float = 0.0, **more: Any) -> Row:
    """The row of a graph."""
    constants = [op for op in graph if isinstance(op, Const)]
    parameters = sum(op.out.type.size for op in constants)
    return Row(name, keeps, seconds, graph.count_ops(), parameters, graph.macs(), graph.nbytes(), **more)


@dataclass
class Ledger:
    """Rows in the order of the passes. `str()` is a plain table; `rich.print` shows it in colour."""

    rows: list[Row] = field(default_factory=list)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | str) -> Row:
        """A row by index, or the last one of a pass by its name."""
        if isinstance(key, int):
            return self.rows[key]
        for row in reversed(self.rows):
            if key in (row.name, row.name.partition("{")[0]):
                return row
        raise TersorError(f"the ledger has no pass {key!r}; passes: {', '.join(r.name for r in self.rows)}")

    @property
    def seconds(self) -> float:
        """Time of all passes."""
        return sum(row.seconds for row in self.rows)

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and lines of the table, without the columns that no row fills."""
        header = ["pass", "keeps", "time", "ops", "parameters", "MACs", "bytes", "rewrites", "error", "SQNR", "accuracy"]
        lines = [
            [
                row.name,
                row.keeps,
                f"{row.seconds * 1e3:.1f} ms" if i else "",
                str(row.ops),
                _scaled(row.parameters),
                _scaled(row.macs),
                _scaled(row.nbytes) + "B",
                str(sum(row.rewrites.values()) or ""),
                "" if row.error is None else f"{row.error:.1e}",
                "" if row.sqnr is None else f"{row.sqnr:.1f} dB",
                "" if row.accuracy is None else f"{row.accuracy:.4g}",
            ]
            for i, row in enumerate(self.rows)
        ]
        shown = [c for c in range(len(header)) if any(line[c] for line in lines)]
        return [header[c] for c in shown], [[line[c] for c in shown] for line in lines]

    def __str__(self) -> str:
        header, lines = self.cells()
        widths = [max(map(len, column)) for column in zip(header, *lines)]
        text = [header, ["-" * w for w in widths], *lines]
        left = sum(name in ("pass", "keeps") for name in header)
        return "\n".join("  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip() for line in text)

    def __rich__(self) -> Table:
        from rich.table import Table

        header, lines = self.cells()
        table = Table()
        for name in header:
            table.add_column(name, justify="left" if name in ("pass", "keeps") else "right")
        for line in lines:
            table.add_row(*(cell.replace("[", r"\[") for cell in line))
        return table

    def to_json(self, path: str | Path | None = None) -> str:
        """The rows as a JSON list, written to a file if one is named; an infinite SQNR (no difference) is the string "inf"."""
        rows = [{k: "inf" if isinstance(v, float) and math.isinf(v) else v for k, v in asdict(row).items()} for row in self.rows]
        text = json.dumps(rows, indent=1)
        if path is not None:
            Path(path).write_text(text)
        return text

    def draw(self, path: str | Path) -> None:
        """Save a picture (needs matplotlib): parameters, MACs and bytes as a share of the first row, and SQNR and accuracy where known."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise TersorError("drawing a ledger needs matplotlib: pip install matplotlib") from None
        names = [f"{i} {row.name.partition('{')[0]}" for i, row in enumerate(self.rows)]
        extra = {"SQNR, dB": [r.sqnr for r in self.rows], "accuracy": [r.accuracy for r in self.rows]}
        extra = {k: v for k, v in extra.items() if any(x is not None for x in v)}
        figure = Figure(figsize=(2 + 0.9 * len(names), 3 * (1 + len(extra))), layout="constrained")
        axes = figure.subplots(1 + len(extra), 1, squeeze=False)[:, 0]
        first = self.rows[0]
        for k, (label, key) in enumerate({"parameters": "parameters", "MACs": "macs", "bytes": "nbytes"}.items()):
            share = [getattr(row, key) / (getattr(first, key) or 1) for row in self.rows]
            axes[0].bar([i + 0.27 * (k - 1) for i in range(len(names))], share, 0.25, label=label)
        axes[0].set_ylabel("share of the input")
        axes[0].legend()
        for axis, (label, values) in zip(axes[1:], extra.items()):
            axis.plot([i for i, x in enumerate(values) if x is not None], [x for x in values if x is not None], "o-")
            axis.set_ylabel(label)
        for axis in axes:
            axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
        figure.savefig(path)


def _scaled(n: int) -> str:
    """Three digits and a decimal prefix: 25557032 -> 25.6 M."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= factor:
            return f"{n / factor:.3g} {prefix}"
    return f"{n} "
