"""Real servers on loopback for tests: `tersor device`, TVM's tracker, sshd. Each is a process group of its own, which `stop` kills."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SSHD = shutil.which("sshd") or next((p for p in ("/usr/sbin/sshd",) if Path(p).exists()), None)
needs_tracker = pytest.mark.skipif(importlib.util.find_spec("tornado") is None, reason="TVM's tracker needs tornado: pip install tornado")
needs_sshd = pytest.mark.skipif(SSHD is None, reason="sshd is missing: apt-get install openssh-server")


class Server:
    """A process that prints a line when it is ready."""

    def __init__(self, command: Sequence[str], ready: str | None, log: Path, **env: str):
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, env=os.environ | env
            )
        end = time.monotonic() + 120
        while ready is not None and ready not in log.read_text(errors="replace"):
            assert self.process.poll() is None and time.monotonic() < end, log.read_text(errors="replace")
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill it and its children at once, as when a machine loses power."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def listening(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")


def device(folder: Path, *arguments: str) -> tuple[Server, str]:
    """`tersor device` and its address."""
    command = [sys.executable, "-c", "from tersor.cli import main; main()", "device", "--port", str(free_port()), *arguments]
    server = Server(command, "rpc://", folder / f"device{time.monotonic_ns()}.log")
    return server, server.log.read_text().split()[0].rstrip(":,")


def tracker(folder: Path) -> tuple[Server, int]:
    """TVM's own tracker."""
    port = free_port()
    command = [sys.executable, "-m", "tvm.exec.rpc_tracker", "--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1)]
    server = Server(command, None, folder / "tracker.log")
    listening(port)
    return server, port


def sshd(folder: Path) -> tuple[Server, int, str]:
    """sshd for this user, its port, and the command that connects."""
    assert SSHD is not None
    port = free_port()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    lines = [f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {folder / 'host'}", f"AuthorizedKeysFile {folder / 'authorized'}"]
    lines += ["StrictModes no", "UsePAM no", "PidFile none", "PermitRootLogin yes", "PasswordAuthentication no"]
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = Server([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], None, folder / "sshd.log")
    listening(port)
    options = f"-o UserKnownHostsFile={folder / 'known'} -o StrictHostKeyChecking=no -o IdentitiesOnly=yes -o LogLevel=ERROR"
    return server, port, f"ssh -F none -i {folder / 'user'} {options}"
