"""Objects of kernels: compiled once for equal code, kept whole in a folder, linked to the same results as code compiled in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import tersor
from tersor.backend.codegen import link
from tersor.backend.emit import code
from tersor.backend.emit.kernel_cache import KernelCache
from tersor.backend.emit.module import Emitter
from tersor.cli import app
from tersor.ir.ops.elementwise import Unary
from tersor.ir.types import Tensor


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelCache:
    monkeypatch.setenv("TERSOR_CACHE", str(tmp_path / "kernels"))
    monkeypatch.setattr(code, "FEW", 0)
    return KernelCache.default()


@pytest.fixture(scope="module")
def graph() -> tersor.Graph:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 9, 5)).eval()
    return tersor.trace(net, (torch.zeros(1, 3, 8, 8),))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions that LLVM compiled."""
    made: list[str] = []
    original = code._object

    def spy(var: Any, *rest: Any) -> bytes:
        made.append(var.name_hint)
        return original(var, *rest)

    monkeypatch.setattr(code, "_object", spy)
    return made


X = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


def test_linked_objects_give_the_bits_of_code_in_memory(cache: KernelCache, graph: tersor.Graph, tmp_path: Path, monkeypatch: Any) -> None:
    linked = tersor.compile(graph, threads=2)
    linked.save(tmp_path / "a.tso")
    monkeypatch.setattr(code, "FEW", 1000)
    np.testing.assert_array_equal(linked(X), tersor.compile(graph, threads=2)(X))
    np.testing.assert_array_equal(linked(X), tersor.load_compiled(tmp_path / "a.tso")(X))


def test_a_second_compile_finds_every_function(cache: KernelCache, graph: tersor.Graph, compiled: list[str]) -> None:
    seen: list[tuple[int, int]] = []
    tersor.compile(graph, progress=lambda done, all: seen.append((done, all)))
    count = len(compiled)
    assert count > 3 and len(cache.files()) == count and seen == [(i, count) for i in range(count + 1)]
    tersor.compile(graph, progress=lambda done, all: seen.append((done, all)))
    assert len(compiled) == count and seen[-1] == (count, count)


def test_a_second_compile_emits_no_kernel(cache: KernelCache, graph: tersor.Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tersor.compile(graph)(X)
    emitted: list[str] = []
    original = Emitter._emitted

    def spy(self: Emitter, name: str, *rest: Any) -> Any:
        emitted.append(name)
        return original(self, name, *rest)

    monkeypatch.setattr(Emitter, "_emitted", spy)
    np.testing.assert_array_equal(tersor.compile(graph)(X), expected)
    assert not emitted
    cache.clear()
    np.testing.assert_array_equal(tersor.compile(graph)(X), expected)
    assert emitted


def test_an_operator_defined_anew_is_new_code(cache: KernelCache) -> None:
    """As a notebook does that runs a cell again."""

    def scaled(by: float) -> type[Unary]:
        class Scaled(Unary, name="recalled.scaled"):
            @staticmethod
            def f(m: Any, x: Any) -> Any:
                return m.mul(x, by)

        return Scaled

    x = np.linspace(-1, 1, 8, dtype=np.float32)
    for factor in (2.0, 3.0):
        graph = tersor.Graph("g")
        graph.set_outputs([graph.add(scaled(factor)(graph.add_input(Tensor((8,), "f32"), "x")))])
        np.testing.assert_array_equal(tersor.compile(graph)(x), x * np.float32(factor))


def test_another_batch_target_or_thread_count_is_other_code(cache: KernelCache, graph: tersor.Graph, compiled: list[str]) -> None:
    tersor.compile(graph, batch=1)
    for other in ({"batch": 3}, {"batch": 1, "threads": 2}, {"batch": 1, "target": "cpu:x86-64-v3"}):
        compiled.clear()
        exe = tersor.compile(graph, **other)  # type: ignore[arg-type]
        assert compiled, other
        x = np.repeat(X, other["batch"], 0)  # type: ignore[call-overload]
        np.testing.assert_allclose(exe(x), graph(x), rtol=1e-5, atol=1e-5)


def test_keys_are_those_of_another_process(cache: KernelCache, graph: tersor.Graph, compiled: list[str], tmp_path: Path) -> None:
    graph.save(tmp_path / "g.tersor")
    script = "import tersor, sys; from tersor.backend.emit import code; code.FEW = 0; tersor.compile(tersor.load(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", script, tmp_path / "g.tersor"], check=True, env=os.environ)
    tersor.compile(tersor.load(tmp_path / "g.tersor"))
    assert not compiled


def test_a_failing_or_interrupted_function_leaves_whole_files(
    cache: KernelCache, graph: tersor.Graph, monkeypatch: pytest.MonkeyPatch, compiled: list[str]
) -> None:
    spied = code._object

    def broken(var: Any, *rest: Any) -> bytes:
        if "max_pool" in var.name_hint:
            raise KeyboardInterrupt
        return spied(var, *rest)

    monkeypatch.setattr(code, "_object", broken)
    with pytest.raises(KeyboardInterrupt):
        tersor.compile(graph)
    monkeypatch.setattr(code, "_object", spied)
    assert not list(cache.folder.glob("*.part"))  # type: ignore[union-attr]
    np.testing.assert_allclose(tersor.compile(graph)(X), graph(X), rtol=1e-5, atol=1e-5)


def test_a_folder_that_cannot_be_written_or_a_damaged_file(cache: KernelCache, graph: tersor.Graph, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TERSOR_CACHE", str(tmp_path / "file" / "below"))
    expected = tersor.compile(graph)(X)
    monkeypatch.setenv("TERSOR_CACHE", "off")
    np.testing.assert_array_equal(tersor.compile(graph)(X), expected)
    assert not cache.files()
    monkeypatch.setenv("TERSOR_CACHE", str(tmp_path / "kernels"))
    tersor.compile(graph)
    for path in cache.files():
        path.write_bytes(path.read_bytes()[:200])
    np.testing.assert_array_equal(tersor.compile(graph)(X), expected)


def test_the_files_used_longest_ago_go_first(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path)
    for i, key in enumerate("abcd"):
        cache.put(key, bytes(100))
        os.utime(tmp_path / f"{key}.kernel", (i, i))
    assert cache.get("a") == bytes(100)
    cache.trim(4 * 116)
    assert len(cache.files()) == 4 and cache.nbytes == 4 * 116
    cache.trim(400)
    assert {p.stem for p in cache.files()} == {"a", "c", "d"}
    assert cache.clear() == 3 and cache.get("a") is None


def test_without_a_c_compiler_models_run_but_are_not_saved(
    cache: KernelCache, graph: tersor.Graph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(link.shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    exe = tersor.compile(graph)
    np.testing.assert_allclose(exe(X), graph(X), rtol=1e-5, atol=1e-5)
    with pytest.raises(tersor.TersorError, match="takes a C compiler"):
        exe.save(tmp_path / "a.tso")


def test_the_command_shows_and_clears_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERSOR_CACHE", str(tmp_path))
    KernelCache.default().put("a", bytes(100))
    run = CliRunner()
    assert f"{tmp_path}: 1 kernels, 116 bytes" in run.invoke(app, ["cache"]).output.replace("\n", " ")
    assert json.loads(run.invoke(app, ["cache", "--clear", "--json"]).output) == {"folder": str(tmp_path), "kernels": 0, "bytes": 0, "removed": 1}
    monkeypatch.setenv("TERSOR_CACHE", "off")
    assert "off" in run.invoke(app, ["cache"]).output
