"""The report of a small network: what is drawn, and what a browser makes of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import networkx
import numpy as np
import pytest
import torch
from browser import after, needs_chromium, screenshot
from torch import nn

import tersor
from tersor.backend.runtime.measure import Profile, Row
from tersor.ir.graph import Graph
from tersor.ir.op import Const
from tersor.reports import layers, sqnrs, times
from tersor.reports.layout import HEIGHT, WIDTH, layered
from tersor.reports.roofline import Roofline
from tersor.reports.tradeoff import Tradeoff


class Branches(nn.Module):
    """A residual sum: one edge goes past a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.stem(x))
        y = torch.relu(self.body(y) + y)
        return self.head(y.mean((2, 3)))


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    return tersor.trace(Branches().eval(), (X,))


@pytest.fixture(scope="module")
def int8(graph: Graph) -> Graph:
    return tersor.transform(graph, "int8", calibration=[X])


def profile_of(graph: Graph) -> Profile:
    """A profile without running anything: every convolution takes 1 ms, 2 ms, …"""
    convs = graph.find("nn.conv2d")
    rows = tuple(
        Row(i, "conv2d+relu", f"k{i}", "direct", {}, op.out.shape, 1.0 + i, 1.0, 0.5, op.macs(), 10.0, 0.1, 2.0, str(op.loc), "model")
        for i, op in enumerate(convs)
    )
    return Profile(rows, 100.0, 3.0, 3.0, 2, 1, "cpu")


@pytest.fixture(scope="module")
def page(graph: Graph, int8: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    return tersor.report(int8, path, before=graph, inputs=[X], profile=profile_of(graph), title="branches in <int8>")


def test_networkx_has_ops_as_nodes_and_values_as_edges(graph: Graph) -> None:
    drawn = graph.to_networkx()
    ops = [op for op in graph.ops if not isinstance(op, Const)]
    assert networkx.is_directed_acyclic_graph(drawn) and len(drawn) == len(ops) + 2
    (add,) = [n for n, d in drawn.nodes.items() if d["op"] == "nn.add"]
    assert sorted(drawn.nodes[a]["op"] for a, _ in drawn.in_edges(add)) == ["nn.conv2d", "nn.relu"]
    stem, body = (d for d in drawn.nodes.values() if d["op"] == "nn.conv2d")
    assert stem["macs"] == 2 * 8 * 3 * 9 * 64 and stem["parameters"] == 8 * 3 * 9 + 8 and stem["shape"] == (2, 8, 8, 8)
    assert stem["bytes"] == 4 * (2 * 3 * 64 + 8 * 27 + 8 + 2 * 8 * 64) and body["path"] == "body"
    assert all(d["elem"] == "f32" and d["bytes"] for _, _, d in drawn.edges(data=True))
    assert len(graph.to_networkx(constants=True)) == len(graph) + 2


def test_a_value_read_twice_is_two_edges() -> None:
    graph = tersor.trace(nn.Identity(), (X,))
    g = Graph()
    v = g.add_input(graph.inputs[0].type, "x")
    from tersor.ir.ops import Add

    g.set_outputs([g.add(Add(v, v))])
    drawn = g.to_networkx()
    (add,) = [n for n, d in drawn.nodes.items() if d["op"] == "nn.add"]
    assert drawn.number_of_edges("x", add) == 2


def test_rows_add_up_and_say_what_they_are(graph: Graph, int8: Graph) -> None:
    rows = layers(graph)
    assert rows.macs == graph.macs() and sum(r.weight_bytes for r in rows) == rows.weight_bytes == graph.nbytes()
    assert "stem" in str(rows) and f"{graph.macs():,} MACs (f32 100%)" in str(rows)
    got = json.loads(rows.to_json())
    assert [r["op"] for r in got["layers"]] == [op.name for op in graph.ops if not isinstance(op, Const)]
    heavy = {r.op: r.precision for r in layers(int8) if r.macs}
    assert set(heavy.values()) == {"int8"}


def test_time_goes_to_the_op_of_the_kernel(graph: Graph) -> None:
    found = times(graph, profile_of(graph))
    drawn = graph.to_networkx(found)
    assert [d["ms"] for d in drawn.nodes.values() if d["op"] == "nn.conv2d"] == [1.0, 2.0]
    assert sum("ms" in d for d in drawn.nodes.values()) == 2


def test_sqnr_of_a_value_is_that_of_its_numbers(graph: Graph, int8: Graph) -> None:
    found = sqnrs(int8, graph, [X])
    last = int8.outputs[0].op
    assert last is not None
    a, b = graph(X).double(), int8(X).double()
    expected = 10 * np.log10(float((a**2).sum() / ((b - a) ** 2).sum()))
    named = graph.outputs[0].name
    assert found[named] == pytest.approx(expected, abs=1e-3) and 10 < expected < 80
    assert set(sqnrs(graph, graph, [X]).values()) == {float("inf")}


def test_boxes_do_not_overlap_and_edges_go_down() -> None:
    dag = networkx.MultiDiGraph(networkx.gn_graph(60, seed=3).reverse())
    layout = layered(dag)
    places = list(layout.places.values())
    for i, (x, y) in enumerate(places):
        assert WIDTH / 2 <= x <= layout.width and y <= layout.height
        assert all(abs(x - x2) >= WIDTH or abs(y - y2) >= HEIGHT for x2, y2 in places[:i])
    assert set(layout.routes) == set(dag.edges(keys=True))
    assert all(b[1] > a[1] for route in layout.routes.values() for a, b in pairwise(route))


def test_roofline_draws_kernels_that_multiply_below_the_peak(graph: Graph) -> None:
    line = Roofline.of(profile_of(graph))
    assert line is not None and len(line.points) == 2
    (peak, memory) = line.roofs
    assert peak.y1 == peak.y2 < min(p.y for p in line.points)
    assert memory.y2 < memory.y1 and memory.x2 > memory.x1


def test_the_page_needs_nothing_from_outside(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)=|url\(|@import|https?://(?!www\.w3\.org)""", text)
    assert len(text) < 200_000 and "&lt;int8&gt;" in text and "to-integer" in text
    assert text.count('class="drawing"') == 2 and "2x8x8x8" in text


def test_a_front_is_drawn(graph: Graph, tmp_path: Path) -> None:
    """What `tersor auto` found: a dot for each network in both plots, better ones higher, faster ones left; a table of the front."""
    tried = [
        {"pipeline": p, "quality": q, "latency": ms, "nbytes": n}
        for p, q, ms, n in (("", 0.9, 4.0, 9000), ("int8", 0.89, 1.0, 2500), ("x", 0.5, 3.0, 8000))
    ]
    content = {"measure": "accuracy", "budget": "", "first": tried[0], "front": tried[:2], "tried": tried, "failed": {}}
    (tmp_path / "front.json").write_text(json.dumps(content))
    text = tersor.report(graph, tmp_path / "a.html", front=tmp_path / "front.json").read_text()
    drawn = Tradeoff.of(tmp_path / "front.json")
    for plot in drawn.plots:
        dots = {d.name.partition(":")[0]: d for d in plot.dots if d.kind != "first"}
        assert dots["int8"].x < dots["x"].x < dots["as it was"].x and dots["as it was"].y < dots["int8"].y < dots["x"].y
    assert text.count('class="tradeoff"') == 2 and text.count("<circle") == 8 and "accuracy 0.8900, 2.5 kB" in text
    for broken in ("{}", "[", json.dumps(content | {"front": [{}]})):
        (tmp_path / "front.json").write_text(broken)
        with pytest.raises(tersor.TersorError, match="is no front"):
            tersor.report(graph, tmp_path / "b.html", front=tmp_path / "front.json")
    assert not (tmp_path / "b.html").exists()


def test_mistakes_are_said(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(tersor.TersorError, match=r"ends in \.html"):
        tersor.report(graph, tmp_path / "a.pdf")
    with pytest.raises(tersor.TersorError, match="no folder"):
        tersor.report(graph, tmp_path / "none" / "a.html")


@needs_chromium
def test_a_browser_searches_colours_and_shows_what_is_clicked(page: Path) -> None:
    got = json.loads(
        after(
            page,
            """
            const type = (text) => { search.value = text; search.dispatchEvent(new Event('input')); };
            type('conv2d stem');
            const hits_ = hits.textContent, marked = document.querySelectorAll('.node.found').length;
            type('no such layer');
            const none = hits.textContent;
            type('');
            const conv = nodes.find((n) => n.facts.op === 'nn.conv2d' && n.drawing === drawings[0]);
            conv.element.dispatchEvent(new MouseEvent('click'));
            const shown = details.textContent;
            colour.value = 'macs'; colour.dispatchEvent(new Event('change'));
            const fills = new Set(nodes.map((n) => n.element.querySelector('rect').style.fill)).size;
            const options = [...colour.options].map((o) => o.value);
            const before = drawings[0].scale;
            drawings[0].section.querySelector('button').click();
            drawings[1].svg.dispatchEvent(new WheelEvent('wheel', {deltaY: -200, clientX: 900, clientY: 300}));
            result = JSON.stringify({hits_, marked, none, shown, fills, options, grew: drawings[0].scale / before,
                                     wheel: drawings[1].view.getAttribute('transform')});
            """,
        )
    )
    assert got["marked"] >= 2 and got["hits_"] == f"{got['marked']} found" and got["none"] == "0 found"
    assert "nn.conv2d" in got["shown"] and "27,648" in got["shown"] and "before: " in got["shown"]
    assert got["fills"] >= 3 and {"ms", "macs", "bytes", "sqnr", "precision"} <= set(got["options"])
    assert got["grew"] == pytest.approx(1.25) and "scale(" in got["wheel"]


@needs_chromium
def test_a_browser_draws_it(page: Path) -> None:
    image = pytest.importorskip("PIL.Image").open(screenshot(page)).convert("RGB")
    colours = image.getcolors(1 << 24)
    assert image.size == (1400, 900) and len(colours) > 50
    # boxes coloured by time, from white to red
    assert any(r > 200 and r > g + 60 and r > b + 60 for _, (r, g, b) in colours)


def test_commands_write_the_table_and_the_page(graph: Graph, int8: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from tersor.cli import app

    monkeypatch.chdir(tmp_path)
    graph.save("a.tersor")
    int8.save("b.tersor")
    np.savez("x.npz", X.numpy())
    runner = CliRunner()
    shown = runner.invoke(app, ["show", "a.tersor", "--heavy", "--json"])
    assert [r["macs"] for r in json.loads(shown.stdout)["layers"]] == [2 * 8 * 8 * 9 * 64, 2 * 8 * 3 * 9 * 64, 2 * 32]
    assert f"{graph.macs():,} MACs" in runner.invoke(app, ["show", "a.tersor"]).stdout
    done = runner.invoke(app, ["report", "b.tersor", "-o", "r.html", "--before", "a.tersor", "--calibration", "x.npz"])
    assert done.exit_code == 0, done.output
    assert "sqnr" in Path("r.html").read_text()
    done = runner.invoke(app, ["report", "a.tersor", "-o", "p.html", "-p", "fold-bn,canonicalize"])
    assert done.exit_code == 0 and "fold-bn" in Path("p.html").read_text()
    assert runner.invoke(app, ["report", "a.tersor", "-o", "p.html", "-p", "fold-bn", "--before", "b.tersor"]).exit_code == 1


def test_reports_load_without_torch() -> None:
    program = "import tersor.reports.page, sys; print(*({'torch', 'tvm', 'jinja2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split() == []
