"""Run models compiled for CUDA without a GPU: their source is compiled for the CPU (`cuda_emulator.h`), and the runtime launches it."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tersor
from tersor.backend.emit import device as emitted
from tersor.backend.runtime.device import compiled
from tersor.backend.runtime.device.launch import Launch, Memory
from tersor.backend.runtime.model import CompiledModel
from tersor.ir.graph import Graph

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
HEADER = Path(__file__).with_suffix(".h")


class Emulator:
    """A `Device`; memory is numpy arrays, 64-byte aligned as a GPU's is."""

    def __init__(self, source: str, folder: Path):
        text = source[source.index('extern "C"') :]
        found = {name: parameters.split(", ") for name, parameters in re.findall(r"(\w+)\(([^()]*)\) \{", text) if "_offset" in parameters}
        calls = ["#define TERSOR_BF16" if "define TERSOR_BF16" in source else "", HEADER.read_text(), text]
        for name, parameters in found.items():
            pointers = [p.rsplit(" ", 1)[0].replace("__restrict__", "") for p in parameters if not p.startswith("int ") or not p.endswith("_offset")]
            values = [f"({kind})pointers[{i}]" for i, kind in enumerate(pointers)] + [f"offsets[{i}]" for i in range(len(pointers))]
            calls.append(
                f'extern "C" void run_{name}(void **pointers, int *offsets, int *blocks, int threads) '
                f"{{ launch(blocks, threads, [=] {{ {name}({', '.join(values)}); }}); }}"
            )
        (folder / "kernels.cpp").write_text("\n".join(calls))
        command = ["g++", "-std=c++20", "-O1", "-fno-strict-aliasing", "-w", "-shared", "-fPIC", "-pthread"]
        subprocess.run([*command, "-o", str(folder / "kernels.so"), str(folder / "kernels.cpp")], check=True)
        self._library = ctypes.CDLL(str(folder / "kernels.so"))

    def memory(self, nbytes: int) -> Any:
        raw = np.zeros(nbytes + 128, np.uint8)
        return raw[-raw.ctypes.data % 64 :][: nbytes + 64]

    def write(self, memory: Any, array: np.ndarray) -> None:
        memory[: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def read(self, memory: Any, array: np.ndarray, offset: int = 0) -> None:
        array.reshape(-1).view(np.uint8)[:] = memory[offset : offset + array.nbytes]

    def start(self, launch: Launch, memories: dict[Memory, Any]) -> None:
        count = len(launch.arguments)
        pointers = (ctypes.c_void_p * count)(*(memories[memory].ctypes.data for memory, _ in launch.arguments))
        offsets = (ctypes.c_int * count)(*(offset for _, offset in launch.arguments))
        getattr(self._library, f"run_{launch.kernel}")(pointers, offsets, (ctypes.c_int * 3)(*launch.blocks), launch.threads)

    def resident(self, value: Any) -> Any:
        """What lies on the CPU is on this device, but numpy arrays are copied as for a GPU."""
        return value.numpy() if isinstance(value, torch.Tensor) and value.is_contiguous() else None

    def like(self, value: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        return torch.empty(shape, dtype=getattr(torch, dtype.name))

    def wait(self) -> None:
        pass


def emulated(graph: Graph, folder: Path, monkeypatch: pytest.MonkeyPatch, target: str = "cuda:sm_80", **options: Any) -> CompiledModel:
    """A model compiled for CUDA that runs in the emulator."""
    monkeypatch.setattr(emitted, "nvcc", lambda: None)
    monkeypatch.setattr(compiled, "open_device", lambda manifest, code: Emulator(bytes(code).decode(), folder))
    return tersor.compile(graph, target=target, **options)
