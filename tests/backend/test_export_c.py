"""A C export is built by `make`, runs its self-test, and gives the bits of the compiled model; its library calls nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backend_run import graph_of
from torch import nn
from typer.testing import CliRunner

import tersor
from tersor import TersorError, UnsupportedError
from tersor.backend.export_c.static_library import check_symbols
from tersor.backend.runtime.model import CompiledModel
from tersor.cli import app
from tersor.ir.graph import Graph
from tersor.ir.ops import IndexSelect, Relu, Sub
from tersor.ir.types import Tensor

ARM = "arm64:cortex-a72"
needs_qemu = pytest.mark.skipif(
    shutil.which("aarch64-linux-gnu-gcc") is None or shutil.which("qemu-aarch64") is None,
    reason="aarch64-linux-gnu-gcc or qemu-aarch64 is missing: apt-get install gcc-aarch64-linux-gnu qemu-user",
)
foreign = pytest.mark.skipif(os.uname().machine == "aarch64", reason="this machine is an aarch64 one")


@cache
def graph(kind: str) -> Graph:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 10, 3, stride=2, padding=1), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(90, 7)).eval()
    traced = tersor.trace(net, (torch.zeros(1, 3, 11, 13),))
    return traced if kind == "f32" else tersor.transform(traced, kind, calibration=[image()])


@cache
def image() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((1, 3, 11, 13)).astype(np.float32)


@cache
def compiled(kind: str) -> CompiledModel:
    return tersor.compile(graph(kind))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The f32 network exported, and its example built."""
    path = tmp_path_factory.mktemp("export") / "c"
    compiled("f32").export_c(path, [image()])
    assert make(path, "model_test").returncode == 0
    return path


def make(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-C", str(path), *arguments], capture_output=True, text=True)


def test_the_self_test_passes(folder: Path) -> None:
    done = make(folder, "test")
    assert done.returncode == 0, done.stderr
    assert "the same bits as recorded" in done.stdout and re.search(r"^median [\d.]+ ms, min [\d.]+, p90 [\d.]+; 20 calls$", done.stdout, re.M)


def test_what_is_recorded_is_what_the_model_gives(folder: Path) -> None:
    data = (folder / "model_test.bin").read_bytes()
    assert data[: image().nbytes] == image().tobytes()
    assert compiled("f32")(image()).tobytes() in data[image().nbytes :]


@pytest.mark.parametrize("broken", ["model_test.bin", "model.bin"])
def test_the_self_test_can_fail(folder: Path, tmp_path: Path, broken: str) -> None:
    """One bit of an expected output, or all weights."""
    copy = Path(shutil.copytree(folder, tmp_path / "c"))
    data = bytearray((copy / broken).read_bytes())
    if broken == "model.bin":
        data = bytearray(len(data))
    else:
        data[data.index(compiled("f32")(image()).tobytes())] ^= 1
    (copy / broken).write_bytes(data)
    done = make(copy, "test")
    assert done.returncode and "WRONG, other bits than recorded" in done.stdout


def test_weights_of_another_model(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "c"))
    (copy / "model.bin").write_bytes(bytes(64))
    done = make(copy, "test")
    assert done.returncode and "model.bin: not the file that belongs to model.h" in done.stderr


def test_an_integer_model_under_its_own_name_beside_another(folder: Path, tmp_path: Path) -> None:
    """Both libraries in one program: names of kernels do not meet."""
    compiled("int8").export_c(tmp_path / "c", [image()], name="net8")
    assert "the same bits as recorded" in make(tmp_path / "c", "test").stdout
    assert compiled("int8")(image()).tobytes() in (tmp_path / "c/net8_test.bin").read_bytes()
    both = '#include "model.h"\n#include "net8.h"\nint (*const runs[])(const void *, const float *, float *, void *) = {model_run, net8_run};\n'
    (tmp_path / "both.cc").write_text(both + "int main() { return NET8_IN_INPUT_SIZE - MODEL_IN_INPUT_SIZE; }\n")
    sources = [tmp_path / "both.cc", folder / "libmodel.a", tmp_path / "c/libnet8.a"]
    flags = ["-std=c++98", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{folder}", f"-I{tmp_path / 'c'}", "-o", tmp_path / "both"]
    subprocess.run(["g++", *map(str, [*flags, *sources])], check=True)
    subprocess.run([str(tmp_path / "both")], check=True)


def test_the_library_calls_nothing_and_shows_one_function(folder: Path) -> None:
    symbols = subprocess.run(["nm", str(folder / "libmodel.a")], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in symbols.splitlines() if len(line.split()) > 1]
    assert [row[-1] for row in rows if row[-2] in "UwDBdbC"] == []
    assert [row[-1] for row in rows if row[-2].isupper() and row[-2] != "N"] == ["model_run"]


def test_what_a_library_may_not_call() -> None:
    assert check_symbols(["model_run T 0 5", "exp U", "tanhf U", "memset t 0 9"]) == ["exp", "tanhf"]
    for symbol in ("TVMBackendAllocWorkspace U", "malloc U", "memcpy U", "sched_yield U", "__TVMBackendParallelLaunch C 8 8"):
        with pytest.raises(UnsupportedError, match=f"calls {symbol.split()[0]}, which a C library without a runtime does not have"):
            check_symbols([symbol])


CALLER = """
#include <stdio.h>
#include "model.h"
static float x[MODEL_IN_X0_SIZE + 16] __attribute__((aligned(64))), y[MODEL_OUT_OUTPUT_SIZE + 1] __attribute__((aligned(64)));
static char weights[MODEL_WEIGHTS_SIZE] __attribute__((aligned(64))), arena[MODEL_ARENA_SIZE] __attribute__((aligned(64)));
int main(void) {
  static int64_t at[10] __attribute__((aligned(64))) = {4, 0};
  int i;
  for (i = 0; i < MODEL_IN_X0_SIZE; ++i) x[i] = (float)i;
  printf("%d ", model_run(weights, x, at, y, arena));
  printf("%g %g ", y[0], y[5]);
  at[1] = 5;
  printf("%d ", model_run(weights, x, at, y, arena));
  at[1] = 2;
  printf("%d ", model_run(weights, x, at, y, arena));
  printf("%g ", y[3]);
  printf("%d %d\\n", model_run(weights, x, at, y + 1, arena), MODEL_BAD_INDEX);
  return 0;
}
"""


def test_codes_of_errors(tmp_path: Path) -> None:
    """An index outside its range, which the next call has forgotten, and an output at the wrong place."""
    lookup = graph_of(lambda x, at: IndexSelect(x, at, 0), (5, 3), Tensor((2,), "i64"))
    exe = tersor.compile(lookup)
    exe.export_c(tmp_path / "c")
    assert make(tmp_path / "c", "test").returncode == 0
    output = next(iter(exe.outputs)).upper()
    (tmp_path / "caller.c").write_text(CALLER.replace("OUT_OUTPUT", f"OUT_{output}"))
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{tmp_path / 'c'}"]
    subprocess.run(["gcc", *flags, str(tmp_path / "caller.c"), str(tmp_path / "c/libmodel.a"), "-o", str(tmp_path / "caller")], check=True)
    said = subprocess.run([str(tmp_path / "caller")], capture_output=True, text=True, check=True).stdout.split()
    assert said == ["0", "12", "2", "2", "0", "6", "1", "2"]


@foreign
@needs_qemu
def test_another_processor(tmp_path: Path) -> None:
    exe = tersor.compile(graph("f32"), target=ARM)
    with pytest.raises(TersorError, match=r"this machine is .*The self-test needs the outputs: export_c\(folder, inputs="):
        exe.export_c(tmp_path / "c")
    expected = np.asarray(graph("f32")(image()))
    exe.export_c(tmp_path / "c", [image()], [expected])
    done = make(tmp_path / "c", "test", "LDFLAGS=-static", "RUN=qemu-aarch64")
    assert done.returncode == 0 and "as recorded, error" in done.stdout, done.stdout + done.stderr

    exe.export_c(tmp_path / "c", [image()], [expected * np.float32(1.001)])
    done = make(tmp_path / "c", "test", "LDFLAGS=-static", "RUN=qemu-aarch64")
    assert done.returncode and "WRONG, error" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folder": "none/c"}, r"cannot write to none/c: there is no folder none"),
        ({"folder": __file__}, r"it is a file, and a C export is a folder"),
        ({"name": "my-net"}, r"name='my-net' must be the start of C names"),
        ({"inputs": [np.zeros((1, 3, 11, 12), np.float32)]}, r"input 'input' of main must be f32\[1, 3, 11, 13\]"),
        ({"expected": [np.zeros((1, 7), np.float32)]}, r"expected outputs belong to inputs"),
        ({"inputs": [image()], "expected": [np.zeros((1, 8), np.float32)]}, r"expected output 'output' must be .*, got float32\[1, 8\]"),
        ({"inputs": [image()], "expected": []}, r"expected=0 arrays: the model has 1 outputs, output"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TersorError, match=message):
        compiled("f32").export_c(**{"folder": tmp_path / "c"} | arguments)
    assert not (tmp_path / "c").exists()


def test_models_that_have_no_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simple = graph_of(Relu, (1, 3))
    with pytest.raises(TersorError, match=r"runs on one thread, and main was compiled for 2: compile\(graph, threads=1\)"):
        tersor.compile(simple, threads=2).export_c(tmp_path / "c")
    exe = tersor.compile(simple)
    exe.save(tmp_path / "m.tso")
    with pytest.raises(TersorError, match=r"main was loaded from a file, which holds no object to link: compile the graph again"):
        tersor.load_compiled(tmp_path / "m.tso").export_c(tmp_path / "c")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(TersorError, match=r"takes a C compiler, and there is none"):
        exe.export_c(tmp_path / "c")


def test_more_batches_than_one(tmp_path: Path) -> None:
    net = tersor.trace(nn.ReLU(), (torch.zeros(2, 3),))
    with pytest.raises(TersorError, match=r"holds one batch size, and main was compiled for 1, 2: compile\(graph, batch=1\)"):
        tersor.compile(net).export_c(tmp_path / "c")


def test_names_that_c_does_not_take(tmp_path: Path) -> None:
    """Two inputs that are the same in capitals, one with signs; the arguments are in order."""
    g = Graph()
    a, b = g.add_input(Tensor((1, 4)), "x.1"), g.add_input(Tensor((1, 4)), "X_1")
    g.set_outputs([g.add(Sub(a, b))])
    tersor.compile(g).export_c(tmp_path / "c", [np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32)])
    header = (tmp_path / "c/model.h").read_text()
    assert "const float *in_x_1, const float *in_X_1_2, float *" in header
    assert "#define MODEL_IN_X_1_SIZE 4" in header and "#define MODEL_IN_X_1_2_SIZE 4" in header
    assert make(tmp_path / "c", "test").returncode == 0


def test_the_command(tmp_path: Path) -> None:
    """Mistakes fail before the work."""
    g = graph_of(Relu, (1, 3))
    g.save(tmp_path / "m.tersor")
    command = ["export-c", str(tmp_path / "m.tersor"), "-o", str(tmp_path / "c"), "--name", "tiny", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and json.loads(done.stdout)["function"] == "tiny_run"
    assert "the same bits as recorded" in make(tmp_path / "c", "test").stdout
    with pytest.raises(TersorError, match="a C export runs on one thread, got --threads 2"):
        CliRunner().invoke(app, [*command, "--threads", "2"], catch_exceptions=False)
    with pytest.raises(TersorError, match="there is no folder none"):
        CliRunner().invoke(app, ["export-c", str(tmp_path / "m.tersor"), "-o", "none/c"], catch_exceptions=False)
