"""The builder of TensorIR: what LLVM makes of its loops."""

from __future__ import annotations

import pytest
import tvm
from tvm import ir, tirx

from tersor.backend.target import resolve
from tersor.backend.tir import Builder


def assembly(kind: str, target: str) -> str:
    """`x[i] = sqrt(x[i])` of 64 scalars."""
    b = Builder("kernel")
    x = b.param("x", "float32", 64)
    with b.loop("i", 0, 64, kind) as i:
        b.store(x, i * 1, tirx.sqrt(b.load(x, i * 1)))
    port, kernel = tirx.decl_buffer((64,), "float32", "x"), ir.GlobalVar("kernel")
    call = tirx.Evaluate(ir.Call(kernel, [port.data], ret_ty=ir.PrimType("int32")))
    main = tirx.PrimFunc([port], call).with_attr("global_symbol", "main").with_attr("s_tir", True)
    module = tvm.IRModule({kernel: b.function(), ir.GlobalVar("main"): main})
    return str(tvm.compile(module, target=resolve(target).tvm(1)).mod.inspect_source("asm"))


@pytest.mark.parametrize("target", ["cpu:znver4", "cpu:x86-64-v2", "arm64:cortex-a72"])
def test_a_rolled_loop_has_one_copy_of_its_body(target: str) -> None:
    many, one = (assembly(kind, target) for kind in ("serial", "rolled"))
    assert many.count("sqrt") > 1
    assert one.count("sqrt") == 1 and "tersor_rolled" not in one


def test_a_rolled_loop_of_nothing_is_nothing() -> None:
    b = Builder("kernel")
    with b.loop("i", 0, 64, "rolled"):
        pass
    assert "tersor_rolled" not in str(b.function())
