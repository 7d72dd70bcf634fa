"""CUDA through the driver API with ctypes, without toolkit and TVM. The code is a cubin for one compute capability and later minor versions."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np

from ....ir.errors import TersorError
from .launch import Launch, Memory


class Cuda:
    """A `Device`: the first one that the driver shows (`CUDA_VISIBLE_DEVICES`)."""

    def __init__(self, cubin: bytes, name: str, capability: str):
        try:
            self._driver = ctypes.CDLL("libcuda.so.1")
        except OSError:
            raise TersorError(f"{name} was compiled for cuda:{capability}, and this machine has no CUDA driver (libcuda.so.1)") from None
        self._name = name
        self._call("cuInit", 0)
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self._enter()
        major, minor = (self._attribute(device, number) for number in (75, 76))
        self._module = ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(self._module), cubin, hint=f"it is for cuda:{capability}, the device is sm_{major}{minor}")
        self._kernels: dict[str, Any] = {}
        self._stream: int | None = None

    def _call(self, function: str, *arguments: Any, hint: str = "") -> None:
        status = getattr(self._driver, function)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(status, ctypes.byref(text))
            said = text.value.decode() if text.value else f"error {status}"
            raise TersorError(f"{self._name}: {function} failed: {said}{f' ({hint})' if hint else ''}")

    def _attribute(self, device: Any, number: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    def _enter(self) -> None:
        """Make the device's context current in this thread."""
        self._call("cuCtxSetCurrent", self._context)

    def memory(self, nbytes: int) -> Any:
        self._enter()
        pointer = ctypes.c_uint64()
        size = max(nbytes, 64)
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size), hint=f"{size:,} bytes")
        self._call("cuMemsetD8_v2", pointer, ctypes.c_ubyte(0), ctypes.c_size_t(size))
        return pointer

    def write(self, memory: Any, array: np.ndarray) -> None:
        self._enter()
        array = np.ascontiguousarray(array)
        if array.nbytes:
            self._call("cuMemcpyHtoD_v2", memory, ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes))

    def read(self, memory: Any, array: np.ndarray, offset: int = 0) -> None:
        self._enter()
        if array.nbytes:
            source = ctypes.c_uint64(memory.value + offset)
            self._call("cuMemcpyDtoH_v2", ctypes.c_void_p(array.ctypes.data), source, ctypes.c_size_t(array.nbytes))

    def start(self, launch: Launch, memories: dict[Memory, Any]) -> None:
        self._enter()
        values = [memories[memory] for memory, _ in launch.arguments] + [ctypes.c_int32(offset) for _, offset in launch.arguments]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        self._call(
            "cuLaunchKernel", self._kernel(launch.kernel), *launch.blocks, launch.threads, 1, 1, 0, ctypes.c_void_p(self._stream), pointers, None
        )

    def resident(self, value: Any) -> Any:
        """A torch tensor on this device. Kernels that follow run on torch's current stream, after what it holds already."""
        if not getattr(value, "is_cuda", False) or value.device.index != 0 or not value.is_contiguous() or value.data_ptr() % 16:
            return None
        self._stream = sys.modules["torch"].cuda.current_stream(value.device).cuda_stream
        return ctypes.c_uint64(value.data_ptr())

    def like(self, value: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        torch = sys.modules["torch"]
        return torch.empty(shape, dtype=getattr(torch, dtype.name), device=value.device)

    def _kernel(self, name: str) -> Any:
        if name not in self._kernels:
            kernel = ctypes.c_void_p()
            self._call("cuModuleGetFunction", ctypes.byref(kernel), self._module, name.encode())
            self._kernels[name] = kernel
        return self._kernels[name]

    def wait(self) -> None:
        self._enter()
        self._call("cuCtxSynchronize")
