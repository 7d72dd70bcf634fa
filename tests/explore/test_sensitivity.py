"""Each layer alone: the layer that is made to suffer is found, and the pipelines leave it out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import tersor
from tersor.cli import app
from tersor.explore.sensitivity import Sensitivities
from tersor.ir.graph import Graph


def network() -> nn.Sequential:
    """Three convolutions; the second has one weight so large that int8 loses the others of its filter."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Flatten(),
        nn.Linear(512, 4),
    ).eval()
    with torch.no_grad():
        net[2].weight[:, 0, 0, 0] = 60.0
        net[0].weight[0] *= 1e-3
        net[0].bias[0] = 0
    return net


X = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return tersor.trace(network(), (X,))


@pytest.fixture(scope="module")
def found(graph: Graph) -> Sensitivities:
    return tersor.sensitivity(graph, calibration=[X])


def test_the_worst_layer_is_found(found: Sensitivities) -> None:
    rows = {r.layer: r for r in found}
    assert list(rows) == ["0", "2", "4", "6"]
    int8 = {name: r.int8 for name, r in rows.items()}
    assert max(int8, key=lambda n: int8[n] or 0) == "2" and all(e is not None and 0 < e < 1 for e in int8.values())
    # the output of the last layer is the network's: it has no channel to prune
    assert rows["6"].pruned is None and "prune: " in rows["6"].why
    assert rows["0"].pruned_macs == 8 * 64 * 9 * (8 * 3 + 8 * 8) // 2
    assert "int8 error" in str(found) and json.loads(found.to_json())["ratio"] == 0.5


def test_pipelines_leave_out_what_errs(graph: Graph, found: Sensitivities) -> None:
    errors = sorted(r.int8 for r in found if r.int8 is not None)
    small = tersor.transform(graph, found.int8_pipeline((errors[-1] + errors[-2]) / 2), calibration=[X])
    precision = {layer.layer: layer.precision for layer in small.report["quantize"].layers}
    assert precision == {"0": "int8", "2": "float", "4": "int8", "6": "int8"}
    assert found.int8_pipeline(1e9) == "freeze-sparsity,default,equalize,quantize,correct-bias,to-integer,canonicalize"
    pruned = {r.layer: r.pruned for r in found if r.pruned is not None}
    worst = max(pruned, key=lambda n: pruned[n])
    text = found.prune_pipeline(max(v for n, v in pruned.items() if n != worst))
    thin = tersor.transform(graph, text, calibration=[X])
    widths = {op.loc.path: op.out.shape[1] for op in thin.find("nn.conv2d")}
    assert widths[worst] == 8 and sum(w == 4 for w in widths.values()) == len(pruned) - 1
    with pytest.raises(tersor.TersorError, match="every layer errs"):
        found.int8_pipeline(0.0)


def test_mistakes_are_said(graph: Graph) -> None:
    with pytest.raises(tersor.TersorError, match="valid: int8, prune"):
        tersor.sensitivity(graph, calibration=[X], what=["int4"])
    with pytest.raises(tersor.TersorError, match="calibration"):
        tersor.sensitivity(graph, calibration=[])


def test_measured_milliseconds_and_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    tersor.trace(net, (X,)).save("m.tersor")
    np.savez("x.npz", X.numpy())
    args = ["sensitivity", "m.tersor", "--calibration", "x.npz"]
    done = CliRunner().invoke(app, [*args, "--measure", "--json"])
    rows = json.loads(done.stdout)["layers"]
    assert all(isinstance(r["int8_ms"], float) for r in rows) and isinstance(rows[0]["pruned_ms"], float) and rows[1]["pruned_ms"] is None
    shown = CliRunner().invoke(app, [*args, "--what", "int8", "--exclude-above", "10"]).stdout
    assert "int8 error" in shown and shown.splitlines()[-1].startswith("freeze-sparsity,default,equalize,quantize,")
