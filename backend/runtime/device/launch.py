"""Kernel launches, as stored in the manifest of a compiled model, and the interface of a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

#: The memory that holds an argument: `arena`, `weights`, `input 0`, `output 1`, …
Memory = str


@dataclass(frozen=True)
class Launch:
    """One kernel: its name, the blocks along x, y and z, threads of a block, and for each pointer its memory and the offset in elements."""

    kernel: str
    blocks: tuple[int, int, int]
    threads: int
    arguments: tuple[tuple[Memory, int], ...]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Launch:
        arguments = tuple((str(memory), int(offset)) for memory, offset in data["arguments"])
        x, y, z = data["blocks"]
        return cls(data["kernel"], (x, y, z), data["threads"], arguments)


class Device(Protocol):
    """A GPU with the code of one model. Memory handles are specific to the device."""

    def memory(self, nbytes: int) -> Any:
        """New memory, filled with zeros."""

    def write(self, memory: Any, array: np.ndarray) -> None:
        """Copy an array to the beginning of memory."""

    def read(self, memory: Any, array: np.ndarray, offset: int = 0) -> None:
        """Copy memory, from byte `offset` on, into an array, after all kernels that were started."""

    def start(self, launch: Launch, memories: dict[Memory, Any]) -> None:
        """Start a kernel, to run after those started before."""

    def resident(self, value: Any) -> Any:
        """The memory handle of a tensor that lies on this device, contiguous and aligned to 16 bytes; None for any other value."""

    def like(self, value: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """A new tensor on the device, of the library that made a resident one."""

    def wait(self) -> None:
        """Wait until everything that was started is done."""
