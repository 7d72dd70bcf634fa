"""A team: the threads of one call, launched once. One parallel region runs all kernels, with a barrier after each phase.

TVM's launch hands a kernel to each thread and waits until all are done; a barrier only reads one cache line per other thread. A phase is a
function of the thread's number (`Builder.function`), so the same kernels can also be launched phase by phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import ir as tir_ir
from tvm import tirx as t
from tvm.ir import PointerType, PrimType

from ..target import Target
from .builder import const, int32
from .calls import call as call_symbol
from .phases import sequence

#: Bytes between the counters of two threads: they share no cache line, and no pair of lines that the hardware fetches together.
COUNTER_STRIDE = 128
#: Spins before `sched_yield`.
SPINS = 2048

_PAUSE = {"x86_64": "pause", "aarch64": "yield"}

#: Atomics that TensorIR cannot express. `arrive` increments the thread's own counter (release). `wait` returns 1 if another counter stayed behind
#: the thread's own in every spin (acquire).
_ATOMICS = """
define i32 @tersor_arrive(ptr %counters, i32 %me) {{
  %place = mul i32 %me, {stride}
  %mine = getelementptr i8, ptr %counters, i32 %place
  %before = load atomic i32, ptr %mine monotonic, align 4
  %now = add i32 %before, 1
  store atomic i32 %now, ptr %mine release, align 4
  ret i32 %now
}}

define i32 @tersor_wait(ptr %counters, i32 %now, i32 %threads) {{
entry:
  br label %look
look:
  %other = phi i32 [ 0, %entry ], [ %other, %wait ], [ %next, %there ]
  %looks = phi i32 [ 0, %entry ], [ %more, %wait ], [ %looks, %there ]
  %place = mul i32 %other, {stride}
  %theirs = getelementptr i8, ptr %counters, i32 %place
  %count = load atomic i32, ptr %theirs acquire, align 4
  %ahead = sub i32 %count, %now
  %behind = icmp slt i32 %ahead, 0
  br i1 %behind, label %wait, label %there
wait:
  call void asm sideeffect "{pause}", "~{{memory}}"()
  %more = add i32 %looks, 1
  %enough = icmp eq i32 %more, {looks}
  br i1 %enough, label %done, label %look
there:
  %next = add i32 %other, 1
  %all = icmp eq i32 %next, %threads
  br i1 %all, label %done, label %look
done:
  %result = phi i32 [ 1, %wait ], [ 0, %there ]
  ret i32 %result
}}
"""


@dataclass(frozen=True)
class Call:
    """A kernel's symbol and pointers. phases: their number; None for a kernel that launches threads by itself."""

    symbol: str
    pointers: Sequence[Any]
    phases: int | None


def counters_size(threads: int) -> int:
    """Bytes of the counters of a team."""
    return COUNTER_STRIDE * threads if threads > 1 else 0


def barrier(target: Target, threads: int) -> Any:
    """The function `barrier(counters, me)`: returns when all threads have called it."""
    counters, me = t.Var("counters", PointerType(PrimType("uint8"), "global")), t.Var("me", "int32")
    now = t.Var("now", "int32")
    waiting = t.call_extern("int32", "tersor_wait", counters, now, int32(threads))
    body = [
        t.Bind(now, t.call_extern("int32", "tersor_arrive", counters, me)),
        t.While(waiting != 0, t.Evaluate(t.call_extern("int32", "sched_yield"))),
        t.Return(int32(0)),
    ]
    code = _ATOMICS.format(stride=COUNTER_STRIDE, looks=SPINS, pause=_PAUSE[target.triple.partition("-")[0]])
    body = t.AttrStmt(int32(0), "pragma_import_llvm", tir_ir.StringImm(code), sequence(body))
    return t.PrimFunc([counters, me], body, PrimType("int32")).with_attr("s_tir", True)


def launch_each(calls: Sequence[Call], inside: Sequence[Any], threads: int) -> Any:
    """The statement that runs the calls that are `inside`: each phase is launched, and waited for."""
    body = []
    for call, now in zip(calls, inside):
        if call.phases is None or threads == 1:
            body.append(t.IfThenElse(now, _run(call), None))
            continue
        phase, worker = t.Var("phase", "int32"), t.Var("worker", "int32")
        launch = t.For(worker, int32(0), int32(threads), t.ForKind.PARALLEL, _run(call, phase, worker))
        body.append(t.IfThenElse(now, t.For(phase, int32(0), int32(call.phases), t.ForKind.SERIAL, launch), None))
    return sequence(body or [t.Evaluate(0)])


def launch_once(calls: Sequence[Call], inside: Sequence[Any], threads: int, barrier: str, arena: Any, offset: int) -> Any:
    """The same with one launch, and a barrier after each phase. All threads must take part, or the others wait forever.

    barrier: the symbol of the function `barrier`; its counters lie in the arena, a buffer of bytes, at an offset.
    """
    worker, byte = t.Var("worker", "int32"), t.Var("byte", "int32")
    wait = _run(Call(barrier, [t.handle_add_byte_offset(arena.data, offset), worker], None))
    body = []
    for call, now in zip(calls, inside):
        phase = t.Var("phase", "int32")
        each = t.For(phase, int32(0), int32(call.phases), t.ForKind.SERIAL, sequence([_run(call, phase, worker), wait]))
        body.append(t.IfThenElse(now, each, None))
    reset = t.BufferStore(arena, const(0, "uint8"), [byte + offset])
    return sequence(
        [
            t.For(byte, int32(0), int32(counters_size(threads)), t.ForKind.SERIAL, reset),
            t.For(worker, int32(0), int32(threads), t.ForKind.PARALLEL, sequence(body)),
        ]
    )


def _run(call: Call, *where: Any) -> Any:
    return call_symbol(call.symbol, [*call.pointers, *where])
