"""`tersor device` on a machine that is reached by ssh: started there for a while, and reached through a port that ssh forwards."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
import weakref
from dataclasses import dataclass

from ...ir.errors import TersorError
from .address import Address
from .ssh import ssh_command

#: The command of Tersor on the other machine, in place of `tersor`: `TERSOR_REMOTE="/opt/venv/bin/tersor"`.
REMOTE = "TERSOR_REMOTE"
#: Seconds in which the server must answer.
PATIENCE = 60.0
_SERVES = re.compile(rb"rpc://127\.0\.0\.1:(\d+)")


@dataclass(eq=False)
class Tunnel:
    """A server that runs until `close`, or until this object or process is gone. address: of a port of this machine that leads there."""

    over: Address

    def __post_init__(self) -> None:
        command = os.environ.get(REMOTE, "tersor")
        # the server ends when its standard input does, which ssh closes with the connection
        script = f"{command} device --port 9090 & server=$!; (cat >/dev/null; kill $server 2>/dev/null) <&0 & wait $server"
        self._server = _started([*ssh_command(self.over), script])
        processes = [self._server]
        self.close = weakref.finalize(self, _stop, processes)
        port = self._port(command)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            local: int = free.getsockname()[1]
        forwards = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{local}:127.0.0.1:{port}"]
        forward = _started([*ssh_command(self.over, *forwards)])
        processes.insert(0, forward)
        self.address = Address("rpc", "127.0.0.1", local)
        self._wait(local, forward)

    def _port(self, command: str) -> int:
        """The port that the server prints."""
        timer = threading.Timer(PATIENCE, self._server.kill)
        timer.start()
        try:
            assert self._server.stdout is not None
            line = self._server.stdout.readline()
        finally:
            timer.cancel()
        if (found := _SERVES.search(line)) is None:
            _, said = self._server.communicate()
            why = " ".join((line + said).decode(errors="replace").split())[-300:] or f"no answer for {PATIENCE:.0f} s"
            if self._server.returncode == 255:
                raise TersorError(f"ssh does not reach {self.over}: {why}")
            raise TersorError(f"{self.over}: `{command} device` did not start there: {why}; install Tersor there, or name its command by {REMOTE}")
        return int(found[1])

    def _wait(self, port: int, forward: subprocess.Popen[bytes]) -> None:
        """Until ssh forwards the port."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and forward.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.close()
        raise TersorError(f"{self.over}: ssh forwards no port: {_said(forward)}")


def _started(command: list[str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise TersorError(f"{command[0]} was not found: apt-get install openssh-client, or set TERSOR_SSH") from None


def _said(process: subprocess.Popen[bytes]) -> str:
    process.kill()
    return " ".join(process.communicate()[1].decode(errors="replace").split())[-300:]


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
