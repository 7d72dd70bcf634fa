"""`tersor.device(address)`: another machine on which models run and are measured."""

from __future__ import annotations

import contextlib
import io
import tempfile
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import TersorError
from ..runtime import artifact
from ..runtime.artifact import Entry
from ..runtime.bench import Comparison
from ..runtime.measure import Inputs, Profile
from ..runtime.model import CompiledModel
from ..target import Target
from .address import Address, parse
from .facts import Facts
from .session import Session, opened
from .tunnel import Tunnel

Model = str | Path | CompiledModel


class Device:
    """A machine that serves by `tersor device`: its target and facts, and models on it. Each question opens a session of its own.

    At an ssh address the server is started there, and ends with this object.
    """

    def __init__(self, address: Address):
        self.address = address
        self._tunnel = Tunnel(address) if address.scheme == "ssh" else None
        with self.session() as session:
            described = session.described
        self.target = Target(**described["target"] | {"features": tuple(described["target"]["features"])})
        self.versions: dict[str, str] = described["versions"]

    def __str__(self) -> str:
        return str(self.address)

    def __repr__(self) -> str:
        return f"<Device {self.address}: {self.target.name}>"

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A connection; through a tracker, to the first free machine of the key."""
        with opened(self.address if self._tunnel is None else self._tunnel.address) as session:
            yield session

    @property
    def facts(self) -> Facts:
        """Processor, clocks, governor, temperatures and load at this moment."""
        with self.session() as session:
            return Facts.from_dict(session.described["facts"])

    def require(self, made: Target, what: str) -> None:
        """Raise unless the device runs code for a target, before any is sent."""
        if made.gpu:
            return
        arch, other = (t.triple.partition("-")[0] for t in (made, self.target))
        if arch != other:
            raise TersorError(f"{what} was compiled for {made.name} ({arch}), and {self} is {other}: compile for target {self.target.name!r}")
        if missing := [f for f in made.features if f not in self.target.features]:
            lacks = ", ".join(missing)
            raise TersorError(f"{what} was compiled for {made.name} and needs {lacks}, which {self} lacks: compile for target {self.target.name!r}")

    def same(self, session: Session) -> None:
        """Raise if a tracker has machines with other processors under the key, so that times of both would be mixed."""
        if (name := session.described["target"]["name"]) != self.target.name:
            raise TersorError(f"{self} has machines with {self.target.name} and with {name}: give each kind a key of its own")

    def load(self, model: Model) -> RemoteModel:
        """A `.tso` file or a compiled model, to be called and measured there. Raises `TersorError` for one of another processor."""
        return RemoteModel(self, Path(model).name if not isinstance(model, CompiledModel) else model.manifest.name, data_of(model))

    def benchmark(self, model: Model, against: Model | None = None, *, names: Sequence[str] = (), **options: Any) -> Comparison:
        """`tersor.benchmark` on the device: `.tso` files or compiled models."""
        models = [model] if against is None else [model, against]
        files = {f"m{i}.tso": self.load(m).data for i, m in enumerate(models)}
        shown = [*names] or [m.manifest.name if isinstance(m, CompiledModel) else Path(m).name for m in models]
        with self.session() as session:
            return Comparison.from_dict(session.job("benchmark", files, models=[*files], names=shown, **options))


class RemoteModel(CompiledModel):
    """A compiled model on a device: called like one here. Each call sends the inputs and brings the outputs back."""

    def __init__(self, device: Device, name: str, data: bytes):
        manifest, _, weights = artifact.parts(name, memoryview(data))
        super().__init__(manifest, weights, partial(_not_here, name), lambda: artifact.parts(name, memoryview(data))[1])
        self.device = device
        self.data = data
        self._turn = threading.Lock()
        device.require(self.target, name)

    def program(self, entry: Entry) -> Any:
        return _Program(self, entry)

    def run_there(self, entry: Entry, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """All steps on checked inputs; returns fresh arrays."""
        with self._turn, self.device.session() as session:
            session.upload("in.npz", [*arrays])
            session.job("run", {"m.tso": self.data}, model="m.tso", batch=entry.batch)
            file = session.download("out.npz")
        with np.load(io.BytesIO(file), allow_pickle=False) as made:
            return [made[f"a{i}"].view(p.dtype).reshape(p.shape) for i, p in enumerate(entry.outputs)]

    def profile(self, rounds: int = 20, inputs: Inputs = None, batch: int | None = None, cold: bool = False) -> Profile:
        """Time of each kernel on the device; on random inputs only."""
        if inputs is not None:
            raise TersorError("a profile on a device is of random inputs: leave inputs= out")
        with self.device.session() as session:
            return Profile.from_dict(session.job("profile", {"m.tso": self.data}, model="m.tso", rounds=rounds, batch=batch, cold=cold))


class _Program:
    """What `CompiledModel` calls."""

    def __init__(self, model: RemoteModel, entry: Entry):
        self.model, self.entry = model, entry

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self.model.run_there(self.entry, arrays)


def _not_here(model: str, function: str) -> Any:
    raise TersorError(f"{model} is on a device: its function {function} cannot be called here")


def data_of(model: Model) -> bytes:
    """The bytes of a `.tso`."""
    if isinstance(model, RemoteModel):
        return model.data
    if isinstance(model, CompiledModel):
        with tempfile.TemporaryDirectory(prefix="tersor-") as folder:
            path = Path(folder) / "m.tso"
            model.save(path)
            return path.read_bytes()
    artifact.read(model)
    return Path(model).read_bytes()


def device(address: str) -> Device:
    """The machine at `rpc://host:port`, where `tersor device` runs, or one of those that a tracker shares under a key: `rpc://tracker-host:port/key`.

    At `ssh://[user@]host[:port]` `tersor device` is started through ssh, and ends with the result of this function. Raises `TersorError` where
    nothing serves, or something else, or with other versions of TVM.
    """
    return Device(parse(address))


def named(address: str | Device | None) -> Device | None:
    """A device, or the one at an address."""
    return device(address) if isinstance(address, str) else address
