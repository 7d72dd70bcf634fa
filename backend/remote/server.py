"""`tersor device`: TVM's RPC server with functions that describe this machine and do jobs (`worker`), alone or registered with a tracker.

TVM's protocol carries files and calls of functions by name, its tracker shares machines. Measuring itself is the code that measures here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...ir.errors import TersorError
from ..runtime.native import versions
from ..target import resolve
from .facts import facts
from .session import NAMES, reach
from .worker import RESULT


class _Session:
    """The jobs of one client, in the process that serves it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.folder = Path()

    def describe(self) -> str:
        """Target, facts and versions, as JSON."""
        return json.dumps({"target": resolve("cpu").as_dict(), "facts": facts().as_dict(), "versions": versions()})

    def start(self) -> None:
        """Start the job that was uploaded to the session's folder."""
        self.folder = Path(os.getcwd())
        (self.folder / RESULT).unlink(missing_ok=True)
        with (self.folder / "said.txt").open("wb") as said:
            command = [sys.executable, "-m", "tersor.backend.remote.worker", str(self.folder)]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT)

    def wait(self, seconds: float) -> str:
        """The result of the job as JSON, or an empty text if it takes longer."""
        assert self.process is not None
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return ""
        result = self.folder / RESULT
        if result.exists():
            return result.read_text()
        said = (self.folder / "said.txt").read_text(errors="replace").strip().splitlines()
        ended = f"by signal {-code}" if code < 0 else f"with code {code}"
        return json.dumps({"error": f"the process that did the job ended {ended}{': ' + said[-1] if said else ''}"})


def serve(
    host: str = "0.0.0.0",
    port: int = 9090,
    key: str = "",
    tracker: tuple[str, int] | None = None,
    announce: str | None = None,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Serve until the process ends. ready: called with the port, the first free one from `port` on; with a tracker, `key` names the kind of machine.
    announce: the name by which the tracker's clients reach this machine, if not the one it connects from.

    Anybody who reaches the port can run any code here: serve in a trusted network only.
    """
    import tvm_ffi
    from tvm.rpc import server as rpc

    if tracker is not None:
        reach(*tracker, "tracker")
    # a thread that ends with an exception is replaced below
    threading.excepthook = lambda args: None
    session = _Session()
    for name in ("describe", "start", "wait"):
        tvm_ffi.register_global_func(NAMES + name, getattr(session, name), override=True)
    resolve("cpu")
    while True:
        state: Any = None
        try:
            state = rpc.PopenRPCServerState(host, port, port + 100, False, tracker, key, None, announce, True)
        except (OSError, ValueError) as error:
            raise TersorError(f"cannot serve on {host}:{port}: {' '.join(str(error).split())}") from None
        if ready is not None:
            ready(state.port)
        # the thread ends when a session's process is killed; others are to be served all the same
        state.thread.join()
        state.sock.close()
        port, ready = state.port, None
