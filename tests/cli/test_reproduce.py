"""`--reproducer` writes what fails, `tersor reproduce` runs it again: the same error, or none once the cause is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import tersor
from tersor.cli import app
from tersor.ir import Const, Graph, Tensor
from tersor.ir.ops import Linear, Relu
from tersor.passes.core.base import PASSES
from tersor.reproducer import load_reproducer

BROKEN = """
import tersor
from dataclasses import dataclass
from tersor.passes import Pass

@tersor.register_pass
@dataclass(frozen=True)
class Breaks(Pass):
    \"\"\"Fails where calibration data is negative.\"\"\"
    name = "test-breaks"
    keeps = "lossy"

    def run(self, graph, ctx):
        if min(float(v.min()) for b in ctx.need_calibration(self) for v in (b.values() if isinstance(b, dict) else b)) < 0:
            raise ZeroDivisionError("negative")
"""


def run(*args: str) -> Any:
    return CliRunner().invoke(app, args)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    graph = Graph()
    x = graph.add_input(Tensor((2, 4)), "x", batched=True)
    graph.set_outputs([graph.add(Relu(Linear(x, Const(np.ones((3, 4), np.float32)))))])
    graph.save("m.tersor")
    np.savez("data.npz", np.full((5, 4), -1, np.float32))
    Path("broken.py").write_text(BROKEN)
    return tmp_path


def test_a_failing_pass(folder: Path) -> None:
    failed = run("opt", "m.tersor", "-p", "canonicalize,test-breaks", "--calibration", "data.npz", "--import", "broken.py", "--reproducer", "a.repro")
    assert failed.exit_code == 1 and "tersor reproduce a.repro" in failed.stderr
    found = load_reproducer("a.repro")
    assert found.kind == "transform" and found.options["pipeline"] == "canonicalize,test-breaks" and "negative" in found.error
    np.testing.assert_array_equal(found.calibration[0]["x"], np.full((5, 4), -1, np.float32))
    again = run("reproduce", "a.repro")
    assert again.exit_code == 1 and "negative" in str(again.exception)
    found.calibration = [{"x": np.ones((1, 4), np.float32)}]
    found.save("b.repro")
    assert run("reproduce", "b.repro").exit_code == 0
    PASSES.pop("test-breaks", None)


def test_a_failing_compilation(folder: Path) -> None:
    failed = run("compile", "m.tersor", "-o", "m.tso", "--require", "int8", "--reproducer", "c.repro")
    assert failed.exit_code == 1 and Path("c.repro").exists()
    again = run("reproduce", "c.repro")
    assert again.exit_code == 1 and "require='int8'" in str(again.exception)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip"])
def test_files_that_are_none(content: bytes, folder: Path) -> None:
    Path("x.repro").write_bytes(content)
    with pytest.raises(tersor.TersorError, match="--reproducer writes"):
        load_reproducer("x.repro")
    with pytest.raises(tersor.TersorError, match="no file"):
        load_reproducer("nowhere.repro")
