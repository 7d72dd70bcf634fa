"""The `tersor` command: what each subcommand writes, against the eager module; mistakes are one line and exit code 1."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tersor
from tersor.ir.op import Const
from tersor.ir.ops import Conv2d

MODELS = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 20, 3, padding=1), nn.BatchNorm2d(20), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.table = nn.Embedding(4, 6)

    def forward(self, image, ids):
        return {"sum": image + self.table(ids), "first": image.relu()}


ready = nn.Sigmoid()


def broken():
    raise RuntimeError("no weights here")


def number():
    return 3
"""

PASSES = '''
import tersor
from tersor.ir.ops import HardSwish, Relu, Sigmoid, Silu


@tersor.register_pass
@tersor.rewrite
def cli_test_lie(op: Relu):
    """relu(x) -> sigmoid(x), which is not exact"""
    return Sigmoid(op.x)


@tersor.register_pass(keeps="lossy")
@tersor.rewrite
def cli_test_loss(op: Relu):
    """relu(x) -> silu(x)"""
    return Silu(op.x)
'''


@dataclass
class Result:
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`cli("opt", "m.tersor", ...)` runs the command in an empty folder that holds models.py and passes.py."""
    from tersor.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    Path("models.py").write_text(MODELS)
    Path("my_passes.py").write_text(PASSES)

    def run(*args: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["tersor", *args])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def module(cli: Cli) -> nn.Module:
    """The eager module behind model.tersor."""
    assert cli("trace", "models.py:build", "-o", "model.tersor", "--shape", "1x3x16x16").code == 0
    from tersor.cli.sources import read_module

    return read_module("models.py:build")


def close(y: np.ndarray, expected: torch.Tensor) -> bool:
    return y.shape == tuple(expected.shape) and bool(np.allclose(y, expected.detach().numpy(), rtol=1e-4, atol=1e-5))


# -- trace -------------------------------------------------------------------------------------


def test_trace_writes_a_graph_that_computes_what_the_module_does(cli: Cli, module: nn.Module) -> None:
    x = torch.randn(3, 3, 16, 16)
    assert close(tersor.load("model.tersor")(x).numpy(), module(x))


def test_trace_reports_in_words_and_in_json(cli: Cli) -> None:
    text = cli("trace", "models.py:build", "-o", "m.tersor", "-s", "2x3x16x16").out
    assert "m.tersor: " in text and "batch x tensor<2x3x16x16xf32>" in text
    got = json.loads(cli("trace", "models.py:build", "-o", "m.tersor", "-s", "2x3x16x16", "--json").out)
    assert got["inputs"] == {"input": "tensor<2x3x16x16xf32>"} and got["outputs"] == {"output": "tensor<2x20xf32>"}
    assert got["macs"] == 2 * (16 * 3 * 9 * 256 + 20 * 16 * 9 * 64)


def test_trace_static_fixes_the_batch(cli: Cli) -> None:
    assert cli("trace", "models.py:build", "-o", "m.tersor", "-s", "2x3x16x16", "--static").code == 0
    assert not tersor.load("m.tersor").batched


def test_trace_takes_several_typed_inputs_by_order_or_name(cli: Cli) -> None:
    assert cli("trace", "models.py:Two", "-o", "a.tersor", "-s", "2x6", "-s", "2:i64").code == 0
    assert cli("trace", "models.py:Two", "-o", "b.tersor", "-s", "ids=2:i64", "-s", "image=2x6").code == 0
    image, ids = torch.randn(2, 6), torch.tensor([3, 1])
    for name in ("a.tersor", "b.tersor"):
        y = tersor.load(name)(image=image, ids=ids)
        torch.manual_seed(1)
        assert torch.equal(y["sum"], image + nn.Embedding(4, 6)(ids)) and torch.equal(y["first"], image.relu())


@pytest.mark.parametrize("source", ["models:ready", "models.py:ready"])
def test_trace_takes_a_module_that_is_there(cli: Cli, source: str) -> None:
    assert cli("trace", source, "-o", "m.tersor", "-s", "1x4").code == 0
    x = torch.randn(1, 4)
    assert torch.equal(tersor.load("m.tersor")(x), x.sigmoid())


# -- opt ---------------------------------------------------------------------------------------


def test_opt_prints_what_transform_gives(cli: Cli, module: nn.Module) -> None:
    out = cli("opt", "model.tersor", "-p", "fold-bn,canonicalize").out
    assert out.strip() == str(tersor.transform(tersor.load("model.tersor"), "fold-bn,canonicalize")).strip()
    assert "nn.batch_norm" not in out


def test_opt_writes_a_graph_and_shows_the_ledger(cli: Cli, module: nn.Module) -> None:
    done = cli("opt", "model.tersor", "-p", "fold-bn", "-o", "small.tersor")
    assert "fold-bn" in done.out and "numeric" in done.out and done.err == ""
    x = torch.randn(1, 3, 16, 16)
    small = tersor.load("small.tersor")
    assert not small.find("nn.batch_norm") and close(small(x).numpy(), module(x))


def test_opt_json_is_the_ledger(cli: Cli, module: nn.Module) -> None:
    rows = json.loads(cli("opt", "model.tersor", "-p", "fold-bn", "-o", "small.tersor", "--json").out)
    assert [r["name"] for r in rows] == ["input", "fold-bn"] and rows[1]["rewrites"] == {"fold_bn": 2}


def test_opt_instruments_write_to_standard_error(cli: Cli, module: nn.Module) -> None:
    done = cli("opt", "model.tersor", "-p", "fold-bn,canonicalize", "-o", "s.tersor", "--dump-after-all", "--timing", "--dump-to", "dump")
    assert done.err.count('"func.func"') == 3 and "ms  fold-bn" in done.err
    assert sorted(p.name for p in Path("dump").iterdir()) == ["00-input.mlir", "01-fold-bn.mlir", "02-canonicalize.mlir"]


def test_opt_check_finds_a_pass_that_lies(cli: Cli, module: nn.Module) -> None:
    assert cli("opt", "model.tersor", "-p", "cli-test-lie", "-I", "my_passes.py", "-o", "s.tersor").code == 0
    done = cli("opt", "model.tersor", "-p", "cli-test-lie", "-I", "my_passes.py", "-o", "s.tersor", "--check")
    assert done.code == 1 and "declares 'exact'" in done.err and "cli-test-lie" in done.err


def test_opt_calibration_gives_the_loss(cli: Cli, module: nn.Module) -> None:
    np.savez("samples.npz", input=np.random.default_rng(0).standard_normal((20, 3, 16, 16)).astype(np.float32))
    rows = json.loads(cli("opt", "model.tersor", "-p", "cli-test-loss", "-I", "my_passes.py", "--calibration", "samples.npz", "--json").out)
    assert 0 < rows[1]["sqnr"] < 40


def test_opt_why_tells_refused_matches(cli: Cli) -> None:
    graph = tersor.Graph()
    x = graph.add_input(tersor.Tensor((1, 2, 4, 4)), "x")
    conv = Conv2d(x, Const(np.ones((2, 2, 1, 1), np.float32)))
    ones = Const(np.ones(2, np.float32))
    from tersor.ir.ops import BatchNorm

    norm = BatchNorm(conv, ones, ones, ones, ones)
    graph.add(norm)
    graph.set_outputs([norm.out, conv.out])
    graph.save("two.tersor")
    done = cli("opt", "two.tersor", "-p", "fold-bn", "-o", "s.tersor", "--why")
    assert "has other readers" in done.err


# -- compile, run, bench, profile --------------------------------------------------------------


def test_compile_and_run_agree_with_the_module(cli: Cli, module: nn.Module) -> None:
    done = cli("compile", "model.tersor", "-o", "model.tso", "--batch", "1,4")
    assert done.code == 0 and done.err == "" and "f32" in done.out
    for batch in (1, 4):
        x = torch.randn(batch, 3, 16, 16)
        np.save("x.npy", x.numpy())
        assert cli("run", "model.tso", "--input", "x.npy", "-o", "y.npy").code == 0
        assert close(np.load("y.npy"), module(x))
        assert cli("run", "model.tersor", "--input", "input=x.npy", "-o", "y.npz").code == 0
        assert close(np.load("y.npz")["output"], module(x))


def test_compile_json(cli: Cli, module: nn.Module) -> None:
    got = json.loads(cli("compile", "model.tersor", "-o", "model.tso", "--json").out)
    assert got["bytes"] == Path("model.tso").stat().st_size and got["threads"] == 1 and "f32" in got["precision"]


def test_run_without_input_draws_one_and_sums_up(cli: Cli, module: nn.Module) -> None:
    (got,) = json.loads(cli("run", "model.tersor", "--json").out)
    assert got["output"] == "output" and got["shape"] == [1, 20] and got["min"] <= got["mean"] <= got["max"] <= 6
    assert "1x20" in cli("run", "model.tersor").out


def test_run_several_inputs_and_outputs(cli: Cli) -> None:
    cli("trace", "models.py:Two", "-o", "two.tersor", "-s", "2x6", "-s", "2:i64")
    image = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)
    np.savez("in.npz", image=image, ids=np.array([1, 2]))
    assert cli("run", "two.tersor", "-i", "in.npz", "-o", "out.npz").code == 0
    assert np.array_equal(np.load("out.npz")["first"], np.maximum(image, 0))
    done = cli("run", "two.tersor", "-i", "in.npz", "-o", "out.npy")
    assert done.code == 1 and "2 outputs (sum, first)" in done.err


def test_bench_and_profile(cli: Cli, module: nn.Module) -> None:
    cli("compile", "model.tersor", "-o", "model.tso")
    assert json.loads(cli("bench", "model.tso", "--repeat", "3", "--json").out)["repeat"] == 3
    assert "3 runs" in cli("bench", "model.tersor", "--repeat", "3", "--batch", "2").out
    got = json.loads(cli("profile", "model.tso", "--rounds", "2", "--json").out)
    assert sum(r["macs"] for r in got["rows"]) == 16 * 3 * 9 * 256 + 20 * 16 * 9 * 64
    every, slowest = (cli("profile", "model.tso", "--rounds", "2", "--top", top).out for top in ("0", "1"))
    kernels = [r["kernel"] for r in got["rows"]]
    assert len(set(kernels)) > 1 and all(name in every for name in kernels) and "conv2d+" in every
    # which one that is depends on what else the machine does
    assert sum(name in slowest for name in set(kernels)) == 1 and "GFLOP/s of an FMA peak" in slowest


# -- passes ------------------------------------------------------------------------------------


def test_passes_lists_and_explains(cli: Cli) -> None:
    text = cli("passes").out
    assert "fold-bn" in text and "default" in text and "exact" in text
    listed = json.loads(cli("passes", "--json").out)
    assert {"canonicalize", "fold-bn"} <= {p["name"] for p in listed["passes"]} and "default" in listed["presets"]
    one = cli("passes", "canonicalize").out
    assert "merge_constants" in one and "true or false" in one
    assert "fold-bn" in cli("passes", "default").out
    assert json.loads(cli("passes", "default", "--json").out)["pipeline"].startswith("canonicalize")
    assert "silu" in cli("passes", "cli-test-loss", "--import", "my_passes.py").out


# -- diff --------------------------------------------------------------------------------------


def damaged(graph: tersor.Graph, index: int) -> tersor.Graph:
    """A copy whose convolution `index` has one weight too large."""
    graph = graph.clone()
    conv: Any = graph.find("nn.conv2d")[index]
    w = conv.w.op.array.copy()
    w[1, 0, 1, 1] += 3
    graph.replace(conv, conv.rebuilt(w=Const(w)))
    return graph


def test_diff_agrees_between_torch_graph_transformed_and_compiled(cli: Cli, module: nn.Module) -> None:
    cli("opt", "model.tersor", "-p", "default", "-o", "small.tersor")
    cli("compile", "small.tersor", "-o", "model.tso")
    for a, b in (
        ("models.py:build", "model.tersor"),
        ("models.py:build", "small.tersor"),
        ("model.tersor", "small.tersor"),
        ("small.tersor", "compiled:model.tersor"),
        ("models.py:build", "compiled:small.tersor"),
        ("model.tersor", "model.tso"),
        ("models.py:build", "model.tso"),
        ("model.tso", "compiled:model.tersor"),
    ):
        done = cli("diff", a, b, "--json")
        got = json.loads(done.out)
        assert done.code == 0 and got["agree"] and got["first"] is None, (a, b)
        assert bool(got["values"]) == ("model.tso" not in (a, b)), (a, b)
    assert "the outputs agree within" in cli("diff", "model.tersor", "small.tersor").out


@pytest.mark.parametrize("reference", ["models.py:build", "model.tersor"])
@pytest.mark.parametrize("other", ["bad.tersor", "compiled:bad.tersor"])
def test_diff_names_the_first_op_that_parts(cli: Cli, module: nn.Module, reference: str, other: str) -> None:
    damaged(tersor.load("model.tersor"), 1).save("bad.tersor")
    done = cli("diff", reference, other, "--json")
    got = json.loads(done.out)
    assert done.code == 1 and not got["agree"]
    where = {r["value"]: r["error"] for r in got["values"]}
    assert where["max_pool2d"] < 1e-5, "values before the damage agree"
    # lowering folds the norm and fuses the clip, so its kernel begins to differ at the clip
    assert got["first"]["value"] in (("hardtanh",) if "compiled" in other else ("conv2d_1",))
    assert "first to part: %" in cli("diff", reference, other).out


def test_diff_finds_a_kernel_that_is_wrong(cli: Cli, module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    from tersor.backend.codegen.tir_math import TirMath

    monkeypatch.setattr(TirMath, "min", lambda self, a, b: a)
    got = json.loads(cli("diff", "model.tersor", "compiled:model.tersor", "--json", "--input", big_input()).out)
    assert got["first"]["value"] == "hardtanh" and got["first"]["op"] == "conv2d+clip"


def big_input() -> str:
    """An input that drives the second activation above 6."""
    np.save("big.npy", 50 * np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32))
    return "big.npy"


def test_diff_of_two_modules_needs_shapes(cli: Cli) -> None:
    assert "give --input or --shape" in cli("diff", "models.py:build", "models.py:build").err
    assert cli("diff", "models.py:build", "models.py:build", "--shape", "1x3x16x16").code == 0


def test_diff_tells_a_moved_value_from_a_wrong_one(cli: Cli, module: nn.Module) -> None:
    graph = tersor.load("model.tersor")
    relu = graph.find("nn.relu")[0]
    relu.operands[0].name, relu.out.name = relu.out.name, relu.operands[0].name
    graph.save("renamed.tersor")
    done = cli("diff", "model.tersor", "renamed.tersor")
    assert done.code == 0 and "a rewrite gave them another meaning" in done.out


# -- mistakes ----------------------------------------------------------------------------------

MISTAKES = {
    "unknown pass": (("opt", "model.tersor", "-p", "fold-bnn"), "did you mean 'fold-bn'"),
    "unknown option": (("opt", "model.tersor", "-p", "canonicalize{max_byte=3}"), "did you mean 'max_bytes'"),
    "unknown target": (("compile", "model.tersor", "-o", "m.tso", "--target", "gpu"), "unknown target 'gpu'; valid:"),
    "no file": (("opt", "nothing.tersor"), "does not exist"),
    "no graph": (("opt", "models.py"), "expected a .tersor, .mlir or .onnx file"),
    "truncated": (("opt", "half.tersor"), "damaged"),
    "no compiled model": (("run", "half.tso"), "is not a compiled model"),
    "weights missing": (("opt", "text.mlir"), "needs the arrays"),
    "wrong suffix": (("opt", "model.tersor", "-o", "out.txt"), "ends in .tersor or .mlir"),
    "no folder": (("opt", "model.tersor", "-o", "nowhere/out.tersor"), "there is no folder nowhere"),
    "bad shape": (("trace", "models.py:build", "-o", "m.tersor", "-s", "3,224"), "such as 1x3x224x224"),
    "bad element": (("trace", "models.py:build", "-o", "m.tersor", "-s", "1x3:int8"), "element types: bool, i8"),
    "shape that does not fit": (("trace", "models.py:build", "-o", "m.tersor", "-s", "1x4x16x16"), ""),
    "no factory": (("trace", "models.py:bild", "-o", "m.tersor", "-s", "1x3"), "has no 'bild'; it has"),
    "no module": (("trace", "nowhere.py:build", "-o", "m.tersor", "-s", "1x3"), "there is no file nowhere.py"),
    "no package": (("trace", "nowhere.at.all:build", "-o", "m.tersor", "-s", "1x3"), "cannot import nowhere.at.all"),
    "factory fails": (("trace", "models.py:broken", "-o", "m.tersor", "-s", "1x3"), "RuntimeError: no weights here"),
    "no torch module": (("trace", "models.py:number", "-o", "m.tersor", "-s", "1x3"), "torch.nn.Module, got int"),
    "batch": (("compile", "model.tersor", "-o", "m.tso", "--batch", "1,x"), "batch sizes such as 1,8"),
    "input file": (("run", "model.tersor", "-i", "x.npy"), "there is no file x.npy"),
    "input no array": (("run", "model.tersor", "-i", "models.py"), "no .npy or .npz file"),
    "input name": (("run", "model.tersor", "-i", "y=three.npy"), "there is no input 'y'; inputs: input"),
    "input shape": (("run", "model.tersor", "-i", "three.npy"), "must be f32[batch, 3, 16, 16]"),
    "input too many": (("run", "model.tersor", "-i", "three.npy", "-i", "three.npy"), "one input too many"),
    "output suffix": (("run", "model.tersor", "-o", "y.txt"), "ends in .npy or .npz"),
    "calibration": (("opt", "model.tersor", "-p", "fold-bn", "--calibration", "empty.npz"), "samples along axis 0"),
    "pass to explain": (("passes", "fold-bnn"), "did you mean 'fold-bn'"),
    "diff of shapes": (("diff", "model.tersor", "other.tersor"), ""),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_1(cli: Cli, module: nn.Module, case: str) -> None:
    Path("half.tersor").write_bytes(Path("model.tersor").read_bytes()[:5000])
    Path("half.tso").write_bytes(b"not a model")
    Path("text.mlir").write_text(str(tersor.load("model.tersor")))
    np.save("three.npy", np.zeros(3, np.float32))
    np.savez("empty.npz", input=np.zeros((0, 3, 16, 16), np.float32))
    cli("trace", "models.py:ready", "-o", "other.tersor", "-s", "1x4")
    args, expected = MISTAKES[case]
    done = cli(*args)
    assert done.code == 1 and done.out == ""
    assert done.err.startswith("error: ") and expected in done.err and "Traceback" not in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("args", [("compile", "model.tersor"), ("frobnicate",), ("opt",), ("opt", "m.tersor", "--no-such-option")])
def test_a_wrong_command_line_is_exit_code_2(cli: Cli, args: tuple[str, ...]) -> None:
    assert cli(*args).code == 2


def test_a_fresh_process_is_silent_in_a_pipe_and_shows_no_traceback(cli: Cli, module: nn.Module) -> None:
    command = [sys.executable, "-c", "from tersor.cli import main; main()"]
    good = subprocess.run([*command, "opt", "model.tersor", "-p", "default", "-o", "s.tersor"], capture_output=True, text=True)
    assert good.returncode == 0 and good.stderr == ""
    bad = subprocess.run([*command, "opt", "model.tersor", "-p", "nope"], capture_output=True, text=True)
    assert bad.returncode == 1 and bad.stdout == "" and len(bad.stderr.splitlines()) == 1
    listing = "from tersor.cli import main; import sys, atexit; atexit.register(lambda: print('torch' in sys.modules, 'tvm' in sys.modules)); main()"
    assert subprocess.run([sys.executable, "-c", listing, "passes"], capture_output=True, text=True).stdout.split()[-2:] == ["False", "False"]
    # what runs a compiled model needs neither torch nor the compiler
    cli("compile", "model.tersor", "-o", "model.tso")
    for args in (["run", "model.tso", "-o", "y.npy"], ["bench", "model.tso", "--repeat", "2"], ["profile", "model.tso", "--rounds", "1"]):
        done = subprocess.run([sys.executable, "-c", listing, *args], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.split()[-2:] == ["False", "False"], (args, done)


# -- tune --------------------------------------------------------------------------------------


def test_tune_writes_a_database_that_compile_reads(cli: Cli, module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    from tersor.backend.tuning import timing

    monkeypatch.setattr(timing, "STAGES", ((2, 1.0),))
    got = json.loads(cli("tune", "model.tersor", "--seconds", "60", "--seed", "3", "--json").out)
    keys = ["tile.conv2d 1x16x8x8 o20 k3 s1 p1 + clip min=0.0 max=6.0", "tile.conv2d 1x3x16x16:plain o16 k3 s1 p1 + relu"]
    assert got["measured"] == 2 and got["left"] == 0 and sorted(r["key"] for r in got["rows"]) == keys
    again = cli("tune", "model.tersor", "--db", "tuned.json")
    assert again.code == 0 and again.err == "" and "2 distinct fusions with a choice, none measured now" in again.out
    shown = cli("tune", "model.tersor", "--db", "tuned.json", "--compare")
    assert shown.code == 0 and all(key in shown.out for key in keys)
    assert cli("compile", "model.tersor", "-o", "model.tso", "--tuned", "tuned.json").code == 0
    x = torch.randn(1, 3, 16, 16)
    assert close(tersor.load_compiled("model.tso")(x).numpy(), module(x))
    rows = json.loads(cli("profile", "model.tso", "--rounds", "1", "--json").out)["rows"]
    assert [r["chosen"] for r in rows if r["macs"]] == ["tuned", "tuned"]
    rows = json.loads(cli("profile", "model.tersor", "--tuned", "none", "--rounds", "1", "--json").out)["rows"]
    assert [r["chosen"] for r in rows if r["macs"]] == ["model", "model"]


def test_tune_mistakes_are_one_line(cli: Cli, module: nn.Module) -> None:
    Path("tuned.json").write_text("{}")
    for arguments, message in (
        (("tune", "model.tersor"), 'error: tuned.json is not a tuning database: expected {"format": 1, "targets": …}'),
        (
            ("compile", "model.tersor", "-o", "m.tso", "--tuned", "none.json"),
            "error: there is no tuning database none.json: tersor tune MODEL --db",
        ),
        (("tune", "model.tersor", "--compare", "--again"), "error: --compare measures nothing: leave --seconds, --again and --search out"),
    ):
        done = cli(*arguments)
        assert done.code == 1 and done.err.startswith(message) and done.err.count("\n") == 1
