"""Benchmarks of pruning on tiny networks: what is recorded, and what the tables say of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import tersor
from tersor.bench import coupling_speed, models, pruned_latency, pruned_latency_report, pruning_costs
from tersor.ir.ops import Conv2d


def chain() -> nn.Module:
    torch.manual_seed(0)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    return nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 8, 3, padding=1), nn.ReLU(), *head).eval()


def test_pruning_costs_records_every_refit(tmp_path: Path) -> None:
    images = pruning_costs.smooth_images(24, 8, 0)
    graph = tersor.trace(chain(), (images[:1],))
    run = pruning_costs.prune(graph, images, pruning_costs.smooth_images(8, 8, 1), "lasso", 0.5)
    second, last = run["fits"]
    assert second["unknowns"] % 9 == 0 and second["pixels"] == 64 and 2 * second["unknowns"] < second["rows"] <= 24 * 64
    # the mean over all pixels leaves one response an image
    assert last["rows"] == 24 and last["pixels"] == 1 and last["unknowns"] <= 8
    assert run["macs"] <= 0.5 and 0 < run["sqnr_db"] < 100 and run["peak_gb"] > 0.05
    assert {"prune-channels", "prune-channels: sensitivity"} <= set(run["until"])
    few = {"layer": "nn.linear [fc]", "pixels": 1, "rows": 24, "unknowns": 20}
    machine = {"processor": "p", "date": "d", "commit": "c"}
    report = {"machine": machine, "network": "n", "images": 24, "size": 8, "macs": 0.5, "threads": 1, "runs": [run | {"fits": [second, few]}]}
    text = pruning_costs.markdown(json.loads(json.dumps(report)))
    assert "- lasso: nn.linear [fc]: 24 rows, its map has no more; 20 unknowns, 1.20" in text and text.count("\n- ") == 1


def residual() -> nn.Module:
    branches = [
        models.Residual(nn.Sequential(models.conv_bn(16, 32), models.conv_bn(32, 16, act=None)), nn.Identity()),
        models.Residual(nn.Sequential(models.conv_bn(16, 32, stride=2), models.conv_bn(32, 24, act=None)), models.conv_bn(16, 24, 1, 2, act=None)),
    ]
    return models.Classifier(nn.Sequential(models.conv_bn(3, 16), *branches), 24, 5)


def test_a_network_is_built_at_the_size_of_the_pruned_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.SEVEN, "resnet18", residual)
    # what is measured is not the same twice
    plans = {k: v.replace("round_to=16", "round_to=4") for k, v in pruned_latency.PLANS.items() if "latency" not in v}
    monkeypatch.setattr(pruned_latency, "PLANS", plans)
    graphs = pruned_latency.models("resnet18", 16)
    assert len(graphs) == 1 + 2 * 4
    whole = graphs["", "original"].macs()
    for plan in pruned_latency.PLANS:
        small, built = graphs[plan, "by passes"], graphs[plan, "built"]
        assert small.macs() == built.macs() <= (0.7 if "separable" in plan else 0.5) * whole
        sizes = [[(c.w.shape, c.groups, c.stride, c.out.shape) for c in tersor.transform(g, "fold-bn").find(Conv2d)] for g in (small, built)]
        assert sorted(sizes[0]) == sorted(sizes[1])
    assert "streams" not in str(list(pruned_latency.plans_of("vgg16")))


def test_pruned_latency_from_compiling_to_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(models.SEVEN, "resnet18", chain)
    monkeypatch.setattr(pruned_latency, "PLANS", {"uniform": "prune-channels{macs=0.5 method=l1 reconstruct=false per_layer=uniform}"})
    pruned_latency.prepare("resnet18", [0], 1, tmp_path, 16)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.tso")}
    pruned_latency.prepare("resnet18", [0], 1, tmp_path, 16)
    assert len(files) == 3 and files == {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.tso")}
    records = pruned_latency.measure("resnet18", 0, 1, tmp_path, rounds=3, seconds=0.01, size=16)
    assert [r["variant"] for r in records] == ["original", "by passes", "built"]
    assert all(len(r["rounds_ms"]) == 3 and r["conv_ms"] > 0 and r["error"] < 1e-4 for r in records)
    assert records[0]["faster"]["median"] == 1 and records[1]["to_built"] is None and records[2]["to_built"]["median"] > 0
    report = {"machine": {"processor": "p", "date": "d", "commit": "c"}, "rounds": 3, "seconds": 0.01, "results": json.loads(json.dumps(records))}
    lines = pruned_latency_report.markdown(report).splitlines()
    assert "## resnet18, 1 thread, without Winograd" in lines
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ")][1:] == ["| original", "| uniform; by passes", "| uniform; built"]


def test_coupling_speed_counts_what_it_finds() -> None:
    graph = coupling_speed.wide_blocks(20, 64)
    row = coupling_speed.measure("blocks", graph, 2)
    # the channels within each of the 4 blocks may go; the stream, which is the input, stays, but each block may read a part of it
    assert (row["ops"], row["spaces"], row["removable"]) == (20, 4 + 4, 4 * 64)
    assert all(len(t) == 2 and min(t) > 0 for t in row["seconds"].values())
    report = {"machine": {"processor": "p", "date": "d", "commit": "c"}, "repeat": 2, "graphs": [row]}
    assert coupling_speed.markdown(report).splitlines()[-1].startswith("| blocks | 20 | 16 |")
