"""A kernel that only does multiply-adds in registers: the peak that `profile` compares kernels with. `peak_of` makes one for other arithmetics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import ir as tir_ir
from tvm import tirx as t

from ..runtime.artifact import Peak
from ..target import Target
from ..tile.fusion import ALIGN
from .builder import Buffer, Builder, ramp
from .calls import call, callee, symbol_of

FUNCTION = "peak_fma"
UNROLL = 8


def peak_functions(target: Target) -> tuple[dict[Any, Any], Peak]:
    """`peak_fma(out, rounds)`: each round updates acc = acc * x + y on as many accumulators as registers allow, 8 times.

    NEON's multiply-add adds to its destination, so there it is acc = acc + x * y; as an intrinsic, since LLVM moves x * y out of the loop.
    """
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
                if target.by_element:
                    b.store(acc, 0, t.call_llvm_pure_intrin(f"float32x{lanes}", "llvm.fma", x, y, b.load(acc, 0, lanes)), lanes)
                else:
                    b.store(acc, 0, b.load(acc, 0, lanes) * x + y, lanes)
    for i, acc in enumerate(accumulators):
        b.emit(t.BufferStore(out.raw, b.load(acc, 0, lanes), [ramp(i * lanes, lanes)]))
    return peak_of(b, FUNCTION, [out], rounds, 2 * UNROLL * chains * lanes)


def peak_of(b: Builder, name: str, buffers: Sequence[Buffer], rounds: Any, operations: int) -> tuple[dict[Any, Any], Peak]:
    """The kernel in `b` as the function `name(buffer, rounds)`; its buffers share the one buffer. operations: of each round."""
    places, size = [], 0
    for buffer in buffers:
        places.append(size)
        nbytes = int(buffer.raw.shape[0]) * np.dtype(buffer.dtype).itemsize
        size += -(-nbytes // ALIGN) * ALIGN
    kernel, size = tir_ir.GlobalVar(b.name), size // 4
    port = t.decl_buffer((size,), "float32", "values", data_alignment=ALIGN)
    pointers = [t.handle_add_byte_offset(port.data, place) if place else port.data for place in places]
    function = callee(b.function())
    main = t.PrimFunc([port, rounds], call(symbol_of(function), [*pointers, rounds])).with_attr("global_symbol", name).with_attr("s_tir", True)
    return {kernel: function, tir_ir.GlobalVar(name): main}, Peak(name, operations, size)
