"""A compiled model on a GPU. Weights go to the device once, inputs and outputs with each call; the arena never leaves it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ....ir.errors import TersorError
from ..artifact import Entry, Manifest
from ..faults import raise_first
from ..measure import empty
from ..model import Program
from .cuda import Cuda
from .launch import Device, Launch, Memory
from .opencl import OpenCL


def open_device(manifest: Manifest, code: bytes | memoryview) -> Device:
    """The device of this machine that a model was compiled for, with its code. Raises `TersorError` where there is none."""
    if manifest.target.kind == "opencl":
        return OpenCL(bytes(code).decode(), manifest.name)
    if bytes(code[:4]) != b"\x7fELF":
        raise TersorError(
            f"{manifest.name} holds CUDA source, because nvcc was missing where it was compiled: compile it for {manifest.target.name} where the "
            "CUDA toolkit is"
        )
    return Cuda(bytes(code), manifest.name, manifest.target.mcpu)


class DeviceProgram(Program):
    """The kernels of one batch size, in order. Calls run one after the other, since there is one arena."""

    def __init__(self, manifest: Manifest, entry: Entry, device: Device, weights: object):
        self._name = manifest.name
        self.entry = entry
        self._device = device
        self._launches: tuple[Launch, ...] = manifest.launches[entry.function]
        self._memories: dict[Memory, object] = {"weights": weights, "arena": device.memory(entry.arena)}
        for kind, ports in (("input", entry.inputs), ("output", entry.outputs)):
            self._memories |= {f"{kind} {i}": device.memory(port.nbytes) for i, port in enumerate(ports)}
        self._lock = threading.Lock()

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """All steps on checked inputs; returns fresh arrays."""
        outputs = [empty(p) for p in self.entry.outputs]
        with self.session(arrays, outputs) as run:
            run(0, len(self._launches), False)
        return outputs

    @contextlib.contextmanager
    def session(self, arrays: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> Iterator[Callable[..., None]]:
        """`run(first, last)` runs a range of steps on these inputs, and waits until they are done; outputs are read at the end."""
        with self._lock:
            for i, array in enumerate(arrays):
                self._device.write(self._memories[f"input {i}"], array)
            yield self._steps
            for i, array in enumerate(outputs):
                self._device.read(self._memories[f"output {i}"], array)
            self._check()

    def _steps(self, first: int, last: int, wait: bool = True) -> None:
        for launch in self._launches[first:last]:
            self._device.start(launch, self._memories)
        if wait:
            self._device.wait()

    def _check(self) -> None:
        """Raise for an index that was out of range, see `faults`."""
        if not self.entry.records:
            return
        records = np.zeros(self.entry.records // 8, np.int64)
        start = self.entry.arena - self.entry.records
        self._device.read(self._memories["arena"], records.view(np.uint8), start)
        if records.any():
            cleared = np.zeros(self.entry.arena, np.uint8)
            self._device.write(self._memories["arena"], cleared)
            raise_first(self._name, self.entry, records.data)
