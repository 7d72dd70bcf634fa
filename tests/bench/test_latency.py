"""The latency report says what was measured: ratios to the best peer, their mean, what failed."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from tersor.bench import latency
from tersor.bench.latency_report import geometric_mean, markdown


def record(network: str, tersor: list[float], ort: list[float], failures: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    ratios = sorted(a / b for a, b in zip(tersor, ort))
    return {
        "network": network,
        "shape": [1, 3, 224, 224],
        "threads": 1,
        "gmacs": 1.8,
        "commit": "abc",
        "rounds": 3,
        "seconds_per_round": 0.25,
        "median_ms": {"tersor": sorted(tersor)[1], "onnxruntime": sorted(ort)[1], "torch": 90.0},
        "rounds_ms": {"tersor": tersor, "onnxruntime": ort, "torch": [90.0] * 3},
        "ratio": {"onnxruntime": {"low": ratios[0], "median": ratios[1], "high": ratios[2]}, "torch": {"low": 0.1, "median": 0.2, "high": 0.3}},
        "best": "onnxruntime",
        "sqnr_db": {"tersor": 101.2, "onnxruntime": 110.0, "torch": 111.0},
        "failures": failures or {},
    } | changes


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    found = {
        "resnet18": record("resnet18", [19.0, 20.0, 21.0], [38.0, 40.0, 42.0], {"MNN": "Unavailable: mnn not installed"}),
        "vgg16": record("vgg16", [44.0, 44.0, 44.0], [44.0, 40.0, 22.0]),
        "unet": record("unet", [9.0, 9.0, 9.0], [9.0, 9.0, 9.0], shape=[4, 3, 224, 224]),
    }
    monkeypatch.setattr(latency, "measure_network", lambda name, *args: [found[name]])
    return found


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["latency", *arguments])
    latency.main()


def test_report(records: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    run(monkeypatch, "--networks", "vgg16", "resnet18", "--engines", "onnxruntime", "torch", "MNN", "--out", str(out))
    saved = json.loads((out / "latency.json").read_text())
    assert saved["results"] == [records["resnet18"], records["vgg16"]] and saved["machine"]["packages"]["torch"]
    text = (out / "latency.md").read_text()
    assert "| network | GMACs | tersor, ms | onnxruntime, ms | torch, ms | MNN, ms | best peer | tersor / best peer |" in text
    assert "| resnet18 | 1.800 | 20.00 | **40.00** | 90.00 | failed | onnxruntime | 0.50 (0.50 to 0.50) |" in text
    # a lost comparison stays
    assert "| vgg16 | 1.800 | 44.00 | **40.00** | 90.00 | failed | onnxruntime | 1.10 (1.00 to 2.00) |" in text
    assert f"**{math.sqrt(0.5 * 1.1):.3f}** |" in text
    assert "- MNN on resnet18: Unavailable: mnn not installed" in text
    assert "| resnet18 | 101 | 110 | 111 |  |" in text
    assert text in capsys.readouterr().out
    assert (out / "latency.png").read_bytes().startswith(b"\x89PNG")
    run(monkeypatch, "--networks", "unet", "--name", "more", "--out", str(out))
    assert json.loads((out / "more.json").read_text())["results"] == [records["unet"]] and (out / "more.md").exists() and (out / "more.png").exists()
    assert json.loads((out / "latency.json").read_text()) == saved


def test_records_of_an_earlier_run_are_kept_or_refused(records: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "latency.json"
    for name in ("vgg16", "unet", "resnet18"):
        run(monkeypatch, "--networks", name, "--keep", "--out", str(tmp_path))
    records["vgg16"] = record("vgg16", [1.0, 1.0, 1.0], [2.0, 2.0, 2.0])
    run(monkeypatch, "--networks", "vgg16", "--keep", "--out", str(tmp_path))
    report = json.loads(path.read_text())
    assert report["results"] == [records["resnet18"], records["vgg16"], records["unet"]]
    assert markdown(report).count("\n## ") == 2
    report["machine"]["processor"] = "another"
    path.write_text(json.dumps(report))
    with pytest.raises(SystemExit, match="measured with another processor"):
        run(monkeypatch, "--networks", "vgg16", "--keep", "--out", str(tmp_path))


def test_no_mean_without_every_ratio() -> None:
    whole, broken = record("a", [1.0, 1.0, 1.0], [2.0, 2.0, 2.0]), record("b", [1.0, 1.0, 1.0], [2.0, 2.0, 2.0], best=None)
    assert geometric_mean([whole, whole]) == pytest.approx(0.5)
    assert geometric_mean([whole, broken]) is None
