"""`tersor.benchmark` and `tersor bench`: what is measured is there, in order of size where that is certain; no time is asserted."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import tersor
from tersor.backend.runtime.bench import _together


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.tersor, model.onnx and model.tso of one convolution, other.tso of other inputs."""
    path = tmp_path_factory.mktemp("bench")
    torch.manual_seed(0)
    graph = tersor.trace(nn.Conv2d(3, 8, 3).eval(), (torch.zeros(2, 3, 8, 8),))
    graph.save(path / "model.tersor")
    graph.to_onnx(path / "model.onnx")
    tersor.compile(graph, batch=2).save(path / "model.tso")
    tersor.compile(tersor.trace(nn.ReLU(), (torch.zeros(2, 5),)), batch=2).save(path / "other.tso")
    return path


def test_one_model(folder: Path) -> None:
    found = tersor.benchmark(folder / "model.tso", repeat=7, warmup=2, callers=3, seconds=0.05)
    (cost,) = found.costs
    assert cost.steady.repeat == 7 and cost.steady.batch == 2 and cost.load is not None and cost.load > 0 and cost.rss >= 0
    t = cost.throughput
    assert t is not None and t.calls >= 3 and t.seconds >= 0.05
    assert t.samples_per_second == pytest.approx(2 * t.calls / t.seconds) and t.calls_per_second == pytest.approx(t.calls / t.seconds)
    assert found.ratio is None and "first call" in str(found) and "3 callers" in str(found)
    loaded = tersor.load_compiled(folder / "model.tso")
    assert tersor.benchmark(loaded, repeat=1).costs[0].load is None


def test_two_models_take_turns(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    found = tersor.benchmark(folder / "model.tso", folder / "model.onnx", repeat=5)
    one, other = found.costs
    assert other.steady.target == "onnxruntime" and one.steady.repeat == other.steady.repeat == 5
    assert found.ratio == other.steady.median / one.steady.median and "times as fast as" in str(found)
    got = json.loads(found.to_json())
    assert got["against"]["model"] == "model.onnx" and got["ratio"] == found.ratio
    lines = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [line["model"] for line in lines] == ["model.tso", "model.onnx"] and float(lines[1]["first"]) == other.first


def test_mistakes_are_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(tersor.TersorError, match=r"inputs differ: model.tso takes float32\[2, 3, 8, 8\], other.tso"):
        tersor.benchmark(folder / "model.tso", folder / "other.tso")
    with pytest.raises(tersor.TersorError, match="expected a \\.tso"):
        tersor.benchmark(folder / "model.tersor")
    with pytest.raises(tersor.TersorError, match="repeat of at least 1"):
        tersor.benchmark(folder / "model.tso", repeat=0)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(tersor.TersorError, match="needs onnxruntime"):
        tersor.benchmark(folder / "model.tso", folder / "model.onnx")


def test_what_a_caller_raises_is_raised() -> None:
    def call() -> None:
        raise tersor.TersorError("no")

    with pytest.raises(tersor.TersorError, match="no"):
        _together(call, 2, 0.01)


def test_the_command_needs_neither_torch_nor_the_compiler(folder: Path) -> None:
    program = """
import json, sys
from tersor.cli import main
for extra in (["--csv"], ["--json"]):
    sys.argv = ["tersor", "bench", "model.tso", "--against", "model.tso", "--repeat", "3", "--callers", "2", "--seconds", "0.05", *extra]
    try: main()
    except SystemExit: pass
print(*({"torch", "tvm", "onnx"} & set(sys.modules)), "loaded")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].split() == ["loaded"], done.stderr
    assert done.stdout.startswith("model,load,first") and '"ratio"' in done.stdout
