"""A kernel that TVM's MetaSchedule found: the trace of its schedule, applied again to the fusion's definition.

The search starts from a plain definition (`te_definition`), not from our templates: those write their loops themselves, and leave nothing to
schedule. The trace is the only parameter; only `tersor tune --search metaschedule` finds one, so there are no candidates without a database.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import tvm
from tvm import ir as tir_ir
from tvm import s_tir, tirx
from tvm.ir import PointerType, PrimType
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Trace

from ....ir.op import Value
from ....ir.ops import Linear
from ...codegen.kernel_builder import KernelBuilder
from ...codegen.phases import sequence
from ...target import Target
from ...tile.fusion import Fusion
from ...tile.ops import TileConv2d
from ..template import Params, Template, kernel, templates_for
from .te_definition import define, packed, refusal

NAME = "metaschedule"
#: From this many bytes on, TVM puts arrays on the heap, not on the stack.
STACK = 1024
#: DLPack's codes of the processor, and of floats.
CPU, FLOAT = 1, 2


@kernel(TileConv2d, Linear)
class MetaSchedule(Template):
    name = NAME

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return not refusal(fusion)

    def candidates(self, fusion: Fusion, target: Target, threads: int) -> list[Params]:
        return []

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        """That of the best other template: it was slower when measured."""
        others = [other for other in templates_for(fusion.anchor) if other is not self and other.accepts(fusion, target)]
        return min(other.cost(fusion, target, choice) for other in others for choice in other.candidates(fusion, target, 1))

    def pack(self, fusion: Fusion, target: Target, params: Params) -> dict[Value, np.ndarray]:
        return packed(fusion, target)

    def emit(self, k: KernelBuilder) -> None:
        func = lowered(scheduled(define(k.fusion, k.target), k.params["trace"]))
        k.b.team = 1  # its loops launch threads by themselves
        given = [*(k.args[v] for v in k.fusion.op.body.inputs), k.out]
        for buffer, own in zip(func.params, given, strict=True):
            k.b.emit(tirx.DeclBuffer(buffer, data=own.raw.data))
        k.b.emit(workspaces(func.body))


def scheduled(definition: Any, trace: str) -> Any:
    """The definition with a trace (JSON) applied; TVM changes it in place. Raises TVM's errors where the trace does not fit."""
    schedule = Schedule(module(definition))
    Trace.apply_json_to_schedule(json.loads(trace), schedule)
    return schedule.mod["main"]


def module(definition: Any) -> Any:
    """The module that is searched and scheduled: one function, `main`."""
    return tvm.IRModule({"main": definition.with_attr("global_symbol", "main").with_attr("tirx.noalias", True)})


def lowered(func: Any) -> Any:
    """Blocks gone and buffers flat, as our own kernels are from the start: buffers between stages are as small as their loops allow."""
    passes = [
        s_tir.transform.CanonicalizeLoop(),
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.CompactBufferAllocation(),
        s_tir.transform.LowerMatchBuffer(),
        s_tir.transform.StmtSimplify(),
        s_tir.transform.LowerOpaqueBlock(),
        tirx.transform.FlattenBuffer(),
    ]
    return tvm.transform.Sequential(passes)(tvm.IRModule({"main": func}))["main"]


def workspaces(stmt: Any) -> Any:
    """Allocate large arrays between stages as workspace of the TVM runtime, for their lifetime.

    TVM does so by itself only in functions with a known device, which a kernel called with raw pointers does not have.
    """
    if isinstance(stmt, tirx.SeqStmt):
        body, ends = [], []
        for part in stmt.seq:
            if isinstance(part, tirx.AllocBuffer) and (size := nbytes(part.buffer)) >= STACK:
                bits = tirx.IntImm("int32", 32)
                given = (tirx.IntImm("int32", CPU), tirx.IntImm("int32", 0), tirx.IntImm("uint64", size), tirx.IntImm("int32", FLOAT), bits)
                pointer = PointerType(PrimType(part.buffer.dtype), "global")
                data = tir_ir.Call(tir_ir.Op.get("tirx.TVMBackendAllocWorkspace"), given, ret_ty=pointer)
                body.append(tirx.DeclBuffer(part.buffer, data=data))
                ends.append(tirx.Evaluate(tirx.TVMBackendFreeWorkspace(CPU, 0, part.buffer.data)))
            else:
                body.append(workspaces(part))
        return sequence([*body, *ends])
    if isinstance(stmt, tirx.For):
        return tirx.For(stmt.loop_var, stmt.min, stmt.extent, stmt.kind, workspaces(stmt.body), stmt.thread_binding, stmt.annotations, stmt.step)
    if isinstance(stmt, tirx.AttrStmt):
        return tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, workspaces(stmt.body))
    if isinstance(stmt, tirx.IfThenElse):
        other = None if stmt.else_case is None else workspaces(stmt.else_case)
        return tirx.IfThenElse(stmt.condition, workspaces(stmt.then_case), other)
    return stmt


def nbytes(buffer: Any) -> int:
    return math.prod(int(n) for n in buffer.shape) * 4
