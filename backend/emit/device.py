"""Emit for GPUs: each distinct fusion becomes a kernel, each step a kernel launch; TVM prints the kernels as OpenCL or CUDA source.

Every argument is a buffer and an offset in elements, see `codegen.gpu`. For CUDA, nvcc turns the source into a cubin.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Const, Value
from ..codegen.gpu import HALF, GpuBuilder, GpuKernel, Grid
from ..kernels.packed import Packed
from ..kernels.template import template_named
from ..lowering.plan_memory import arena_size
from ..runtime.artifact import Step
from ..runtime.device.launch import Launch, Memory
from ..runtime.faults import RECORD
from ..target import Target
from ..tile.fusion import Fusion, root
from ..tile.half import NBYTES, stored
from ..tile.ops import Fused
from .module import Weights, kernel_key, step_of, storage_dtype

#: Contraction is forbidden: kernels say `fma` where they want one.
OPENCL_HEAD = "#pragma OPENCL FP_CONTRACT OFF\n"
#: f16 is converted without cl_khr_fp16, which few devices have.
OPENCL_F16 = """float tersor_float(ushort bits) { return vload_half(0, (const __private half *)&bits); }
ushort tersor_half(float x) { ushort bits; vstore_half_rte(x, 0, (__private half *)&bits); return bits; }
"""
#: bf16 is the upper half of an f32, rounded to the nearest, ties to even; a NaN stays one.
OPENCL_BF16 = """float tersor_float(ushort bits) { return as_float((uint)bits << 16); }
ushort tersor_half(float x) { uint u = as_uint(x); return isnan(x) ? u >> 16 | 64 : (u + 0x7fff + (u >> 16 & 1)) >> 16; }
"""
CUDA_HEAD = (Path(__file__).parent / "head.cu").read_text()
#: Environment variable: the path of CUDA's compiler.
NVCC = "TERSOR_NVCC"

Place = tuple[Memory, int]


#: Threads that a multiprocessor is to hold at least. Without a number ptxas spills now and then to hold more of them.
RESIDENT = 256


@dataclass
class DeviceEmitter:
    """Kernels and launches of one artifact; several batches share weights and equal kernels."""

    target: Target
    weights: Weights = field(default_factory=Weights)
    functions: dict[Any, Any] = field(default_factory=dict)
    _kernels: dict[str, tuple[str, Grid]] = field(default_factory=dict)

    def add(self, graph: Graph) -> tuple[list[Step], tuple[Launch, ...], int]:
        """Emit a planned graph; returns its steps, the launch of each, and the bytes of its arena."""
        arena = records = -(-arena_size(graph, self.target, 1) // RECORD) * RECORD
        where: dict[Value, Place] = {v: (f"input {i}", 0) for i, v in enumerate(graph.inputs)}
        where |= {root(v): (f"output {i}", 0) for i, v in enumerate(graph.outputs)}
        steps, launches = [], []
        for op in graph.ops:
            if not isinstance(op, Fused):
                continue
            fusion = Fusion(op)
            packed = self._packed(op)
            name, grid = self._kernel(op, packed)
            arguments = [self._place(v, inner, packed, where) for v, inner in zip(op.args, op.body.inputs)]
            if op.offset >= 0:
                where[op.out] = ("arena", op.offset // op.itemsize)
            arguments.append(where[root(op.out)])
            if op.scratch >= 0:
                arguments.append(("arena", op.scratch // np.dtype(template_named(op.template, fusion.anchor).scratch_dtype(fusion)).itemsize))
            step = step_of(op, name, graph, self.target)
            if step.check is not None:
                arguments.append(("arena", records // 8))
                records += RECORD
            steps.append(step)
            launches.append(Launch(name, grid.blocks, grid.threads, tuple(arguments)))
        assert arena <= records
        return steps, tuple(launches), records

    def _packed(self, op: Fused) -> dict[Value, np.ndarray]:
        """Constants in the form that the kernel reads."""
        fusion = Fusion(op)
        constants = template_named(op.template, fusion.anchor).pack(fusion, self.target, op.params)
        packed = {v: x.array() if isinstance(x, Packed) else x for v, x in constants.items()}
        for i, v in enumerate(op.body.inputs):
            array = packed.get(v, fusion.array(v))
            if i in op.half and array is not None:
                packed[v] = stored(array, op.half_elem)
        return packed

    def _place(self, v: Value, inner: Value, packed: dict[Value, np.ndarray], where: dict[Value, Place]) -> Place:
        source = root(v)
        array = packed.get(inner, source.op.array if isinstance(source.op, Const) else None)
        if array is None:
            return where[source]
        return ("weights", self.weights.add(array) // array.dtype.itemsize)

    def _kernel(self, op: Fused, packed: dict[Value, np.ndarray]) -> tuple[str, Grid]:
        """The kernel of a fusion, shared by fusions with the same code, and its grid."""
        fusion, key = Fusion(op), kernel_key(op)
        if key not in self._kernels:
            template = template_named(op.template, fusion.anchor)
            b = GpuBuilder(f"{template.name.removeprefix('gpu_')}_{len(self._kernels)}", self.target.elem)
            args = {}
            half = op.half if NBYTES[op.half_elem] == 2 else ()
            for i, v in enumerate(op.body.inputs):
                array = packed.get(v)
                size, dtype = (v.type.size, storage_dtype(v.type)) if array is None else (array.size, str(array.dtype))
                args[v] = b.param(f"a{i}", HALF if i in half else dtype, size)
            out = b.param("out", HALF if -1 in half else storage_dtype(op.out.type), op.out.type.size)
            scratch_bytes = template.scratch(fusion, self.target, op.params, 1)
            scratch = b.param("scratch", template.scratch_dtype(fusion), scratch_bytes) if scratch_bytes else None
            k = GpuKernel(b, fusion, op.params, self.target, 1, args, out, scratch)
            if fusion.addresses:
                k.faults = b.param("faults", "int64", RECORD // 8)
            template.emit(k)
            self.functions[tvm.ir.GlobalVar(b.name)] = b.function()
            self._kernels[key] = b.name, b.grid
        return self._kernels[key]

    def source(self) -> str:
        """The kernels in OpenCL C or CUDA C++."""
        target = self.target.tvm()
        module = tvm.IRModule({var: function.with_attr("target", target) for var, function in self.functions.items()})
        text: str = tvm.get_global_func(f"target.build.{self.target.kind}")(module, target).inspect_source()
        if self.target.kind == "opencl":
            return OPENCL_HEAD + (OPENCL_BF16 if self.target.elem == "bf16" else OPENCL_F16) + text
        return (
            ("#define TERSOR_BF16\n" if self.target.elem == "bf16" else "")
            + CUDA_HEAD
            + re.sub(r"__launch_bounds__\((\d+)\)", lambda m: f"__launch_bounds__({m[1]}, {max(1, RESIDENT // int(m[1]))})", text)
        )

    def code(self) -> bytes:
        """The code that a `.tso` holds: OpenCL source; for CUDA a cubin, or source where there is no nvcc."""
        source = self.source()
        compiler = nvcc() if self.target.kind == "cuda" else None
        return source.encode() if compiler is None else cubin(source, self.target, compiler)


def nvcc() -> str | None:
    """The path of CUDA's compiler; None where there is none."""
    return os.environ.get(NVCC) or shutil.which("nvcc")


def cubin(source: str, target: Target, compiler: str, *options: str, said: Callable[[str], object] | None = None) -> bytes:
    """Machine code of CUDA source; `said` is called with the compiler's output.

    Raises `TersorError` where nvcc cannot compile it, as for a capability that it does not know.
    """
    with tempfile.TemporaryDirectory(prefix="tersor-") as folder:
        path = Path(folder) / "kernels.cu"
        path.write_text(source)
        command = [compiler, "-cubin", f"-arch={target.mcpu}", "-O3", *options, "-o", str(path.with_suffix(".cubin")), str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            raise TersorError(f"cannot run {compiler}: {error.strerror}") from None
        if done.returncode:
            raise TersorError(f"nvcc cannot compile for {target.name}: {' '.join((done.stderr or done.stdout).split())[:500]}")
        if said is not None:
            said(done.stdout + done.stderr)
        return path.with_suffix(".cubin").read_bytes()
