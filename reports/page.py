"""The report page: one self-contained HTML file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..ir.errors import TersorError
from ..ir.graph import Graph
from .layers import Layer, Layers, layers
from .layout import HEIGHT, WIDTH, layered
from .measures import sqnrs as sqnrs_of
from .measures import times as times_of
from .roofline import Roofline
from .tradeoff import Front, Tradeoff

if TYPE_CHECKING:
    import torch

    from ..backend.runtime.measure import Profile
    from ..backend.runtime.model import CompiledModel

#: Quantities that nodes can be coloured by: attribute, label, unit.
COLOURS = (("ms", "time", "ms"), ("macs", "MACs", ""), ("bytes", "bytes moved", ""), ("sqnr", "SQNR", "dB"), ("precision", "precision", ""))
#: SQNR in dB from which on the colour does not change.
NO_NOISE = 200.0


@dataclass(frozen=True)
class Node:
    """A box: its centre, two lines of text, and the details shown on a click."""

    name: str
    x: float
    y: float
    title: str
    subtitle: str
    kind: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Edge:
    """A line through points, and the shape written beside it."""

    d: str
    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Drawing:
    """One drawn graph, with its title and its table of layers."""

    title: str
    nodes: list[Node]
    edges: list[Edge]
    width: float
    height: float
    layers: Layers


def report(
    model: Graph | CompiledModel,
    path: str | Path,
    *,
    before: Graph | None = None,
    profile: bool | Profile = False,
    inputs: Sequence[torch.Tensor] | None = None,
    ledger: Any = None,
    front: Front | str | Path | None = None,
    title: str | None = None,
) -> Path:
    """Write `report.html`: the graph drawn, its layers, costs and ledger, in one file that needs no network.

    model: a graph, or a compiled model, whose kernels are drawn in the order in which they run. before: another graph to draw beside it; values of
    the same name are compared (SQNR) on `inputs`, by default random ones. profile: True compiles a graph for one thread of this machine and
    measures it; or an existing profile. ledger: of `transform`; by default that of the graph, if it came from `transform`.
    front: the result of `tersor.auto`, or the file of its `to_json`: drawn as quality against latency and bytes.

    Raises TersorError where the path does not end in .html or has no folder, and for `before` with a compiled model.
    """
    path = Path(path)
    if path.suffix != ".html":
        raise TersorError(f"cannot write {path}: expected a name that ends in .html")
    if not path.resolve().parent.is_dir():
        raise TersorError(f"cannot write {path}: there is no folder {path.parent}")
    if before is not None and not isinstance(model, Graph):
        raise TersorError("a compiled model has kernels and not the values of its graph: give `before` with a graph")
    measured = _profile(model, profile)
    drawings = []
    if isinstance(model, Graph):
        decibels = sqnrs_of(model, before, inputs or _random(model)) if before is not None else {}
        drawings.append(draw_graph(model, title or model.name, times_of(model, measured) if measured else {}, decibels))
        if before is not None:
            drawings.insert(0, draw_graph(before, "before", {}, {}))
        ledger = model.report if ledger is None else ledger
    else:
        times = {str(row.step): row.time for row in measured.rows} if measured else {}
        drawings.append(draw_kernels(model, title or model.manifest.name, times))
    tradeoff = Tradeoff.of(front) if front is not None else None
    path.write_text(page(drawings, measured, ledger, title or drawings[-1].title, tradeoff), encoding="utf-8")
    return path


def _profile(model: Graph | CompiledModel, profile: bool | Profile) -> Profile | None:
    if not isinstance(profile, bool):
        return profile
    if not profile:
        return None
    if not isinstance(model, Graph):
        return model.profile()
    from ..backend.compile import compile as compile_graph

    exe = compile_graph(model)
    return exe.profile(batch=exe.entries[0].batch)


def _random(graph: Graph) -> Sequence[torch.Tensor]:
    from ..passes.core.samples import samples

    return samples(graph, None, 0)[0]


def draw_graph(graph: Graph, title: str, times: Mapping[str, float], sqnrs: Mapping[str, float]) -> Drawing:
    """The drawing of a graph."""
    table = layers(graph, times, sqnrs)
    known = {row.name: row for row in table}
    digraph = graph.to_networkx(times)
    facts = {}
    for name, data in digraph.nodes.items():
        row = known.get(name)
        facts[name] = {"op": data["op"], "type": data["type"], "precision": data["precision"] if row else "", "source": data["loc"]}
        if row is not None:
            facts[name] |= {"macs": row.macs, "bytes": row.bytes, "parameters": row.parameters, "ms": row.ms, "sqnr": row.sqnr}
    return _drawing(digraph, facts, title, table)


def draw_kernels(model: CompiledModel, title: str, times: Mapping[str, float]) -> Drawing:
    """The drawing of a compiled model: its kernels in a chain, since it does not store their data flow."""
    import networkx

    table = layers(model, times)
    digraph = networkx.MultiDiGraph()
    facts: dict[str, dict[str, Any]] = {}
    last: Layer | None = None
    for row in table:
        digraph.add_node(row.name, op=row.op, path=row.path, kind="op")
        facts[row.name] = {"op": row.op, "template": row.template, "source": " at ".join(p for p in (row.path, row.source) if p)}
        facts[row.name] |= {"shape": "x".join(map(str, row.shape)), "macs": row.macs, "bytes": row.bytes, "ms": row.ms}
        if last is not None:
            digraph.add_edge(last.name, row.name, shape=last.shape)
        last = row
    return _drawing(digraph, facts, title, table)


def _drawing(digraph: Any, facts: Mapping[str, dict[str, Any]], title: str, table: Layers) -> Drawing:
    layout = layered(digraph)
    nodes = []
    for name, (x, y) in layout.places.items():
        data = digraph.nodes[name]
        clean = {k: round(min(v, NO_NOISE), 6) if isinstance(v, float) else v for k, v in facts[name].items() if v not in (None, "")}
        title_ = name if data["kind"] in ("input", "output") else data["op"].removeprefix("nn.")
        nodes.append(Node(name, round(x, 1), round(y, 1), _cut(title_), _cut(data["path"] or data["op"]), data["kind"], clean))
    edges = [Edge(curve(points), *label_place(points), "x".join(map(str, digraph.edges[edge]["shape"]))) for edge, points in layout.routes.items()]
    return Drawing(title, nodes, edges, layout.width, layout.height, table)


def _cut(text: str) -> str:
    """The end of a long name, its most distinctive part."""
    return text if len(text) <= 24 else "…" + text[-23:]


def curve(points: Sequence[tuple[float, float]]) -> str:
    """An SVG path from the lower edge of the first box to the upper edge of the last."""
    (x, y), *rest = points
    y += HEIGHT / 2
    d = [f"M{x:.0f} {y:.0f}"]
    for i, (nx, ny) in enumerate(rest):
        if i == len(rest) - 1:
            ny -= HEIGHT / 2
        middle = (y + ny) / 2
        d.append(f"C{x:.0f} {middle:.0f} {nx:.0f} {middle:.0f} {nx:.0f} {ny:.0f}")
        x, y = nx, ny
    return "".join(d)


def label_place(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Where an edge's label goes: right of its first segment."""
    (x, y), (nx, ny) = points[0], points[1]
    return round(x + (nx - x) / 2 + 4, 1), round(y + (ny - y) / 2, 1)


def page(drawings: Sequence[Drawing], profile: Profile | None, ledger: Any, title: str, tradeoff: Tradeoff | None = None) -> str:
    """The HTML."""
    import jinja2

    there = {key for d in drawings for n in d.nodes for key in n.facts}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text: str = environment.get_template("page.html.j2").render(
        title=title,
        drawings=drawings,
        colours=[c for c in COLOURS if c[0] in there],
        profile=profile,
        roofline=Roofline.of(profile) if profile is not None else None,
        ledger=ledger,
        tradeoff=tradeoff,
        box=(WIDTH, HEIGHT),
        style=(Path(__file__).parent / "page.css").read_text(),
        script=(Path(__file__).parent / "page.js").read_text(),
        finite=math.isfinite,
    )
    return text
