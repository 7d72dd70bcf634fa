"""The precision bench: SQNR against float64, networks that are not installed, and what the report says."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tersor.bench import precision
from tersor.bench.precision import Case
from tersor.bench.precision_report import markdown


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def absent() -> nn.Module:
    raise ModuleNotFoundError("pip install --no-deps weights")


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    x = [np.random.default_rng(i).standard_normal((1, 3, 56, 56)).astype(np.float32) for i in range(3)]
    cases = {"small": Case("trained", "noise", small, lambda: x), "absent": Case("trained", "noise", absent, lambda: x)}
    monkeypatch.setattr(precision, "NETWORKS", cases)
    return x


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["precision", *arguments])
    precision.main()


def test_normalized_as_the_network_was_trained() -> None:
    rgb = np.random.default_rng(0).uniform(0, 1, (1, 3, 4, 4))
    given = ((rgb - 0.5) / 0.5).astype(np.float32)
    assert np.allclose(precision.normalized(given, precision.HALF), given, atol=1e-6)
    wanted = np.stack([(rgb[:, 0] - 0.485) / 0.229, (rgb[:, 1] - 0.456) / 0.224, (rgb[:, 2] - 0.406) / 0.225], 1)
    got = precision.normalized(given, precision.IMAGENET)
    assert np.allclose(got, wanted, atol=1e-5) and got.dtype == np.float32


def test_sqnr_of_a_network(images: list[np.ndarray]) -> None:
    row = precision.measure("small", precision.NETWORKS["small"], threads=1)
    # float32 rounds at 2^-24: 144 dB, less what the sums add
    assert len(row["eager_db"]) == 3 and all(100 < db < 200 for setting in row["settings"].values() for db in (*setting["db"], *row["eager_db"]))
    assert row["settings"]["none"]["winograd"] == {} and sum(row["settings"]["default"]["winograd"].values()) >= 1
    x = torch.from_numpy(images[1])
    with torch.no_grad():
        y, y64 = small()(x).double(), copy.deepcopy(small()).double()(x.double())
    assert row["eager_db"][1] == pytest.approx(float(10 * torch.log10((y64**2).sum() / ((y - y64) ** 2).sum())), abs=0.1)


def test_run(images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = precision.measure
    low: dict[str, Any] = {"network": "small", "weights": "trained", "source": "noise", "missing": "", "eager_db": [95.0]}
    low["settings"] = {setting: {"winograd": {}, "db": [99.0, 91.0]} for setting in precision.SETTINGS}
    monkeypatch.setattr(precision, "measure", lambda name, *args: low if name == "small" else real(name, *args))
    run(monkeypatch, "--out", str(tmp_path))
    report = json.loads((tmp_path / "precision.json").read_text())
    assert [r["missing"] for r in report["networks"]] == ["", "pip install --no-deps weights"]
    text = (tmp_path / "precision.md").read_text()
    assert "| absent | trained | noise | not measured: pip install --no-deps weights |" in text and text in capsys.readouterr().out
    monkeypatch.setattr(precision, "GOAL_DB", 92)
    with pytest.raises(SystemExit, match="below 92 dB: small"):
        run(monkeypatch, "small", "--out", str(tmp_path))
    with pytest.raises(SystemExit):
        run(monkeypatch, "resnet1", "--out", str(tmp_path))


def test_report() -> None:
    settings: dict[str, Any] = {
        "none": {"winograd": {}, "db": [110.0, 112.0]},
        "default": {"winograd": {"F(2x2)": 1, "F(4x4)": 5}, "db": [100.0, 89.0]},
        "F(6x6)": {"winograd": {"F(6x6)": 6}, "db": [95.0, 85.0]},
    }
    row = {"network": "net", "weights": "random", "source": "photographs", "missing": "", "eager_db": [120.0, 118.0], "settings": settings}
    machine = {"processor": "P", "date": "today", "commit": "abc"}
    about = {"machine": machine, "goal_db": 90, "threads": 1, "images": 2, "settings": precision.SETTINGS}
    text = markdown({**about, "networks": [row]})
    assert "mean over 2 images, the lowest in brackets; 1 thread; P, today, commit abc." in text
    figures = "111.0 (110.0) | 94.5 (89.0) | 90.0 (85.0) | 119.0 (118.0)"
    assert f"| net | random | photographs | {figures} | default: 1 F(2x2), 5 F(4x4); F(6x6): 6 F(6x6) | no |" in text
