"""Every engine that is installed computes the same small network in its own process; one that is not says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tersor.bench import latency, peers
from tersor.bench.engines import opened
from tersor.bench.latency import compared, prepared, sqnr
from tersor.bench.peers import ADAPTERS, Adapter, Source, Unavailable


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).eval()
    x = np.random.default_rng(0).standard_normal((2, 3, 21, 21)).astype(np.float32)
    folder = tmp_path_factory.mktemp("peers")
    np.save(folder / "x.npy", x)
    return Source(module, x, folder)


@pytest.mark.parametrize("name", ADAPTERS)
def test_each_engine_computes_the_same(name: str, source: Source) -> None:
    if name == "torch.compile" and shutil.which("g++") is None:
        pytest.skip("torch.compile needs g++")
    try:
        ADAPTERS[name].require()
        path = ADAPTERS[name].prepare(source, 1)
    except Unavailable as reason:
        pytest.skip(str(reason))
    with torch.inference_mode():
        exact = nn.Sequential(*source.module).double()(source.example.double()).numpy()
    source.module.float()
    with opened({name: path}, source.folder / "x.npy", 1) as (engine,):
        assert sqnr(engine(source.x), exact) > 80
        assert len(engine.time(2)) == 2


def test_what_is_missing_is_named(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(source: Source, threads: int) -> Path:
        raise NotImplementedError("no such operator")

    monkeypatch.setitem(ADAPTERS, "absent", Adapter(("torch", "no-such-engine"), broken, peers.open_torch))
    monkeypatch.setitem(ADAPTERS, "broken", Adapter(("torch",), broken, peers.open_torch))
    models, failures = prepared(source, ["torch", "absent", "broken"], 1)
    assert list(models) == ["torch"]
    assert failures == {"absent": "Unavailable: no-such-engine not installed", "broken": "NotImplementedError: no such operator"}


def test_the_converter_of_litert_is_asked_for(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv(peers.LITERT_PYTHON, raising=False)
    with pytest.raises(Unavailable, match="TERSOR_LITERT_PYTHON names no Python"):
        peers.litert_python()
    monkeypatch.setenv(peers.LITERT_PYTHON, "/some/python")
    assert peers.litert_python() == "/some/python"


def test_a_converter_that_fails_tells_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="code 3: what is wrong"):
        peers._tool(["sh", "-c", "echo first; echo what is wrong; exit 3"], tmp_path / "none")
    with pytest.raises(RuntimeError, match="code 0: no message"):
        peers._tool(["true"], tmp_path / "none")


def test_another_function_is_a_failure() -> None:
    class Engine:
        def __init__(self, name: str, result: np.ndarray):
            self.name, self.result = name, result

        def __call__(self, x: np.ndarray) -> np.ndarray:
            return self.result

    exact = np.arange(1.0, 11.0).reshape(1, 10)
    failures: dict[str, str] = {}
    engines = [Engine("right", exact + 1e-4), Engine("wrong", exact[:, ::-1]), Engine("short", exact[:, :5])]
    result = compared(engines, exact, exact, failures)  # type: ignore[arg-type]
    assert result == {"right": pytest.approx(10 * np.log10((exact**2).sum() / 1e-7), abs=0.01)}
    assert "another function" in failures["wrong"] and failures["short"] == "a result of shape (1, 5), expected (1, 10)"
    assert sqnr(exact, exact) == float("inf")
    assert latency.SAME_DB > 0
