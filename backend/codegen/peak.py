"""A kernel that does nothing but multiply-adds in registers: what `profile` holds other kernels against."""

from __future__ import annotations

from typing import Any

from tvm import ir as tir_ir
from tvm import tirx as t

from ..runtime.artifact import Peak
from ..target import Target
from ..tile.fusion import ALIGN
from .builder import Builder, ramp
from .calls import call, callee, symbol_of

FUNCTION = "peak_fma"
UNROLL = 8


def peak_functions(target: Target) -> tuple[dict[Any, Any], Peak]:
    """`peak_fma(out, rounds)`: each round updates acc = acc * x + y on as many accumulators as registers allow, 8 times."""
    chains, lanes = target.registers - 4, target.lanes
    size = (chains + 2) * lanes
    b = Builder("peak_kernel")
    out = b.param("out", "float32", size)
    rounds = t.Var("rounds", "int32")
    b.params.append(rounds)
    accumulators = [b.local(lanes) for _ in range(chains)]
    for i, acc in enumerate(accumulators):
        b.store(acc, 0, b.load(out, i * lanes, lanes), lanes)
    x, y = (b.let(name, b.load(out, (chains + i) * lanes, lanes)) for i, name in enumerate("xy"))
    with b.loop("round", 0, rounds):
        for _ in range(UNROLL):
            for acc in accumulators:
                b.store(acc, 0, b.load(acc, 0, lanes) * x + y, lanes)
    for i, acc in enumerate(accumulators):
        b.emit(t.BufferStore(out.raw, b.load(acc, 0, lanes), [ramp(i * lanes, lanes)]))
    kernel = tir_ir.GlobalVar(b.name)
    port = t.decl_buffer((size,), "float32", "values", data_alignment=ALIGN)
    function = callee(b.function())
    main = t.PrimFunc([port, rounds], call(symbol_of(function), [port.data, rounds])).with_attr("global_symbol", FUNCTION).with_attr("s_tir", True)
    return {kernel: function, tir_ir.GlobalVar(FUNCTION): main}, Peak(FUNCTION, 2 * UNROLL * chains * lanes, size)
