"""Real servers on loopback: what a device answers is what this machine answers, and one that dies is replaced by another."""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import servers
import torch
from torch import nn
from typer.testing import CliRunner

import tersor
from tersor import TersorError
from tersor.backend.remote.address import parse
from tersor.backend.remote.device import Device
from tersor.backend.remote.session import DeviceLost, NoDevice, connected
from tersor.backend.target import resolve
from tersor.backend.tuning import search
from tersor.cli import app
from tersor.ir.graph import Graph

pytestmark = pytest.mark.slow


def graph() -> Graph:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 1), nn.ReLU(), nn.Conv2d(24, 16, 3)).eval()
    return tersor.trace(module, (torch.zeros(1, 3, 20, 20),))


def pointwise() -> Graph:
    """Two fusions with few candidates each."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 24, 1)).eval()
    return tersor.trace(module, (torch.zeros(1, 8, 12, 12),))


X = np.random.default_rng(0).standard_normal((1, 3, 20, 20)).astype(np.float32)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server, address = servers.device(tmp_path_factory.mktemp("device"))
    yield address
    server.stop()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """g.tersor, m.tso, arm.tso (for another processor), x.npy"""
    folder = tmp_path_factory.mktemp("files")
    graph().save(folder / "g.tersor")
    tersor.compile(graph(), batch=1).save(folder / "m.tso")
    np.save(folder / "x.npy", X)
    return folder


def command(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_model_on_a_device(address: str, files: Path) -> None:
    """The bits of this machine; times of the same steps."""
    device = tersor.device(address)
    assert device.target == resolve("cpu") and device.facts.cores >= 1
    here, there = tersor.load_compiled(files / "m.tso"), device.load(files / "m.tso")
    np.testing.assert_array_equal(there(X), here(X))
    assert torch.equal(there(torch.from_numpy(X)), here(torch.from_numpy(X)))
    found = there.profile(rounds=2)
    assert [(r.op, r.kernel, r.params, r.macs, r.loc) for r in found.rows] == [
        (s.op, s.kernel, s.params, s.macs, s.loc) for s in here.entries[0].steps
    ]
    assert found.total > 0 and found.peak_gflops > 0 and "kernels" in str(found)
    compared = device.benchmark(here, there, repeat=3, callers=2, seconds=0.1)
    assert [c.steady.repeat for c in compared.costs] == [3, 3] and all(c.throughput is not None for c in compared.costs)
    assert compared == type(compared).from_dict(json.loads(json.dumps(compared.as_dict())))


def test_the_commands(address: str, files: Path) -> None:
    """A .tso, and a graph compiled for the device."""
    for source in ("m.tso", "g.tersor"):
        command("run", files / source, "--device", address, "-i", files / "x.npy", "-o", files / "y.npy")
        np.testing.assert_array_equal(np.load(files / "y.npy"), tersor.load_compiled(files / "m.tso")(X))
    said = json.loads(command("bench", files / "m.tso", "--device", address, "--repeat", "3", "--json"))
    assert said["repeat"] == 3 and said["device"]["address"] == address and said["device"]["cores"] >= 1
    assert "clocks" in command("bench", files / "g.tersor", "--device", address, "--repeat", "3")
    assert len(json.loads(command("profile", files / "m.tso", "--device", address, "--rounds", "1", "--json"))["rows"]) >= 3
    assert json.loads(command("device", address, "--json"))["target"]["name"] == resolve("cpu").name
    with pytest.raises(TersorError, match="onnxruntime is timed on this machine only"):
        command("bench", files / "m.tso", "--device", address, "--against", "m.onnx")


def test_tuning_on_a_device(address: str, tmp_path: Path) -> None:
    """As here: the same fusions and candidates, each checked; the choices can be compiled."""
    pointwise().save(tmp_path / "p.tersor")
    done = json.loads(command("tune", tmp_path / "p.tersor", "--device", address, "--db", tmp_path / "there.json", "--json"))
    here = tersor.tune(pointwise(), db=tmp_path / "here.json", batch=1)
    there = tersor.Database.load(tmp_path / "there.json")
    a, b = (d.section(resolve("cpu"), 1) for d in (here.database, there))
    assert a.keys() == b.keys() and len(a) == 2 and not done["problems"]
    for key in a:
        measured = [sorted((t.template, json.dumps(t.params, sort_keys=True)) for t in entry.candidates) for entry in (a[key], b[key])]
        assert measured[0] == measured[1]
        assert all(t.samples > 0 for t in b[key].candidates)
    x = np.random.default_rng(0).standard_normal((1, 8, 12, 12)).astype(np.float32)
    np.testing.assert_allclose(tersor.compile(pointwise(), tuned=there, batch=1)(x), pointwise()(x), atol=1e-5)


def test_wrong_code_never_wins_on_a_device(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs come from the device: with other weights there they are wrong, and nothing is timed."""
    real = search.built

    def broken(*arguments: object) -> object:
        made = real(*arguments)  # type: ignore[arg-type]
        made.weights = made.weights.copy()
        made.weights[...] = 0
        return made

    monkeypatch.setattr(search, "built", broken)
    found = tersor.tune(pointwise(), device=address, batch=1)
    assert found.problems and all("wrong: error" in p.message for p in found.problems)
    assert not found.database.section(resolve("cpu"), 1)


def test_a_job_that_crashes_ends_no_server(address: str, tmp_path: Path) -> None:
    session = connected(parse(address))
    with pytest.raises(TersorError, match=r"no-such.tso does not exist"):
        session.job("profile", model="no-such.tso", rounds=1, batch=None, cold=False)
    with pytest.raises(TersorError, match=r"KeyError|unknown"):
        session.job("nonsense")
    session.close()
    assert tersor.device(address).facts.cores >= 1


def test_a_device_that_dies_is_one_sentence(tmp_path: Path) -> None:
    server, address = servers.device(tmp_path)
    device, exe = tersor.device(address), tersor.compile(graph(), batch=1)
    threading.Timer(4.0, server.stop).start()
    with pytest.raises(DeviceLost, match=f"^{address} went away during '.*': the connection broke$"):
        device.benchmark(exe, seconds=60.0)


@servers.needs_tracker
def test_tuning_goes_on_with_another_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers and a real tracker; the one that measures is killed in the middle of a group."""
    monkeypatch.setattr(search, "KERNELS", 1)
    tracker, port = servers.tracker(tmp_path)
    both = [servers.device(tmp_path, "--tracker", f"127.0.0.1:{port}", "--key", "board") for _ in range(2)]
    address = f"rpc://127.0.0.1:{port}/board"
    try:
        with pytest.raises(NoDevice, match=r"has no device with key 'phone'; it has board"):
            Device(parse(f"rpc://127.0.0.1:{port}/phone"))
        device = tersor.device(address)
        killed: list[int] = []
        real = search.race_there

        def race(group: object, session: object, seed: int) -> None:
            if not killed:
                # the only one that has a client is the one that is to race
                busy = [i for i, (server, _) in enumerate(both) if children(server.process.pid)]
                assert len(busy) == 1
                killed.extend(busy)
                threading.Timer(0.5, both[busy[0]][0].stop).start()
            real(group, session, seed)  # type: ignore[arg-type]

        monkeypatch.setattr(search, "race_there", race)
        with pytest.warns(UserWarning, match=f"{address} went away during 'wait': the connection broke: another machine measures these kernels"):
            found = tersor.tune(pointwise(), device=device, batch=1, db=tmp_path / "db.json")
        assert killed and found.left == 0 and not found.problems
        expected = search.compare(pointwise(), db=tmp_path / "db.json", batch=1)
        assert expected.left == 0 and len(expected.rows) == 2
        both[1 - killed[0]][0].stop()
        time.sleep(1)
        with warnings.catch_warnings(), pytest.raises(NoDevice, match="has no device with key 'board'; it has none"):
            warnings.simplefilter("ignore")
            tersor.tune(pointwise(), device=device, batch=1)
    finally:
        for server in (tracker, *(s for s, _ in both)):
            server.stop()


def children(pid: int) -> list[str]:
    """Processes that a process has started."""
    return [c for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    server, port, ssh = servers.sshd(tmp_path_factory.mktemp("sshd"))
    yield f"ssh://127.0.0.1:{port}", ssh
    server.stop()


@servers.needs_sshd
def test_over_ssh(host: tuple[str, str], files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A C export that is copied to a machine, here this one by sshd."""
    address, ssh = host
    monkeypatch.setenv("TERSOR_SSH", ssh)
    said = json.loads(command("bench", files / "g.tersor", "--device", address, "--repeat", "7", "--json"))
    assert said["repeat"] == 7 and 0 < said["min"] <= said["median"] <= said["p90"] and said["device"]["cores"] >= 1
    assert "clocks" in command("bench", files / "g.tersor", "--device", address, "--repeat", "3")
    command("run", files / "g.tersor", "--device", address, "-i", files / "x.npy", "-o", files / "y.npy")
    np.testing.assert_allclose(np.load(files / "y.npy"), tersor.load_compiled(files / "m.tso")(X), atol=1e-5)
    with pytest.raises(TersorError, match=r"m.tso is a .tso: use rpc:// and `tersor device`"):
        command("bench", files / "m.tso", "--device", address)
    with pytest.raises(TersorError, match=r"arm64:cortex-a72 is aarch64, and ssh://.* is x86_64: leave --target out"):
        command("bench", files / "g.tersor", "--device", address, "--target", "arm64:cortex-a72")
    with pytest.raises(TersorError, match="over ssh one model is timed"):
        command("bench", files / "g.tersor", "--device", address, "--callers", "2")
    monkeypatch.setenv("TERSOR_SSH", ssh.replace("/user ", "/other "))
    with pytest.raises(TersorError, match="ssh does not reach"):
        command("bench", files / "g.tersor", "--device", address)


@servers.needs_sshd
def test_a_server_that_ssh_starts(host: tuple[str, str], files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Profile, tune and calls through a tunnel; the server there ends with the device here."""
    address, ssh = host
    monkeypatch.setenv("TERSOR_SSH", ssh)
    path = shlex.quote(os.pathsep.join(p for p in sys.path if p))
    monkeypatch.setenv("TERSOR_REMOTE", f"env PYTHONPATH={path} {sys.executable} -c 'from tersor.cli import main; main()'")
    board = tersor.device(address)
    assert str(board) == address and board.facts.cores >= 1
    np.testing.assert_array_equal(board.load(files / "m.tso")(X), tersor.load_compiled(files / "m.tso")(X))
    assert len(json.loads(command("profile", files / "m.tso", "--device", address, "--rounds", "2", "--json"))["rows"]) >= 3
    pointwise().save(tmp_path / "p.tersor")
    command("tune", tmp_path / "p.tersor", "--device", address, "--db", tmp_path / "tuned.json", "--batch", "1")
    assert (tmp_path / "tuned.json").exists()
    server, forwarded = board._tunnel._server, board._tunnel.address  # type: ignore[union-attr]
    del board
    assert server.poll() is not None
    with pytest.raises(NoDevice):
        tersor.device(str(forwarded))
    monkeypatch.setenv("TERSOR_REMOTE", "no-such-tersor")
    with pytest.raises(TersorError, match=r"`no-such-tersor device` did not start there: .*not found; install Tersor there, or name its command by"):
        tersor.device(address)
