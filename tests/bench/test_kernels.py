"""Kernels against the roofline: what is measured, what the report makes of it, and the page that is made of the committed results."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tersor
from tersor.backend.runtime.measure import Profile
from tersor.bench import kernels, performance
from tersor.bench.kernels import finished
from tersor.bench.kernels_report import layer_tables, missed_goals, network_tables, whole_runs
from tersor.bench.layers import LAYERS, Goal, Layer

ROOT = Path(tersor.__file__).parent


def test_layers_are_distinct_and_covered() -> None:
    assert len({layer.name + layer.group for layer in LAYERS}) == len(LAYERS)
    assert {layer.group for layer in LAYERS} == {"pointwise", "3x3", "stem", "depthwise", "strided", "odd", "dense", "pool"}
    for layer in LAYERS:
        # every comparison with the direct kernel has one
        if layer.goal and layer.goal.unit == "direct":
            assert any(other.name == f"{layer.name}, without winograd" for other in LAYERS)


def test_goals_of_depthwise_go_by_the_size_of_the_result() -> None:
    goals = {(x.size, x.stride): x.goal for x in LAYERS if x.group == "depthwise"}
    assert goals[112, 2] == Goal("gflops", 80) and goals[56, 2] == Goal("gflops", 70) and goals[7, 1] == Goal("gflops", 40) and goals[7, 2] is None


@pytest.mark.slow
def test_winograd_can_be_left_out() -> None:
    layers = [Layer("3x3", 64, 64, 28, 3, winograd=winograd) for winograd in (True, False)]
    assert [r["template"] for r in kernels.measure_layers(layers, rounds=1)] == ["winograd", "direct"]


def test_a_layer_with_winograd_is_measured_beside_the_same_without() -> None:
    layers = kernels.together(["3x3", "stem"])
    assert sorted(map(str, layers)) == sorted(str(x) for x in LAYERS if x.group in ("3x3", "stem"))
    squares = [x for x in layers if x.group == "3x3"]
    assert squares and [x.winograd for x in squares] == [True, False] * (len(squares) // 2)
    assert [replace(x, winograd=False, goal=None) for x in squares[::2]] == [replace(x, goal=None) for x in squares[1::2]]


def test_passes_go_over_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []

    def profiled(exe: tersor.CompiledModel, rounds: int) -> tuple[Profile, Profile]:
        assert rounds == 2
        order.append(exe.inputs["input"].shape[1])
        return exe.profile(rounds=1), exe.profile(rounds=1)

    monkeypatch.setattr(kernels, "profiled", profiled)
    monkeypatch.setattr(kernels, "copy_gbs", lambda nbytes, cold: 10.0)
    records = kernels.measure_layers([Layer("pointwise", c, 16, 7) for c in (16, 32)], rounds=10)
    assert order == [16, 32] * 5 and [len(r["passes"]) for r in records] == [5, 5]


def test_measure_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import nn

    def build(name: str) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 16, 3, 4, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 32, 1)).eval()

    monkeypatch.setattr(kernels, "build", build)
    monkeypatch.setattr(kernels, "copy_gbs", lambda nbytes, cold: 10.0)
    for short in ("WARMING", "TIMED"):
        monkeypatch.setattr(kernels, short, 5.0)
    monkeypatch.setattr(kernels, "CALLS", 5)
    (net,) = kernels.measure_networks(["net"], rounds=2).values()
    finished({"layers": [], "networks": {"net": net}, "machine": {}})
    assert net["macs"] == 56 * 56 * (3 * 16 * 9 + 16 * 16 * 9 + 16 * 32)
    gains = {k["template"]: k["to_direct"] for k in net["kernels"]}
    median, low, high = gains.pop("winograd")
    assert 0 < low <= median <= high and set(gains.values()) == {None}
    assert net["scaling"]["1"] == [1, 1, 1] and net["of_limit"]["2"][0] > 0
    assert net["shared_us"][1] <= net["shared_us"][0] <= net["shared_us"][2]


def test_measure_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "copy_gbs", lambda nbytes, cold: 5.0 if cold else 20.0)
    (r,) = kernels.measure_layers([Layer("pointwise", 64, 32, 14, goal=Goal("peak", 0.92))], rounds=3)
    assert r["macs"] == 64 * 32 * 14 * 14 and r["template"] in ("gemm", "direct")
    # input, weights, bias and result once
    assert r["bytes"] == pytest.approx(4 * (14 * 14 * (64 + 32) + 64 * 32 + 32), rel=0.02)
    assert len(r["passes"]) == 3 and all(p["warm"] > 0 and p["cold"] > 0 and p["peak"] > 1 for p in r["passes"])
    finished({"layers": [r], "networks": {}})
    compute, memory = 2 * r["macs"] / r["peak_gflops"] / 1e6, r["bytes"] / 5.0 / 1e6
    assert r["cold"]["of_bound"] == pytest.approx(max(compute, memory) / r["cold"]["ms"])
    low, high = r["range"]
    assert low <= r["reached"] <= high and r["met"] == (r["reached"] >= 0.92)


def kernel(warm: float, cold: float, **more: Any) -> dict[str, Any]:
    """10^8 multiply-adds on 1 MB; in the second of three passes the clock is half as fast."""
    passes = [{"warm": warm * slower, "cold": cold * slower, "peak": 100.0 / slower} for slower in (1, 2, 1)]
    about = {"template": "winograd", "params": {"m": 4}, "chosen": "model", "copy_gbs": {"warm": 10.0, "cold": 10.0}}
    return about | {"macs": 10**8, "bytes": 10**6, "passes": passes, **more}


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(kernels, "copy_gbs", lambda nbytes, cold: 10.0 if cold else 30.0)
    layers = [
        kernel(1.0, 2.0, group="3x3", name="a", goal=["direct", 2.7]),
        kernel(4.0, 5.0, group="3x3", name="a, without winograd", goal=["peak", 0.5]),
        kernel(2.0, 4.0, group="stem", name="s", goal=["gflops", 75]),
        kernel(2.0, 4.0, group="pool", name="p", goal=None) | {"macs": 0},
    ]
    about = {"op": "conv2d", "shape": [1, 2], "loc": "features.0", "calls": 2, "to_direct": [2.5, 2.0, 3.0]}
    machine = {"processor": "P", "features": ["avx2"], "date": "today", "commit": "abc"}
    runs = [{"run": ms, "peak": peak} for ms, peak in ((4.0, 100.0), (10.0, 50.0), (5.0, 100.0))]
    two = [{"run": ms, "peak": 200.0} for ms in (2.0, 8.0, 2.0)]
    net = {
        "macs": 10**8,
        "runs": {"1": runs, "2": two},
        "shared_us": [2, 1, 9],
        "kernels": [kernel(1.0, 2.0, share=0.9, **about), kernel(1.0, 2.0, share=0.01, **about)],
    }
    return finished({"machine": machine, "rounds": 3, "layers": layers, "networks": {"net": net}})


def test_report(report: dict[str, Any]) -> None:
    text = "\n".join(layer_tables(report))
    # 0.2 GFLOP in 1 ms with a peak of 100 GFLOP/s: twice the bound of the direct convolution; the gain over it is 5 / 2
    assert "| a | winograd m=4 | 1.000 | 200 | 1 | 200% | 2.000 | 100 | 0 | 100% | 2.7x direct, cold | **2.50x** (2.50x to 2.50x) |" in text
    assert "| a, without winograd | winograd m=4 | 4.000 | 50 | 0 | 50% | 5.000 | 40 | 0 | 40% | 50% of peak | 50.0% (50.0% to 50.0%) |" in text
    # the clock is seen in what is no ratio
    assert "| 75 GFLOP/s | 100 (50 to 100) |" in text
    # 1 MB at 10 GB/s is 0.1 ms
    assert "| p | winograd m=4 | 2.000 |  | 0 | 5% | 4.000 |  | 0 | 2% |  |  |" in text
    # 0.2 GFLOP at 100 GFLOP/s take 2 ms, 4 at half the clock, and 1 on two cores
    one = "A call takes 5.00 ms on 1 thread, 2.50 (2.00 to 2.50) times its multiply-adds at the peak"
    two = "2.00 ms on 2 threads, 2.00 (2.00 to 8.00) times its multiply-adds at the peak and 2.00 (1.25 to 2.50) times as fast"
    assert f"{one}; {two}. Sharing out a small kernel cost 2.00 (1.00 to 9.00) us." in network_tables(report)
    assert network_tables(report)[-1].endswith("| 2.50 (2.00 to 3.00) | features.0 |")
    assert len(network_tables(report, share=0.0)) == len(network_tables(report, share=0.5)) + 1


def test_report_in_short(report: dict[str, Any]) -> None:
    text = missed_goals(report)
    assert "Of 3 layers 2 reach what they are meant to." in text
    assert [row[:4] for row in text if row.startswith("|")][2:] == ["| a "]
    assert whole_runs(report)[2:] == [
        "| net | 1 | 5.00 | 2.50 (2.00 to 2.50) | 1.00 (1.00 to 1.00) |",
        "| net | 2 | 2.00 | 2.00 (2.00 to 8.00) | 2.00 (1.25 to 2.50) |",
    ]
    met = report | {"layers": [r | {"met": True} for r in report["layers"]]}
    assert missed_goals(met)[-1] == "Of 3 layers 3 reach what they are meant to."


def test_run(report: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    measured = [kernel(1.0, 2.0, group="stem", name="s", goal=None)]
    monkeypatch.setattr(kernels, "measure_layers", lambda layers, rounds: measured if layers[0].group == "stem" else [])
    monkeypatch.setattr(sys, "argv", ["kernels", "--groups", "stem", "--networks", "--out", str(tmp_path), "--name", "here"])
    kernels.main()
    saved = json.loads((tmp_path / "here.json").read_text())
    assert {r["group"] for r in saved["layers"]} == {"stem"} and saved["networks"] == {} and saved["peak_gflops"] == [50.0, 100.0]
    assert "FMA peak of this run 50 to 100 GFLOP/s; copies read and write together 30 to 30 GB/s" in (tmp_path / "here.md").read_text()
    assert (tmp_path / "here.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_is_made_of_the_committed_results() -> None:
    page = ROOT / "docs/performance.md"
    assert page.read_text() == performance.page(ROOT / "bench/results", page), "run python -m tersor.bench.performance"


def test_what_it_costs_to_share_out_a_kernel() -> None:
    class Model:
        def __init__(self, run: float) -> None:
            self.run, self.rows = run, [None] * 4

        def profile(self, rounds: int) -> Model:
            return self

    assert kernels.shared_us(Model(0.040), Model(0.022)) == pytest.approx(0.5)  # type: ignore[arg-type]


def test_calls_are_timed_after_as_many_that_are_not() -> None:
    class Model:
        def __init__(self) -> None:
            self.calls: list[tuple[int, int]] = []

        def benchmark(self, repeat: int, warmup: int = 5) -> SimpleNamespace:
            self.calls.append((repeat, warmup))
            return SimpleNamespace(median=2.0)

    model = Model()
    assert kernels.sustained(model) == 2.0  # type: ignore[arg-type]
    assert model.calls[-1] == (100, 100)
