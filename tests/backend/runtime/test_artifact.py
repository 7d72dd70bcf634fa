"""The .tso file: the same results in a fresh process without torch and TVM's compiler, and a sentence for everything that can be wrong with it."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import re
import shutil
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from runtime_models import Sum, TwoHeads, assert_right, compiled, flat, inputs_of, python, traced

import tersor
from tersor import TersorError
from tersor.backend.runtime import artifact
from tersor.backend.runtime import model as runtime
from tersor.backend.runtime.artifact import FORMAT_VERSION, Entry, Manifest, Peak, Port, Step
from tersor.backend.runtime.native import Library

#: Loads a model, runs it on saved inputs and saves the results; prints what it imported.
RUN = """
import sys, json
import numpy as np
import tersor
exe = tersor.load_compiled(sys.argv[1])
inputs = np.load(sys.argv[2])
result = exe(**{k: inputs[k] for k in inputs})
def flat(r):
    r = list(r.values()) if isinstance(r, dict) else r
    return [x for part in r for x in flat(part)] if isinstance(r, list | tuple) else [r]
np.savez(sys.argv[3], *flat(result))
heavy = [m for m in ("torch", "tvm", "tvm_ffi", "safetensors.torch", "rich", "typer", "networkx", "onnxruntime", "scipy") if m in sys.modules]
print(json.dumps({"heavy": heavy, "structure": str({k: type(v).__name__ for k, v in result.items()}) if isinstance(result, dict) else ""}))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tso") / "model.tso"
    compiled().save(path)
    return path


def in_fresh_process(path: Path, named: dict[str, np.ndarray], folder: Path) -> tuple[list[np.ndarray], dict[str, object]]:
    np.savez(folder / "inputs.npz", **named)
    said = json.loads(python(RUN, path, folder / "inputs.npz", folder / "results.npz"))
    with np.load(folder / "results.npz") as results:
        return [results[k] for k in results], said


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fresh_process_gives_the_same_bits_without_torch_and_tvm(saved: Path, tmp_path: Path, batch: int) -> None:
    import torch  # noqa: F401 - installed, so that its absence over there means something

    (x,) = inputs_of(TwoHeads, batch)
    results, said = in_fresh_process(saved, {"image": x}, tmp_path)
    assert said["heavy"] == []
    assert said["structure"] == "{'features': 'ndarray', 'heads': 'tuple'}"
    for y, own in zip(results, flat(compiled()(x)), strict=True):
        np.testing.assert_array_equal(y, own)


def test_threads_in_a_fresh_process(tmp_path: Path) -> None:
    exe = compiled(Sum, threads=2)
    exe.save(tmp_path / "sum.tso")
    named = dict(zip(("left", "right"), inputs_of(Sum)))
    results, said = in_fresh_process(tmp_path / "sum.tso", named, tmp_path)
    assert said["heavy"] == []
    np.testing.assert_array_equal(results[0], exe(**named))


def test_torch_and_tvm_still_work_after_loading(saved: Path) -> None:
    code = """
import sys, numpy as np, tersor
exe = tersor.load_compiled(sys.argv[1])
x = np.ones((1, 3, 24, 20), np.float32)
before = exe(x)["features"]
import torch, tvm
y = torch.nn.functional.relu(torch.ones(3)).sum().item()
z = tvm.runtime.tensor(np.ones(2)).numpy().sum()
after = exe(torch.from_numpy(x))["features"]
print(y, z, np.array_equal(before, after.numpy()))
"""
    assert python(code, saved).split() == ["3.0", "2.0", "True"]


def test_first_result_comes_soon(saved: Path) -> None:
    """The issue asks 0.5 s of ResNet-50 on an idle machine; what this bounds is imports, on one that is not."""
    code = """
import sys, time
start = time.process_time()
import numpy as np, tersor
tersor.load_compiled(sys.argv[1])(np.ones((1, 3, 24, 20), np.float32))
print(time.process_time() - start)
"""
    assert min(float(python(code, saved)) for _ in range(3)) < 0.5


def test_loaded_models_know_what_compiled_ones_know(saved: Path, tmp_path: Path) -> None:
    own, loaded = compiled(), tersor.load_compiled(saved)
    assert loaded.manifest == own.manifest
    assert str(loaded.report) == str(own.report)
    assert [r.kernel for r in loaded.profile(rounds=1).rows] == [r.kernel for r in own.profile(rounds=1).rows]
    assert loaded.benchmark(repeat=2).batch == 1
    loaded.save(tmp_path / "again.tso")
    assert (tmp_path / "again.tso").read_bytes() == saved.read_bytes()


def test_weights_are_mapped_from_the_file(saved: Path) -> None:
    loaded = tersor.load_compiled(saved)
    address = loaded._weights.ctypes.data
    assert address % 64 == 0
    assert not loaded._weights.flags.writeable
    ranges = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(saved))]
    spans = [tuple(int(x, 16) for x in line.split()[0].split("-")) for line in ranges]
    assert any(lo <= address and address + loaded._weights.nbytes <= hi for lo, hi in spans)
    assert {line.split()[1] for line in ranges} <= {"r--s", "r--p"}
    assert (saved.stat().st_size - loaded._weights.nbytes) % 4096 == 0


def test_two_models_and_models_that_come_and_go(saved: Path, tmp_path: Path) -> None:
    compiled(Sum).save(tmp_path / "sum.tso")
    fds, mapped = len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count("memfd:tersor")
    for _ in range(3):
        first, second = tersor.load_compiled(saved), tersor.load_compiled(tmp_path / "sum.tso")
        assert_right(first(*inputs_of(TwoHeads)), TwoHeads, inputs_of(TwoHeads))
        assert_right(second(*inputs_of(Sum)), Sum, inputs_of(Sum))
        del first, second
    assert len(os.listdir("/proc/self/fd")) <= fds + 1
    assert Path("/proc/self/maps").read_text().count("memfd:tersor") <= mapped


def test_loading_from_many_threads(saved: Path) -> None:
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(flat(tersor.load_compiled(saved)(*inputs_of(TwoHeads))))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 4
    for result in results[1:]:
        for a, b in zip(result, results[0]):  # type: ignore[call-overload]
            np.testing.assert_array_equal(a, b)


# -- what can be wrong -------------------------------------------------------------------------


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(TersorError) as error:
        tersor.load_compiled(path)
    text = str(error.value)
    assert "\n" not in text
    for part in (str(path), *parts):
        assert part in text


def test_missing_file_and_folder(tmp_path: Path) -> None:
    refused(tmp_path / "no.tso", "does not exist")
    refused(tmp_path, "cannot read", "Is a directory")


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"not a model at all, but longer than a head of 24 bytes"])
def test_wrong_magic(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wrong.tso"
    path.write_bytes(content)
    refused(path, "is not a compiled model", repr(content[:8]))


@pytest.mark.parametrize("keep", [10, 100, 0.5, -1])
def test_truncated(saved: Path, tmp_path: Path, keep: float) -> None:
    data = saved.read_bytes()
    path = tmp_path / "short.tso"
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    refused(path, "truncated")


def test_longer_than_it_should_be(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.tso"
    path.write_bytes(saved.read_bytes() + b"x")
    refused(path, "truncated or damaged", f"got {path.stat().st_size:,}")


def flip(saved: Path, path: Path, at: int) -> None:
    data = bytearray(saved.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_damaged(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.tso"
    flip(saved, path, 60)
    refused(path, "checksum of its manifest")
    _, length, _, _ = struct.unpack("<8sQII", saved.read_bytes()[:24])
    flip(saved, path, 24 + length + 200)
    refused(path, "checksum of its library")


def rewritten(saved: Path, path: Path, **changes: object) -> Path:
    """The same file with fields of its manifest changed."""
    manifest, library, weights = artifact.read(saved)
    artifact.write(path, dataclasses.replace(manifest, **changes), library, weights)  # type: ignore[arg-type]
    return path


def test_other_isa(saved: Path, tmp_path: Path) -> None:
    target = dataclasses.replace(compiled().target, name="cpu:future", features=(*compiled().target.features, "avx1024f", "fma9"))
    path = rewritten(saved, tmp_path / "isa.tso", target=target)
    refused(path, "compiled for cpu:future and needs avx1024f, fma9, which this processor lacks", "target='cpu'")


def test_other_architecture(saved: Path, tmp_path: Path) -> None:
    arch = "aarch64" if os.uname().machine == "x86_64" else "x86_64"
    target = dataclasses.replace(compiled().target, name="other:one", triple=f"{arch}-unknown-linux-gnu")
    refused(rewritten(saved, tmp_path / "arch.tso", target=target), f"other:one ({arch})", f"this machine is {os.uname().machine}")


def test_other_tvm(saved: Path, tmp_path: Path) -> None:
    versions = compiled().manifest.versions
    path = rewritten(saved, tmp_path / "tvm.tso", versions=versions | {"tvm": "0.26.0"})
    refused(path, "apache-tvm 0.26.0", f"apache-tvm {versions['tvm']}", "compile the model again")
    refused(rewritten(saved, tmp_path / "ffi.tso", versions=versions | {"ffi": "0.1.13"}), "apache-tvm-ffi 0.1.13")
    tersor.load_compiled(rewritten(saved, tmp_path / "tersor.tso", versions=versions | {"tersor": "9.9"}))


def test_other_format_version(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    magic, length, _, zero = struct.unpack("<8sQII", data[:24])
    text = re.sub(b'"format_version":%d' % FORMAT_VERSION, b'"format_version":9', data[24 : 24 + length])
    path = tmp_path / "version.tso"
    path.write_bytes(struct.pack("<8sQII", magic, length, zlib.crc32(text), zero) + text + data[24 + length :])
    refused(path, "format version 9", f"reads version {FORMAT_VERSION}")


def test_saving(tmp_path: Path) -> None:
    with pytest.raises(TersorError, match=r"cannot save .*model\.so: a compiled model is a \.tso file"):
        compiled().save(tmp_path / "model.so")
    with pytest.raises(TersorError, match=r"cannot write .*/none/model\.tso: No such file"):
        compiled().save(tmp_path / "none" / "model.tso")
    assert not list(tmp_path.iterdir())


def test_a_compiled_model_pickles_and_copies_as_its_file(saved: Path, tmp_path: Path) -> None:
    x = inputs_of(TwoHeads, 3)
    for exe in (compiled(), tersor.load_compiled(saved)):
        data = pickle.dumps(exe)
        (tmp_path / "model.pickle").write_bytes(data)
        for again in (pickle.loads(data), copy.deepcopy(exe)):
            assert again.manifest == exe.manifest
            for y, z in zip(flat(again(*x)), flat(exe(*x))):
                np.testing.assert_array_equal(y, z)
    code = "import pickle, sys; exe = pickle.load(open(sys.argv[1], 'rb')); print(exe, 'torch' in sys.modules, 'tvm' in sys.modules)"
    assert python(code, tmp_path / "model.pickle").split()[-2:] == ["False", "False"]


def test_a_model_that_cannot_be_saved_cannot_be_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(TersorError, match=r"main is pickled as what save\(\) writes, and linking .* takes a C compiler"):
        pickle.dumps(compiled(Sum))


def test_no_c_compiler_is_one_line_when_saving_and_no_matter_when_compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    exe = tersor.compile(traced(Sum))
    assert_right(exe(*inputs_of(Sum)), Sum, inputs_of(Sum))
    with pytest.raises(TersorError, match=r"takes a C compiler, and there is none \(cc, gcc, clang, .*\): apt-get install gcc, or set CC") as error:
        exe.save(tmp_path / "model.tso")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "broken-cc"
    script.write_text("#!/bin/sh\necho no space left >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    with pytest.raises(TersorError, match="broken-cc failed to link the model: no space left"):
        compiled(Sum).save(tmp_path / "model.tso")


def test_a_library_the_system_refuses() -> None:
    with pytest.raises(TersorError, match="the system does not load the compiled library"):
        Library(b"\x7fELF, but no more")


def test_manifest_round_trips() -> None:
    step = Step("conv2d", "k0", "direct", {"rows": 6, "note": "x"}, 10, 20, (1, 2, 3), "a at b.py:1")
    entry = Entry("main_b1", 1, (Port("x", (1, 3), "f32"),), (Port("y", (), "i64"), Port("z", (2,), "bool")), ("x",), 128, (step,))
    structure = {"a": 0, "b": [1, (0, None)], "c": {}, "d": ()}
    manifest = Manifest("net", {"tvm": "1"}, compiled().target, 2, structure, (entry,), Peak("p", 8, 16), {"f32": {"nn.add": 1}}, {"f32": 7})
    data = json.loads(manifest.to_json())
    assert Manifest.from_json(data) == manifest
    assert Manifest.from_json(data).structure == structure


def test_the_runtime_is_found_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from tersor.backend.runtime import native

    with pytest.raises(TersorError, match=r"libtvm_runtime\.so was not found: pip install apache-tvm"):
        native._library("no_such_package", "libtvm_runtime.so", "apache-tvm")
    monkeypatch.setattr(native, "_DISTRIBUTIONS", {"tvm": "no-such-distribution"})
    with pytest.raises(TersorError, match="no-such-distribution is not installed: pip install no-such-distribution"):
        native.versions()
    monkeypatch.setattr(native, "_DISTRIBUTIONS", {"tersor": "no-such-distribution"})
    assert native.versions() == {"tersor": "unknown"}


def test_host_check(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.require_host(compiled().target, "model")
    monkeypatch.setattr(runtime, "host_features", lambda: frozenset({"sse4_2"}))
    with pytest.raises(TersorError, match="which this processor lacks"):
        runtime.require_host(dataclasses.replace(compiled().target, features=("sse4_2", "avx2")), "model")
    # where the system does not tell, the name of the architecture is all there is
    monkeypatch.setattr(runtime, "host_features", lambda: frozenset())
    runtime.require_host(compiled().target, "model")


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_cc_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "my-cc"
    script.write_text(f'#!/bin/sh\ntouch {tmp_path}/used\nexec {shutil.which("cc")} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    compiled(Sum).save(tmp_path / "model.tso")
    assert (tmp_path / "used").exists()
