"""A compiled model on a GPU. Weights go to the device once, inputs and outputs with each call; the arena never leaves it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

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

    def run_resident(self, values: Sequence[Any]) -> list[Any] | None:
        """All steps on tensors that lie on the device, without copies; the results are tensors there. None where a value lies elsewhere.

        Nothing waits for the kernels: the tensors' library orders what follows.
        """
        with self._lock:
            found = [self._device.resident(value) for value in values]
            if not found or any(handle is None for handle in found):
                return None
            for port, value in zip(self.entry.inputs, values):
                said = (str(value.dtype).removeprefix("torch."), tuple(value.shape))
                if said != (port.dtype.name, port.shape):
                    raise TersorError(f"input {port.name!r} of {self._name} must be {port.elem}{list(port.shape)}, got {said[0]}{list(said[1])}")
            results = [self._device.like(values[0], port.shape, port.dtype) for port in self.entry.outputs]
            memories = self._memories | {f"input {i}": handle for i, handle in enumerate(found)}
            memories |= {f"output {i}": self._device.resident(result) for i, result in enumerate(results)}
            for launch in self._launches:
                self._device.start(launch, memories)
            self._check()
            return results

    @contextlib.contextmanager
    def session(self, arrays: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> Iterator[Callable[..., None]]:
        """`run(first, last)` runs a range of steps on these inputs, and waits until they are done; outputs are read at the end."""
        with self._lock:
            self.put(arrays)
            yield self.steps
            self.get(outputs)
            self._check()

    def put(self, arrays: Sequence[np.ndarray]) -> None:
        """Copy inputs to the device."""
        for i, array in enumerate(arrays):
            self._device.write(self._memories[f"input {i}"], array)

    def get(self, arrays: Sequence[np.ndarray]) -> None:
        """Copy outputs from the device."""
        for i, array in enumerate(arrays):
            self._device.read(self._memories[f"output {i}"], array)

    def steps(self, first: int, last: int, wait: bool = True) -> None:
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
