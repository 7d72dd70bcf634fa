"""`tersor save` and `tersor auto`: what they write and say, and mistakes."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from train_cases import graph, shapes

import tersor

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`command("save", ...)` in the folder: exit code, standard output, standard error."""
    from tersor.cli import main

    monkeypatch.chdir(folder)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tersor", *arguments])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(str(end.code))
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with zeros and shared weights, and images."""
    path = tmp_path_factory.mktemp("compress")
    tersor.transform(graph(), "sparsify{sparsity=0.9},share-weights{bits=3}").save(path / "m.tersor")
    np.savez(path / "x.npz", x=shapes(16)[0].numpy())
    return path


def test_save_says_what_each_stage_takes(folder: Path, command: Cli) -> None:
    code, out, err = command("save", "m.tersor", "-o", "coded.tersor", "--entropy", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["bytes"] == (folder / "coded.tersor").stat().st_size
    assert said["dense"] == sum(op.array.nbytes for op in graph().find("nn.constant")) and said["shared"] < said["pruned"] < said["dense"]
    x = shapes(2)[0]
    assert (tersor.load(folder / "coded.tersor")(x) == tersor.load(folder / "m.tersor")(x)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["save", "m.tersor", "-o", "m.mlir", "--entropy"], "entropy=True codes the weights of a .tersor file"),
        (["save", "m.tersor", "-o", "m.npz"], "expected a name that ends in .tersor or .mlir"),
        (["auto", "m.tersor", "--calibration", "x.npz", "-o", "front", "--budget", "soon"], "expected a budget such as"),
        (["auto", "m.tersor", "--calibration", "x.npz", "-o", "front", "--ways", "luck"], "unknown way 'luck'"),
        (["opt", "m.tersor", "-p", "sparsify{sparsity=2.0}"], "from 0 to below 1; got 2"),
    ],
)
def test_mistakes_are_one_line(command: Cli, arguments: list[str], message: str) -> None:
    code, _, err = command(*arguments)
    assert code == 1 and message in " ".join(err.split())
