"""One row for each op of a graph, or each kernel of a compiled model: type, shape, parameters, MACs, bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..ir.digraph import node_names, precision, to_networkx
from ..ir.graph import Graph
from ..ir.op import Const

if TYPE_CHECKING:
    from ..backend.runtime.model import CompiledModel


@dataclass(frozen=True)
class Layer:
    """An op of a graph, or a kernel of a compiled model.

    name: of the result, or the number of the kernel. op: what it does; a kernel's ops are joined by `+`. parameters, weight_bytes: of the constants
    that it reads (0 for kernels, whose weights are packed). bytes: operands and results, each once. template: of the kernel.
    ms: time in ms, sqnr: dB against another graph; None where they were not measured.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    elem: str
    precision: str
    parameters: int
    weight_bytes: int
    macs: int
    bytes: int
    path: str
    source: str
    template: str = ""
    ms: float | None = None
    sqnr: float | None = None


class Layers:
    """Rows in order; `str()` is a plain table, `cells()` header and lines, `to_json()` rows and totals."""

    def __init__(self, rows: Sequence[Layer], kind: str, weight_bytes: int):
        self.rows = tuple(rows)
        #: `ops` of a graph or `kernels` of a compiled model
        self.kind = kind
        #: of all weights, each counted once even if several layers read it
        self.weight_bytes = weight_bytes

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.rows)

    @property
    def macs(self) -> int:
        return sum(r.macs for r in self.rows)

    @property
    def summary(self) -> str:
        """The totals as a sentence."""
        by_precision: dict[str, int] = {}
        for r in self.rows:
            by_precision[r.precision] = by_precision.get(r.precision, 0) + r.macs
        shares = ", ".join(f"{name} {count / self.macs:.0%}" for name, count in by_precision.items() if count and name)
        return f"{len(self)} {self.kind}, {self.macs:,} MACs{f' ({shares})' if shares else ''}, weights {self.weight_bytes:,} bytes"

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and lines, without the columns that no row fills. The first three hold words."""
        header = ["layer", "op", "source", "shape", "type", "template", "parameters", "MACs", "share", "bytes", "ms", "SQNR, dB"]
        lines = [
            [
                r.name,
                r.op.removeprefix("nn."),
                r.path or r.source,
                "x".join(map(str, r.shape)),
                r.elem if r.precision in ("", r.elem) else f"{r.elem} in {r.precision}",
                r.template,
                f"{r.parameters:,}" if r.parameters else "",
                f"{r.macs:,}" if r.macs else "",
                f"{r.macs / self.macs:.1%}" if r.macs else "",
                f"{r.bytes:,}",
                "" if r.ms is None else f"{r.ms:.4f}",
                "" if r.sqnr is None else f"{r.sqnr:.1f}",
            ]
            for r in self.rows
        ]
        shown = [c for c in range(len(header)) if c < 3 or any(line[c] for line in lines)]
        return [header[c] for c in shown], [[line[c] for c in shown] for line in lines]

    def __str__(self) -> str:
        header, lines = self.cells()
        widths = [max(map(len, column)) for column in zip(header, *lines)]
        text = ["  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip() for line in [header, *lines]]
        return "\n".join([*text, self.summary])

    def to_json(self) -> str:
        """An object with `layers`, `kind`, `macs` and `weight_bytes`; an SQNR without noise is the string "inf"."""
        rows = [{k: "inf" if v == float("inf") else v for k, v in asdict(r).items()} for r in self.rows]
        return json.dumps({"kind": self.kind, "macs": self.macs, "weight_bytes": self.weight_bytes, "layers": rows}, indent=1)


def layers(model: Graph | CompiledModel, times: Mapping[str, float] | None = None, sqnrs: Mapping[str, float] | None = None) -> Layers:
    """The rows of a graph, constants left out, or of a compiled model at its first batch.

    times, sqnrs: by the name of a row, as `reports.times` and `reports.sqnrs` give them.
    """
    times, sqnrs = times or {}, sqnrs or {}
    return _of_graph(model, times, sqnrs) if isinstance(model, Graph) else _of_kernels(model, times)


def _of_graph(graph: Graph, times: Mapping[str, float], sqnrs: Mapping[str, float]) -> Layers:
    nodes, names = to_networkx(graph).nodes, node_names(graph)
    rows = []
    for op in graph.ops:
        if isinstance(op, Const):
            continue
        name = names[op.outs[0]]
        facts = {key: nodes[name][key] for key in ("op", "shape", "elem", "parameters", "weight_bytes", "macs", "bytes", "path")}
        source = f"{op.loc.file}:{op.loc.line}" if op.loc.file else ""
        rows.append(Layer(name, **facts, precision=precision(op), source=source, ms=times.get(name), sqnr=sqnrs.get(name)))
    return Layers(rows, "ops", graph.nbytes())


def _of_kernels(model: CompiledModel, times: Mapping[str, float]) -> Layers:
    rows = []
    for i, s in enumerate(model.entry().steps):
        path, _, source = s.loc.rpartition(" at ")
        name = str(i)
        rows.append(Layer(name, s.op, s.shape, "", "", 0, 0, s.macs, s.bytes, path, source, s.template, times.get(name)))
    return Layers(rows, "kernels", model.report.weights)
