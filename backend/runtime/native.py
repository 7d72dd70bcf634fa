"""Call compiled code through the C interface of the TVM runtime, without importing TVM's Python package, torch or a compiler.

Two libraries of the installed wheels are mapped, `libtvm_ffi.so` and `libtvm_runtime.so` (the thread pool). A host function takes an array
of `TVMFFIAny` and returns 0, or leaves an error in the thread (tvm/ffi/c_api.h of apache-tvm-ffi 0.1.14).
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import threading
import warnings
import weakref
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import TersorError

#: DLPack type codes by numpy kind.
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_INT, _DLTENSOR = 1, 7
#: Function pointers that a library exports empty; its loader sets them.
_CONTEXT = ("TVMBackendParallelLaunch", "TVMBackendParallelBarrier", "TVMBackendAllocWorkspace", "TVMBackendFreeWorkspace")

_DISTRIBUTIONS = {"tersor": "tersor", "tvm": "apache-tvm", "ffi": "apache-tvm-ffi"}


class DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", c_void_p), ("device_type", c_int32), ("device_id", c_int32), ("ndim", c_int32),
        ("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16), ("shape", POINTER(c_int64)), ("strides", c_void_p), ("byte_offset", c_uint64),
    )  # fmt: skip


class AnyValue(ctypes.Structure):
    """TVMFFIAny holding an integer or a pointer."""

    _fields_ = (("type_index", c_int32), ("padding", c_uint32), ("value", c_int64))


class _Bytes(ctypes.Structure):
    _fields_ = (("data", c_void_p), ("size", c_size_t))


class _Error(ctypes.Structure):
    """An error object: header of 24 bytes, then kind and message."""

    _fields_ = (("header", c_uint8 * 24), ("kind", _Bytes), ("message", _Bytes))


class Arguments:
    """The argument array of one host function: flat tensors, then integers, and its result. Values may be set again before each call.

    pointers: the addresses of the tensors.
    """

    def __init__(self, tensors: Sequence[tuple[np.dtype, int]], integers: int):
        count = len(tensors)
        self._shapes = (c_int64 * count)(*(max(size, 1) for _, size in tensors))
        self._tensors = (DLTensor * count)()
        self.array = (AnyValue * (count + integers))()
        self.count = count + integers
        self.result = byref(AnyValue())
        for i, (dtype, _) in enumerate(tensors):
            shape = ctypes.cast(ctypes.addressof(self._shapes) + 8 * i, POINTER(c_int64))
            self._tensors[i] = DLTensor(None, 1, 0, 1, _CODES[dtype.kind], dtype.itemsize * 8, 1, shape, None, 0)
            self.array[i] = AnyValue(_DLTENSOR, 0, ctypes.addressof(self._tensors[i]))
        for i in range(count, self.count):
            self.array[i] = AnyValue(_INT, 0, 0)
        # access to a field through its structure would create a structure object at every call
        self.pointers = [c_void_p.from_buffer(self._tensors, i * ctypes.sizeof(DLTensor) + DLTensor.data.offset) for i in range(count)]
        self._integers = [c_int64.from_buffer(self.array, i * ctypes.sizeof(AnyValue) + AnyValue.value.offset) for i in range(count, self.count)]

    def point(self, index: int, address: int) -> None:
        self.pointers[index].value = address

    def integer(self, index: int, value: int) -> None:
        self._integers[index].value = value


class Function:
    """A function of compiled code: called as function(context, arguments, their number, result) it returns 0, or -1 and an error in the thread.

    owner: what must live as long as the function.
    """

    def __init__(self, function: Any, context: Any, owner: Any):
        self._function = function
        self._context = context
        self._owner = owner

    def __call__(self, arguments: Arguments) -> None:
        """Call it; raises `RuntimeError` with the code's message."""
        if code := self._function(self._context, arguments.array, arguments.count, arguments.result):
            runtime().check(code)


_loading = threading.Lock()


def runtime() -> _Runtime:
    """The TVM runtime of this process, loaded at first use."""
    with _loading:
        return _load()


@functools.cache
def _load() -> _Runtime:
    return _Runtime()


def versions() -> dict[str, str]:
    """Versions of the packages that make and run compiled code. Tersor itself may run from a folder that is not installed."""
    result = {}
    for name, distribution in _DISTRIBUTIONS.items():
        try:
            result[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            if name != "tersor":
                raise TersorError(f"{distribution} is not installed: pip install {distribution}") from None
            result[name] = "unknown"
    return result


class _Runtime:
    def __init__(self) -> None:
        # Otherwise TVM pins the threads of every process to the same first cores.
        os.environ.setdefault("TVM_BIND_THREADS", "0")
        self.ffi = ctypes.CDLL(_library("tvm_ffi", "libtvm_ffi.so", "apache-tvm-ffi"), ctypes.RTLD_GLOBAL)
        self.tvm = ctypes.CDLL(_library("tvm", "libtvm_runtime.so", "apache-tvm"))
        self.threads = _Threads(self)

    def global_function(self, name: str) -> Function:
        """A function of TVM's registry."""
        text = name.encode()
        handle = c_void_p()
        self.check(self.ffi.TVMFFIFunctionGetGlobal(byref(_Bytes(ctypes.cast(c_char_p(text), c_void_p), len(text))), byref(handle)))
        return Function(self.ffi.TVMFFIFunctionCall, handle, None)

    def check(self, code: int) -> None:
        """Raise the error that a failed call has left in the thread."""
        if code == 0:
            return
        handle = c_void_p()
        self.ffi.TVMFFIErrorMoveFromRaised(byref(handle))
        if not handle.value:
            raise RuntimeError(f"the TVM runtime failed with code {code} and no message")
        error = _Error.from_address(handle.value)
        kind, message = (ctypes.string_at(part.data, part.size).decode(errors="replace") for part in (error.kind, error.message))
        self.ffi.TVMFFIObjectDecRef(handle)
        raise RuntimeError(f"{kind}: {message}")


def _library(package: str, name: str, distribution: str) -> str:
    spec = importlib.util.find_spec(package)  # finds without importing
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "lib" / name
        if path.exists():
            return str(path)
    raise TersorError(f"{name} was not found: pip install {distribution}")


class _Pool(threading.local):
    """State of a calling thread's pool: how many workers it has and how many are in use, whether that many exist, and whether the caller is the
    only one."""

    size = 0
    used = 0
    all_there = False
    alone = False


class _Threads:
    """TVM's pools of workers, one per calling thread, made at its first parallel kernel. The size is then fixed; how many of them work is not."""

    def __init__(self, runtime: _Runtime):
        self._runtime = runtime
        self._local = _Pool()
        self._most = 1
        self._limit: Any = runtime.tvm["_ZN3tvm7runtime9threading17SetMaxConcurrencyEi"]
        self._count: Any = runtime.tvm["_ZN3tvm7runtime9threading10NumThreadsEv"]
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """After a fork: the workers exist only in the parent, so the child runs parallel kernels on its one thread."""
        if self._local.size:
            self._local.alone = True
            self._limit(c_int(1))

    def expect(self, threads: int) -> None:
        """Announce that a model of this process will use `threads` threads."""
        self._most = max(self._most, threads)

    def use(self, threads: int) -> bool:
        """Let parallel kernels called from this thread run on `threads` threads, the caller included; returns whether that many exist."""
        local = self._local
        if threads == 1 or local.alone:
            return False
        if local.used != threads:
            if not local.size:
                local.size = self._most
                self._limit(c_int(local.size))
                self._count()
            if threads > local.size:
                warnings.warn(
                    f"this thread has a pool of {local.size} workers, made before a model with {threads} threads was loaded: load that one first",
                    stacklevel=5,
                )
            arguments = Arguments([], 2)
            arguments.integer(0, 1)
            arguments.integer(1, threads)
            self._runtime.global_function("runtime.config_threadpool")(arguments)
            # config_threadpool forgets the limit, and a limit of 1 runs everything in the caller.
            self._limit(c_int(local.size))
            local.used = threads
            local.all_there = local.size > 1 and self._count() >= threads
        return local.all_there


class Library:
    """A shared library loaded from memory; unloaded with its last reference."""

    def __init__(self, code: Any):
        needed = runtime()
        try:
            fd = os.memfd_create("tersor", os.MFD_CLOEXEC)
            with open(fd, "wb", closefd=False) as file:
                file.write(code)
            # The descriptor stays open: a second library under the same /proc name would be taken for this one.
            self._dll = ctypes.CDLL(f"/proc/self/fd/{fd}")
        except OSError as error:
            raise TersorError(f"the system does not load the compiled library: {error}") from None
        weakref.finalize(self, _unload, self._dll._handle, fd).atexit = False
        for name in _CONTEXT:
            try:
                c_void_p.in_dll(self._dll, f"__{name}").value = ctypes.cast(needed.tvm[name], c_void_p).value
            except ValueError:
                continue

    def __getitem__(self, name: str) -> Function:
        return Function(self._dll[f"__tvm_ffi_{name}"], None, self)


def _unload(handle: int, fd: int) -> None:
    import _ctypes

    _ctypes.dlclose(handle)
    os.close(fd)


def function_object(function: Any) -> Function:
    """The C call of a `tvm_ffi.Function`."""
    return Function(runtime().ffi.TVMFFIFunctionCall, c_void_p(function.__chandle__()), function)


def address(array: np.ndarray) -> int:
    """The address of a C-contiguous array; 0 for any other array."""
    try:
        # faster than `array.ctypes`; fails unless the array is contiguous and writable
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):
        return int(array.ctypes.data) if array.flags.c_contiguous else 0


def aligned(nbytes: int, align: int = 64, slack: int = 64) -> np.ndarray:
    """Zeroed bytes at an aligned address, followed by `slack` more."""
    memory = np.zeros(nbytes + align + slack, np.uint8)
    start = -address(memory) % align
    return memory[start : start + nbytes]
