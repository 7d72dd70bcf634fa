"""The client's end of an RPC session: jobs go to a device, results come back, and every failure is one sentence."""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import TersorError
from ..runtime.native import versions
from .address import Address
from .worker import JOB, pack

#: Prefix of our functions in the server's registry.
NAMES = "tersor.device."
#: Seconds that an answer may take; a job that takes longer is asked for again and again.
PATIENCE, ASK = 60.0, 5.0


class DeviceLost(TersorError):
    """A device that went away. Another of its kind may do the job."""


class NoDevice(TersorError):
    """There is no device at an address, or none with the key."""


class Session:
    """A connection to a server, for one user at a time. described: what the server says of itself."""

    def __init__(self, remote: Any, name: str):
        self.name = name
        self._remote = remote
        self.described: dict[str, Any] = {}
        try:
            self.described = json.loads(self._call("describe"))
        except DeviceLost:
            raise
        except TersorError as error:
            raise TersorError(f"{name} is a TVM RPC server without Tersor: start `tersor device` there ({error})") from None
        there, here = self.described["versions"], versions()
        if any(there[k] != here[k] for k in ("tvm", "ffi")):
            other, own = (f"apache-tvm {v['tvm']} with apache-tvm-ffi {v['ffi']}" for v in (there, here))
            raise TersorError(f"{name} has {other}, and this machine {own}: install the same on both")

    def job(self, kind: str, files: Mapping[str, bytes] = {}, **options: Any) -> Any:
        """Upload files, do a job and return its result. Raises `TersorError` with what the device said, `DeviceLost` if it went away."""
        for name, data in files.items():
            self._do(lambda name=name, data=data: self._remote.upload(bytearray(data), name), f"sending {name}")  # type: ignore[misc]
        text = json.dumps({"kind": kind, "options": options})
        self._do(lambda: self._remote.upload(bytearray(text.encode()), JOB), "sending a job")
        self._call("start")
        while not (said := self._call("wait", ASK)):
            pass
        answer = json.loads(said)
        if "error" in answer:
            raise TersorError(f"{self.name}: {answer['error']}")
        return answer["result"]

    def upload(self, name: str, arrays: list[np.ndarray]) -> None:
        """Send arrays as an .npz."""
        with tempfile.TemporaryDirectory(prefix="tersor-") as folder:
            pack(Path(folder) / name, arrays)
            data = (Path(folder) / name).read_bytes()
        self._do(lambda: self._remote.upload(bytearray(data), name), f"sending {name}")

    def download(self, name: str) -> bytes:
        return bytes(self._do(lambda: self._remote.download(name), f"reading {name}"))

    def close(self) -> None:
        """End the session, so that the server is free for others."""
        self._remote = None

    def _call(self, name: str, *arguments: Any) -> str:
        return str(self._do(lambda: self._remote.get_function(NAMES + name)(*arguments), name))

    def _do(self, work: Callable[[], Any], what: str) -> Any:
        """The result of `work`, which TVM does not end by itself when a machine is switched off."""
        return patiently(work, f"{self.name} went away during {what!r}")


def patiently(work: Callable[[], Any], lost: str, seconds: float = PATIENCE) -> Any:
    """Run work in a thread for at most so long. Raises `DeviceLost` where the connection broke or nothing came."""
    result: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        said = " ".join(str(failed[0]).split())
        if isinstance(failed[0], TersorError):
            raise failed[0]
        if any(sign in said for sign in _BROKEN) or isinstance(failed[0], OSError):
            raise DeviceLost(f"{lost}: the connection broke") from None
        raise TersorError(said[:300]) from None
    if not result:
        raise DeviceLost(f"{lost}: no answer for {seconds:.0f} s")
    return result[0]


#: Signs of a broken connection in TVM's messages.
_BROKEN = ("Connection reset", "Broken pipe", "connection reset", "kShutdown", "Socket", "socket", "Channel closes", "EOF")


@contextlib.contextmanager
def opened(address: Address) -> Iterator[Session]:
    """A session with a server, or with the first free one that a tracker has for the key."""
    session = connected(address)
    try:
        yield session
    finally:
        session.close()


def connected(address: Address) -> Session:
    """`opened` for a caller who closes the session."""
    try:
        from tvm import rpc
    except ImportError as error:
        raise TersorError(f"a device at {address} needs TVM's RPC: pip install apache-tvm ({error})") from None
    if not address.key:
        reach(address.host, address.port, "device", f": start it by `tersor device --port {address.port}`")
        hint = f"{address} does not answer as a TVM RPC server that is free"
        return Session(_answered(lambda: rpc.connect(address.host, address.port), hint, f"{address} is not a TVM RPC server"), str(address))
    reach(address.host, address.port, "tracker", f": start it by `python -m tvm.exec.rpc_tracker --port {address.port}`")
    what = f"the tracker {address.host}:{address.port}"
    tracker = _answered(lambda: rpc.connect_tracker(address.host, address.port), f"{what} does not answer", f"{what} is not one of TVM's")
    known = patiently(tracker.summary, f"{what} does not answer")
    keys = sorted({info["key"].removeprefix("server:") for info in known["server_info"]})
    if address.key not in keys:
        raise NoDevice(f"{what} has no device with key {address.key!r}; it has {', '.join(keys) or 'none'}")
    hint = f"{what} gave no free device with key {address.key!r}"
    remote = patiently(lambda: tracker.request(address.key, max_retry=2), hint, 10 * PATIENCE)
    return Session(remote, str(address))


def _answered(connect: Callable[[], Any], silent: str, other: str) -> Any:
    """A connection; `silent` and `other` are said of a server that does not answer, and of one that answers something else."""
    try:
        return patiently(connect, silent, 20.0)
    except DeviceLost:
        raise
    except TersorError as error:
        raise TersorError(f"{other} ({error})") from None


def reach(host: str, port: int, what: str, hint: str = "") -> None:
    """Raise unless something listens there: TVM itself retries for a minute."""
    try:
        socket.create_connection((host, port), 10).close()
    except OSError as error:
        raise NoDevice(f"there is no {what} at {host}:{port} ({error.strerror or error}){hint}") from None
