"""Devices that are not there, or not what they should be: one sentence each. No server of ours runs here."""

from __future__ import annotations

import json
import socket
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from servers import free_port
from torch import nn

import tersor
from tersor import TersorError
from tersor.backend.remote import session as sessions
from tersor.backend.remote.address import parse
from tersor.backend.remote.device import Device
from tersor.backend.remote.session import DeviceLost, NoDevice, Session, patiently
from tersor.backend.remote.ssh import Host
from tersor.backend.runtime.native import versions
from tersor.backend.target import resolve
from tersor.backend.tuning import search


def test_nothing_listens() -> None:
    port = free_port()
    with pytest.raises(NoDevice, match=rf"there is no device at 127.0.0.1:{port} \(.*refused\): start it by `tersor device --port {port}`"):
        tersor.device(f"rpc://127.0.0.1:{port}")
    with pytest.raises(NoDevice, match=rf"there is no tracker at 127.0.0.1:{port}"):
        tersor.device(f"rpc://127.0.0.1:{port}/board")
    with pytest.raises(TersorError, match=r"ssh does not reach ssh://nowhere\.invalid: .*Could not resolve hostname"):
        tersor.device("ssh://nowhere.invalid")


@pytest.mark.parametrize("key", ["", "/board"])
def test_another_kind_of_server(key: str) -> None:
    """One that hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")
                    connection.close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(TersorError, match=r"is not a TVM RPC server|is not one of TVM's|does not answer"):
            tersor.device(f"rpc://127.0.0.1:{server.getsockname()[1]}{key}")


def remote(**functions: Any) -> Any:
    """A server that knows some functions of ours."""

    def get_function(name: str) -> Any:
        short = name.removeprefix(sessions.NAMES)
        if short not in functions:
            raise RuntimeError(f"Cannot find function {name} in the runtime")
        return functions[short]

    return SimpleNamespace(get_function=get_function, upload=lambda data, name: None)


def described(target: str = "cpu", **other: str) -> str:
    return json.dumps({"target": resolve(target).as_dict(), "facts": {}, "versions": versions() | other})


def test_a_server_without_tersor_or_of_another_tvm() -> None:
    with pytest.raises(TersorError, match="rpc://x:1 is a TVM RPC server without Tersor: start `tersor device` there"):
        Session(remote(), "rpc://x:1")
    with pytest.raises(TersorError, match=r"rpc://x:1 has apache-tvm 0.9 .*, and this machine apache-tvm 0.2.*: install the same on both"):
        Session(remote(describe=lambda: described(tvm="0.9")), "rpc://x:1")


def test_a_job_that_fails_and_one_whose_machine_goes_away() -> None:
    answers = iter(["", json.dumps({"error": "out of memory"})])
    session = Session(remote(describe=described, start=lambda: "", wait=lambda seconds: next(answers)), "rpc://x:1")
    with pytest.raises(TersorError, match=r"^rpc://x:1: out of memory$"):
        session.job("run")

    def gone(seconds: float) -> str:
        raise ConnectionResetError("recv failed")

    session = Session(remote(describe=described, start=lambda: "", wait=gone), "rpc://x:1")
    with pytest.raises(DeviceLost, match=r"^rpc://x:1 went away during 'wait': the connection broke$"):
        session.job("run")
    with pytest.raises(DeviceLost, match="no answer for 0 s"):
        patiently(lambda: time.sleep(5), "rpc://x:1 went away", 0.05)


def device_of(monkeypatch: pytest.MonkeyPatch, target: str, address: str = "rpc://x:1") -> Device:
    made = Session(remote(describe=lambda: described(target)), address)
    monkeypatch.setattr(Device, "session", lambda self: sessions.contextlib.nullcontext(made))
    return Device(parse(address))


def test_code_of_another_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    exe = tersor.compile(tersor.trace(nn.ReLU(), (torch.zeros(1, 3),)), target="cpu")
    with pytest.raises(TersorError, match=r"main was compiled for .* \(\w+\), and rpc://x:1 is \w+: compile for target '"):
        device_of(monkeypatch, "arm64:cortex-a72" if resolve("cpu").lanes != 4 else "cpu:x86-64-v3").load(exe)
    with pytest.raises(TersorError, match=r"a kernel to be tuned was compiled for cpu:x86-64-v4 and needs .*avx512f.*, which rpc://x:1 lacks"):
        tersor.tune(tersor.trace(nn.ReLU(), (torch.zeros(1, 3),)), "cpu:x86-64-v4", device=device_of(monkeypatch, "cpu:x86-64-v2"))
    with pytest.raises(TersorError, match="machines with cpu:x86-64-v2 and with"):
        device_of(monkeypatch, "cpu:x86-64-v2").same(Session(remote(describe=described), "rpc://x:1"))


@pytest.mark.parametrize(("address", "losses"), [("rpc://x:1/key", 2), ("rpc://x:1", 1)])
def test_a_tracker_gives_another_machine(monkeypatch: pytest.MonkeyPatch, address: str, losses: int) -> None:
    device = device_of(monkeypatch, "cpu", address)
    left = losses
    raced: list[int] = []

    def send(group: Any, session: Session) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise DeviceLost("board 1 went away")

    monkeypatch.setattr(search, "RETRY", 0.0)
    monkeypatch.setattr(search, "send", send)
    monkeypatch.setattr(search, "check", lambda group: None)
    monkeypatch.setattr(search, "race_there", lambda group, session, seed: raced.append(seed))
    if device.address.key:
        with pytest.warns(UserWarning, match="board 1 went away: another machine measures these kernels"):
            search.measured_there(None, device, 3)  # type: ignore[arg-type]
        assert raced == [3]
    else:
        with pytest.raises(DeviceLost, match="board 1 went away"):
            search.measured_there(None, device, 3)  # type: ignore[arg-type]


def test_options_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    device = device_of(monkeypatch, "cpu")
    with pytest.raises(TersorError, match="search='metaschedule' measures on this machine: leave device= out"):
        tersor.tune(tersor.trace(nn.ReLU(), (torch.zeros(1, 3),)), device=device, search="metaschedule")
    exe = device.load(tersor.compile(tersor.trace(nn.ReLU(), (torch.zeros(1, 3),))))
    with pytest.raises(TersorError, match="leave inputs= out"):
        exe.profile(inputs=[np.zeros((1, 3), np.float32)])
    with pytest.raises(TersorError, match="must be f32"):
        exe(np.zeros((1, 4), np.float32))


def test_ssh_that_is_missing_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERSOR_SSH", "no-such-ssh")
    with pytest.raises(TersorError, match="no-such-ssh was not found"):
        Host(parse("ssh://board"))
    monkeypatch.setenv("TERSOR_SSH", "sh -c 'echo Could not resolve hostname >&2; exit 255' #")
    with pytest.raises(TersorError, match="ssh does not reach ssh://board: Could not resolve hostname"):
        Host(parse("ssh://board"))
    monkeypatch.setenv("TERSOR_SSH", "echo riscv64")
    with pytest.raises(TersorError, match="does not answer as Linux does"):
        Host(parse("ssh://board"))
