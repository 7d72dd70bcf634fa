"""`tersor reduce`: what is left of a failing run is what it takes to fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import tersor
from tersor.cli import app
from tersor.ir import Const, Graph, Op, Tensor
from tersor.ir.ops import Add, Linear, Relu, Sigmoid, Tanh
from tersor.passes.core.base import PASSES
from tersor.reproducer import Reproducer, load_reproducer

BROKEN = """
import tersor

@tersor.register_pass(keeps="exact")
@tersor.rewrite
def test_hates_tanh(op: tersor.Op):
    if op.name == "nn.tanh":
        raise ValueError(f"tanh of {op.out.shape[-1]} numbers")
"""


FAILS_ON_DATA = """
from dataclasses import dataclass

import tersor
from tersor.passes import Pass


@tersor.register_pass
@dataclass(frozen=True)
class Fails(Pass):
    \"\"\"Fails on data where a graph has tanh.\"\"\"

    name = "test-fails-on-data"
    keeps = "lossy"

    def run(self, graph, ctx):
        if graph.find("nn.tanh") and ctx.need_calibration(self):
            raise ValueError("data")
"""


def weights(n: int, k: int) -> Const:
    return Const(np.random.default_rng(n).standard_normal((n, k)).astype(np.float32))


def network() -> Graph:
    graph = Graph()
    x = graph.add_input(Tensor((2, 4)), "x", batched=True)
    y: Op = Relu(Linear(x, weights(5, 4)))
    y = Tanh(Linear(y, weights(6, 5)))
    y = Add(y, Sigmoid(Linear(x, weights(6, 4))))
    graph.set_outputs([graph.add(Relu(Linear(y, weights(3, 6))))])
    return graph


def run(*args: str) -> Any:
    return CliRunner().invoke(app, args)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text(BROKEN)
    return tmp_path


def test_a_failing_pass(folder: Path) -> None:
    """One operator, one pass, no data are enough."""
    batches = [{"x": np.ones((3, 4), np.float32)}, {"x": np.zeros((1, 4), np.float32)}]
    whole = Reproducer("transform", network(), {"pipeline": "canonicalize,test-hates-tanh,simplify", "seed": 0, "check": False}, batches)
    whole.save("a.repro")
    done = run("reduce", "a.repro", "-o", "b.repro", "--import", "broken.py")
    assert done.exit_code == 0, done.output
    found = load_reproducer("b.repro")
    assert [op.name for op in found.graph] == ["nn.tanh"] and found.graph.inputs[0].shape == (2, 6)
    assert found.options["pipeline"] == "test-hates-tanh" and not found.calibration
    assert "tanh of 6 numbers" in found.error
    again = run("reproduce", "b.repro", "--import", "broken.py")
    assert again.exit_code == 1 and "tanh of 6 numbers" in str(again.exception)
    PASSES.pop("test-hates-tanh", None)


def test_a_failing_compilation(folder: Path) -> None:
    """require='int8' fails for a linear layer, by the sentence that it fails with in the whole network."""
    Reproducer("compile", network(), {"require": "int8"}).save("a.repro")
    assert run("reduce", "a.repro", "-o", "b.repro").exit_code == 0
    found = load_reproducer("b.repro")
    names = [op.name for op in found.graph if not isinstance(op, Const)]
    assert names[-1] == "nn.linear" and len(names) <= 3
    again = run("reproduce", "b.repro")
    assert again.exit_code == 1 and "require='int8': nn.linear" in str(again.exception)


def test_calibration_follows_the_cut(folder: Path) -> None:
    """A pass that fails on what the network computes keeps failing on it, given as an input."""
    Path("broken.py").write_text(FAILS_ON_DATA)
    whole = Reproducer("transform", network(), {"pipeline": "test-fails-on-data", "seed": 0, "check": False}, [{"x": np.ones((3, 4), np.float32)}])
    whole.save("a.repro")
    assert run("reduce", "a.repro", "-o", "b.repro", "--import", "broken.py").exit_code == 0
    found = load_reproducer("b.repro")
    assert [op.name for op in found.graph] == ["nn.tanh"]
    (batch,) = found.calibration
    (given,) = batch.values()
    first, second = np.ones((3, 4), np.float32) @ weights(5, 4).array.T, weights(6, 5).array.T
    np.testing.assert_allclose(given, np.maximum(first, 0) @ second, rtol=1e-5)
    PASSES.pop("test-fails-on-data", None)


def test_a_run_that_does_not_fail(folder: Path) -> None:
    Reproducer("transform", network(), {"pipeline": "canonicalize", "seed": 0, "check": False}).save("a.repro")
    done = run("reduce", "a.repro", "-o", "b.repro")
    assert done.exit_code == 1 and isinstance(done.exception, tersor.TersorError) and "nothing to reduce" in str(done.exception)
    assert not Path("b.repro").exists()
