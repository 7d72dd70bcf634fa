"""OpenCL through pyopencl: the source of a model is built for the first GPU of the machine, or the first device where there is no GPU."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ....ir.errors import TersorError
from .launch import Launch, Memory

#: Names the device to use: part of the name of its platform or of itself.
CHOICE = "TERSOR_OPENCL_DEVICE"


def device() -> Any:
    """The device to run on. Raises `TersorError` where pyopencl is missing, there is none, or the environment names one that is not there."""
    try:
        import pyopencl as cl
    except ImportError:
        raise TersorError("running a model compiled for opencl needs pyopencl: pip install 'tersor[opencl]'") from None
    try:
        devices = [d for platform in cl.get_platforms() for d in platform.get_devices()]
    except cl.Error:
        devices = []
    if not devices:
        raise TersorError("no OpenCL device here: install the driver of the GPU, or PoCL to run on the CPU (Debian's pocl-opencl-icd)")
    wanted = os.environ.get(CHOICE, "")
    named = [d for d in devices if wanted.lower() in f"{d.platform.name} {d.name}".lower()]
    if not named:
        known = "; ".join(f"{d.platform.name}: {d.name.strip()}" for d in devices)
        raise TersorError(f"{CHOICE}={wanted!r} names no OpenCL device; here are {known}")
    return next((d for d in named if d.type & cl.device_type.GPU), named[0])


class OpenCL:
    """A `Device`."""

    def __init__(self, source: str, name: str):
        import pyopencl as cl

        self._cl = cl
        self.device = device()
        self._context = cl.Context([self.device])
        self._queue = cl.CommandQueue(self._context)
        try:
            program = cl.Program(self._context, source).build()
        except cl.Error as error:
            raise TersorError(f"{name}: {self.device.name.strip()} cannot build its OpenCL kernels: {' '.join(str(error).split())[:500]}") from None
        self._kernels = {kernel.function_name: kernel for kernel in program.all_kernels()}

    def memory(self, nbytes: int) -> Any:
        cl = self._cl
        try:
            buffer = cl.Buffer(self._context, cl.mem_flags.READ_WRITE, max(nbytes, 64))
            cl.enqueue_fill_buffer(self._queue, buffer, np.zeros(1, np.uint8), 0, max(nbytes, 64))
        except cl.Error as error:
            raise TersorError(f"{self.device.name.strip()} has no {nbytes:,} bytes of memory left: {error}") from None
        return buffer

    def write(self, memory: Any, array: np.ndarray) -> None:
        if array.nbytes:
            self._cl.enqueue_copy(self._queue, memory, np.ascontiguousarray(array))

    def read(self, memory: Any, array: np.ndarray, offset: int = 0) -> None:
        if array.nbytes:
            self._cl.enqueue_copy(self._queue, array, memory, src_offset=offset)

    def start(self, launch: Launch, memories: dict[Memory, Any]) -> None:
        buffers = [memories[memory] for memory, _ in launch.arguments]
        offsets = [np.int32(offset) for _, offset in launch.arguments]
        size = (launch.blocks[0] * launch.threads, *launch.blocks[1:])
        self._kernels[launch.kernel](self._queue, size, (launch.threads, 1, 1), *buffers, *offsets)

    def resident(self, value: Any) -> None:
        """OpenCL buffers are not tensors of any library here."""
        return None

    def like(self, value: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        raise NotImplementedError

    def wait(self) -> None:
        self._queue.finish()
