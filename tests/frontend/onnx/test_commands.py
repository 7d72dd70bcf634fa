"""The commands take an .onnx file where they take a graph, and `export` writes one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_cases import run_ort
from typer.testing import CliRunner

import tersor
from tersor.cli import app
from tersor.ir import Const, Graph, Tensor
from tersor.ir.ops import Conv2d, Relu


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with free height and width, in the working folder."""
    monkeypatch.chdir(tmp_path)
    graph = Graph()
    x = graph.add_input(Tensor((1, 3, 6, 6)), "input:0", batched=True)
    w = Const(np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32))
    graph.set_outputs([graph.add(Relu(Conv2d(x, w)))], ["y"])
    graph.to_onnx("m.onnx")
    model = onnx.load("m.onnx")
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "hw"[axis - 2]
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, "free.onnx")
    return tmp_path


def run(*args: str) -> Any:
    return CliRunner().invoke(app, args)


def test_sizes_by_name_in_order_and_missing(folder: Path) -> None:
    for shape in ("input:0=1x3x8x7", "1x3x8x7"):
        assert run("opt", "free.onnx", "-s", shape, "-o", "m.tersor").exit_code == 0
        assert tersor.load("m.tersor").inputs[0].shape == (1, 3, 8, 7)
    missing = run("opt", "free.onnx")
    assert missing.exit_code and "--shape input:0=" in str(missing.exception)
    given = run("opt", "m.tersor", "-s", "1x3x8x7")
    assert given.exit_code and "belongs to an .onnx file" in str(given.exception)


def test_run_and_diff_read_onnx(folder: Path) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 7)).astype(np.float32)
    np.save("x.npy", x)
    assert run("run", "free.onnx", "-s", "2x3x8x7", "-i", "x.npy", "-o", "y.npy").exit_code == 0
    np.testing.assert_allclose(np.load("y.npy"), run_ort("free.onnx", [x])[0], atol=1e-5)
    assert run("diff", "m.onnx", "m.onnx").exit_code == 0
    assert run("diff", "free.onnx", "free.onnx", "-s", "1x3x9x9").exit_code == 0


def test_export(folder: Path) -> None:
    assert run("opt", "m.onnx", "-o", "m.tersor").exit_code == 0
    result = run("export", "m.tersor", "-p", "default", "-o", "again.onnx", "--json")
    assert result.exit_code == 0 and '"input:0"' in result.stdout
    x = np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(run_ort("again.onnx", [x])[0], run_ort("m.onnx", [x])[0], atol=1e-6)
    wrong = run("export", "m.tersor", "-o", "m.pt")
    assert wrong.exit_code and "ends in .onnx" in str(wrong.exception)


def test_diff_with_onnxruntime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agree = run("diff", "ort:free.onnx", "free.onnx", "-s", "2x3x9x9", "--json")
    assert agree.exit_code == 0 and json.loads(agree.stdout)["values"][0]["op"] == "nn.conv2d"
    assert run("diff", "m.onnx", "ort:m.onnx").exit_code == 0
    graph = tersor.load("m.onnx")
    (conv,) = graph.find("nn.conv2d")
    other = Const(conv.w.op.array * 1.01)
    other.out.name = "other"
    conv.replace_operand(conv.w, graph.insert_before(conv, other))
    graph.save("other.tersor")
    differ = run("diff", "ort:m.onnx", "other.tersor", "--json")
    assert differ.exit_code == 1 and json.loads(differ.stdout)["first"]["op"] == "nn.conv2d"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    missing = run("diff", "ort:m.onnx", "m.onnx")
    assert missing.exit_code and "pip install onnxruntime" in str(missing.exception)


def test_the_newcomers_path(folder: Path) -> None:
    """The four commands of the README: an .onnx file, int8, compared, compiled, measured."""
    np.savez("images.npz", np.random.default_rng(0).standard_normal((16, 3, 6, 6)).astype(np.float32))
    page = (Path(__file__).parents[3] / "README.md").read_text()
    block = next(b for b in page.split("```") if "tersor opt model.onnx -p int8" in b)
    commands = [line.split("#")[0].replace("model.onnx", "m.onnx").split()[1:] for line in block.strip().splitlines()]
    assert [c[0] for c in commands] == ["opt", "diff", "compile", "bench"]
    for command in commands:
        result = run(*command)
        assert result.exit_code == 0, (command, result.output, result.exception)
    assert Path("int8.tso").exists()


def test_export_as_qdq(folder: Path) -> None:
    np.savez("images.npz", np.random.default_rng(0).standard_normal((16, 3, 6, 6)).astype(np.float32))
    result = run("export", "m.onnx", "-p", "qdq", "--calibration", "images.npz", "-o", "q.onnx", "--json")
    assert result.exit_code == 0, result.output
    (layer,) = json.loads(result.stdout)["layers"]
    assert layer["op"] == "quant.conv2d" and layer["reason"]
    x = np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)
    y, z = run_ort("m.onnx", [x])[0], run_ort("q.onnx", [x])[0]
    assert np.square(y - z).sum() < 1e-2 * np.square(y).sum()
