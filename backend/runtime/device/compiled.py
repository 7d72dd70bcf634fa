"""CompiledModel for GPUs: called, measured and saved as on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....ir.errors import UnsupportedError
from ....ir.evaluate import structured
from ..artifact import Entry, Manifest
from ..model import CompiledModel, Program
from ..native import Function
from .launch import Device
from .model import DeviceProgram, open_device


class DeviceModel(CompiledModel):
    """A graph compiled for a GPU. The device is opened when the model first runs; calls from several threads run one after the other."""

    def __init__(self, manifest: Manifest, weights: np.ndarray, code: Callable[[], bytes | memoryview]):
        super().__init__(manifest, weights, self.native, code)
        self._device: Device | None = None
        self._uploaded: object = None

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Run the model. Tensors of torch that lie on the same GPU are used where they lie, and the results are tensors there."""
        values = self.bind(inputs, named)
        program = self.program(self.entry_for(values))
        assert isinstance(program, DeviceProgram)
        results = program.run_resident(values)
        return super().__call__(*values) if results is None else structured(self.manifest.structure, results)

    def program(self, entry: Entry) -> Program:
        if (made := self._programs.get(entry.function)) is not None:
            return made
        with self._lock:
            if self._device is None:
                device = open_device(self.manifest, self._code())
                self._uploaded = device.memory(self._weights.nbytes)
                device.write(self._uploaded, self._weights)
                self._device = device
            if entry.function not in self._programs:
                self._programs[entry.function] = DeviceProgram(self.manifest, entry, self._device, self._uploaded)
            return self._programs[entry.function]

    @property
    def source(self) -> str:
        """The OpenCL source of its kernels, or CUDA's where nvcc was missing. Raises `UnsupportedError` for a cubin."""
        code = bytes(self._code())
        if code[:4] == b"\x7fELF":
            raise UnsupportedError(f"{self.manifest.name} holds a cubin, no source")
        return code.decode()

    def native(self, name: str) -> Function:
        raise UnsupportedError(f"{self.manifest.name} was compiled for {self.target.name}: it has no function {name!r} of the CPU")

    def export_c(self, folder: str | Path, inputs: Sequence[Any] | None = None, expected: Sequence[Any] | None = None, name: str = "model") -> None:
        raise UnsupportedError(f"export_c writes code for CPUs, and {self.manifest.name} was compiled for {self.target.name}: compile it for cpu")
