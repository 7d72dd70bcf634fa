"""Inner loops are found and judged; those of ARM kernels keep the multiply-add ports busy, without spills."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import tersor
from tersor import TersorError
from tersor.backend import static_profile as static
from tersor.backend.codegen.peak import peak_functions
from tersor.backend.emit.module import Emitter
from tersor.backend.instruction_count import instruction_count
from tersor.backend.static_profile import loops, macs_of, main_loop, static_profile
from tersor.backend.target import resolve
from tersor.cli import app
from tersor.ir.graph import Graph

N1 = "arm64:neoverse-n1"


def missing() -> bool:
    try:
        return not (static.tool("llvm-mca") and static.tool("llvm-objdump"))
    except TersorError:
        return True


needs_llvm = pytest.mark.skipif(missing(), reason="llvm-mca of LLVM 19 is missing: apt-get install llvm-19")


QEMU = bool(shutil.which("qemu-aarch64") and shutil.which("aarch64-linux-gnu-gcc"))
needs_qemu = pytest.mark.skipif(not QEMU, reason="qemu-aarch64 or a compiler for aarch64 is missing: apt-get install qemu-user gcc-aarch64-linux-gnu")


def traced(*layers: nn.Module, shape: tuple[int, ...] = (1, 64, 28, 28)) -> Graph:
    torch.manual_seed(0)
    return tersor.trace(nn.Sequential(*layers).eval(), (torch.randn(shape),))


#: A layer for each kind of kernel, and the template that takes it.
LAYERS = {
    "pointwise": (nn.Conv2d(64, 64, 1), "gemm"),
    "pointwise of 7x7": (nn.Conv2d(64, 128, 1), "gemm"),
    "strided 3x3": (nn.Conv2d(64, 64, 3, 2, 1), "direct"),
    "dilated 3x3": (nn.Conv2d(64, 64, 3, 1, 2, 2), ""),
    "5x5": (nn.Conv2d(64, 32, 5, 1, 2), ""),
    "winograd": (nn.Conv2d(64, 64, 3, 1, 1), "winograd"),
    "first": (nn.Conv2d(3, 32, 3, 2, 1), "direct"),
    "depthwise": (nn.Conv2d(32, 32, 3, 1, 1, groups=32), "depthwise"),
}


@needs_llvm
@pytest.mark.parametrize("name", [n if n == "pointwise" else pytest.param(n, marks=pytest.mark.slow) for n in LAYERS])
def test_inner_loops_of_f32_reach_the_ports(name: str) -> None:
    """95 % of what the ports do, depthwise 85 %; no vector goes to the stack."""
    layer, template = LAYERS[name]
    side = {"pointwise of 7x7": 7, "depthwise": 56}.get(name, 28)
    found = static_profile(traced(layer, nn.ReLU(), shape=(1, layer.in_channels, side, side)), N1)
    rows = [r for r in found.rows if r.loop is not None]
    assert rows and (not template or template in {r.template for r in rows})
    for row in rows:
        assert row.loop is not None and row.loop.spills == 0, "\n".join(row.loop.text if row.loop else ())
        assert row.share >= (0.85 if "depthwise" in name else 0.95)
        assert row.share <= 1.01, "more than the ports can do: the facts are wrong"


@needs_llvm
@pytest.mark.slow
@pytest.mark.parametrize("layer", [nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 3, 2, 1)], ids=["pointwise", "strided 3x3"])
def test_inner_loops_of_sdot_reach_the_ports(layer: nn.Module) -> None:
    x = torch.randn(1, 64, 28, 28)
    graph = tersor.transform(traced(layer, nn.ReLU()), "int8", calibration=[x])
    rows = [r for r in static_profile(graph, N1).rows if r.loop is not None]
    assert [r.params["arithmetic"] for r in rows] == ["sdot"]
    assert all(r.share >= 0.85 and r.loop is not None and r.loop.spills == 0 for r in rows)


@needs_llvm
def test_the_peak_is_that_of_the_ports(tmp_path: Path) -> None:
    """It was half on ARM while each multiply-add had a move of its own. Its loop has nothing else now."""
    target = resolve(N1)
    functions, _ = peak_functions(target)
    Emitter(target, 1, functions=dict(functions)).build().write_to_file(str(tmp_path / "peak.o"), "o")
    code = static.disassembled(static.tool("llvm-objdump"), tmp_path / "peak.o")
    found = [loop for f in code.values() if (loop := main_loop(f, "aarch64", static.tool("llvm-mca"), "neoverse-n1")) is not None]
    (loop,) = found
    assert loop.instructions / 2 / loop.cycles >= 0.99 and loop.spills == 0
    assert not any(text.startswith("mov v") for text in loop.text)


SPILLING = """
  100: ldr q0, [x0]
  104: str q0, [sp, #0x10]
  108: fmla v1.4s, v2.4s, v0.s[0]
  10c: ldr q3, [x1], #16
  110: subs x2, x2, #1
  114: b.ne 0x100 <f+0x0>
  118: fmla v1.4s, v2.4s, v0.4s
  11c: cbnz x3, 0xf0 <f>
"""


def code(text: str) -> list[tuple[int, str]]:
    return [(int(address, 16), rest) for address, rest in (line.strip().split(": ") for line in text.strip().splitlines())]


def test_loops_loads_and_spills_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "simulated", lambda *_: 2.0)
    given = [(0xF0, "nop"), *code(SPILLING)]
    (body,) = loops(given, "aarch64")
    assert len(body) == 5, "the loop around it is no innermost one"
    loop = main_loop(given, "aarch64", "mca", "n1")
    assert loop is not None
    assert replace(loop, text=()) == static.Loop(macs=4, instructions=1, loads=2, stores=1, spills=1, cycles=2.0)
    assert main_loop([(0, "nop"), (4, "b.ne 0x0 <f>")], "aarch64", "mca", "n1") is None


@pytest.mark.parametrize(
    ("text", "arch", "macs"),
    [
        ("fmla v1.4s, v2.4s, v3.s[1]", "aarch64", 4),
        ("fmla v1.8h, v2.8h, v3.h[1]", "aarch64", 8),
        ("sdot v1.4s, v2.16b, v3.4b[1]", "aarch64", 16),
        ("smmla v1.4s, v2.16b, v3.16b", "aarch64", 32),
        ("smlal2 v1.4s, v2.8h, v3.h[1]", "aarch64", 4),
        ("fmul v1.4s, v2.4s, v3.4s", "aarch64", 0),
        ("vfmadd231ps 0x40(%rsi), %zmm1, %zmm2", "x86_64", 16),
        ("vfmadd231ps %ymm0, %ymm1, %ymm2", "x86_64", 8),
        ("vpdpbusd %zmm0, %zmm1, %zmm2", "x86_64", 64),
        ("vaddps %zmm0, %zmm1, %zmm2", "x86_64", 0),
    ],
)
def test_multiply_adds_of_instructions(text: str, arch: str, macs: int) -> None:
    assert macs_of(text, arch) == macs


def test_the_facts_of_named_processors() -> None:
    sizes = {name: (resolve(f"arm64:{name}").l1 >> 10, resolve(f"arm64:{name}").l2 >> 10) for name in ("cortex-a53", "cortex-a76", "apple-m1")}
    assert sizes == {"cortex-a53": (32, 512), "cortex-a76": (64, 512), "apple-m1": (128, 12 << 10)}
    assert "asimddp" in resolve("arm64:cortex-a76").features and "asimddp" not in resolve("arm64:cortex-a72").features


def test_what_has_no_static_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    graph = traced(nn.ReLU(), shape=(1, 3))
    with pytest.raises(TersorError, match=r"LLVM has no model of cortex-a72's own pipelines that is right; a static profile takes .*neoverse-n1"):
        static_profile(graph, "arm64:cortex-a72")
    with pytest.raises(TersorError, match="a static profile is of CPU kernels, got target 'opencl'"):
        static_profile(graph, "opencl")
    for arguments, message in (
        (["m.tso", "-t", N1], "--static takes a graph"),
        (["m.tersor", "--threads", "2"], "--static judges the code of one thread"),
    ):
        with pytest.raises(TersorError, match=message):
            CliRunner().invoke(app, ["profile", "--static", *arguments], catch_exceptions=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(TersorError, match="a static profile takes llvm-mca of LLVM 19 or later, and there is none: apt-get install llvm-19"):
        static_profile(graph, N1)


#: Layer -> the least multiply-adds for each instruction of a whole call; a vector instruction does 4 in f32.
COUNTED = {"pointwise": 2.75, "strided 3x3": 2.65, "winograd": 7.5, "depthwise": 1.3}


@needs_qemu
@pytest.mark.parametrize("name", [n if n == "pointwise" else pytest.param(n, marks=pytest.mark.slow) for n in COUNTED])
def test_instructions_of_a_call(name: str) -> None:
    """A guard: code of ARM that becomes longer shows here, on any machine."""
    layer = LAYERS[name][0]
    graph = traced(layer, shape=(1, layer.in_channels, 28, 28))  # type: ignore[arg-type]
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].shape).astype(np.float32)
    counts = [instruction_count(tersor.compile(graph, target=N1, batch=1), [x], [graph(x)]) for _ in range(2 if name == "pointwise" else 1)]
    assert COUNTED[name] < graph.macs() / counts[0] < 1.25 * COUNTED[name]
    assert abs(counts[-1] - counts[0]) < 0.002 * counts[0]


def test_what_cannot_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = traced(nn.ReLU(), shape=(1, 3))
    model, x = tersor.compile(graph, target=N1, batch=1), np.zeros((1, 3), np.float32)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(TersorError, match="instructions are counted by qemu-aarch64, which is missing: apt-get install qemu-user"):
        instruction_count(model, [x], [x])
    with pytest.raises(TersorError, match="--count goes with --static"):
        CliRunner().invoke(app, ["profile", "m.tersor", "--count"], catch_exceptions=False)


@needs_llvm
def test_the_command(tmp_path: Path) -> None:
    traced(nn.Conv2d(64, 64, 1), nn.ReLU()).save(tmp_path / "m.tersor")
    arguments = ["profile", "--static", str(tmp_path / "m.tersor"), "-t", N1, *(["--count"] if QEMU else [])]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert not QEMU or "instructions for one call, counted by qemu" in done.stdout
    assert done.exit_code == 0 and "gemm" in done.stdout and "MACs/cycle" in done.stdout and "no time follows from it" in done.stdout
