"""The builder of TensorIR: what LLVM makes of its loops."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import tvm
from tvm import ir, tirx

from tersor.backend.codegen.builder import Buffer, Builder
from tersor.backend.target import resolve


def assembly(write: Callable[[Builder, Buffer], None], target: str) -> str:
    """What becomes of a kernel of 64 floats."""
    b = Builder("kernel")
    write(b, b.param("x", "float32", 64))
    port, kernel = tirx.decl_buffer((64,), "float32", "x"), ir.GlobalVar("kernel")
    call = tirx.Evaluate(ir.Call(kernel, [port.data], ret_ty=ir.PrimType("int32")))
    main = tirx.PrimFunc([port], call).with_attr("global_symbol", "main").with_attr("s_tir", True)
    module = tvm.IRModule({kernel: b.function(), ir.GlobalVar("main"): main})
    return str(tvm.compile(module, target=resolve(target).tvm(1)).mod.inspect_source("asm"))


@pytest.mark.parametrize("target", ["cpu:znver4", "cpu:x86-64-v2", "arm64:cortex-a72"])
def test_a_rolled_loop_has_one_copy_of_its_body(target: str) -> None:
    def roots(b: Builder, x: Buffer, kind: str) -> None:
        with b.loop("i", 0, 64, kind) as i:
            b.store(x, i * 1, tirx.sqrt(b.load(x, i * 1)))

    many, one = (assembly(partial(roots, kind=kind), target) for kind in ("serial", "rolled"))
    assert many.count("sqrt") > 1
    assert one.count("sqrt") == 1 and "tersor_rolled" not in one


def test_a_rolled_loop_of_nothing_is_nothing() -> None:
    b = Builder("kernel")
    with b.loop("i", 0, 64, "rolled"):
        pass
    assert "tersor_rolled" not in str(b.function())


@pytest.mark.parametrize("target, names", [("cpu:znver4", ("prefetcht0", "prefetcht1")), ("arm64:cortex-a72", ("pldl1keep", "pldl2keep"))])
def test_what_is_read_later_is_asked_for_into_the_second_level_cache(target: str, names: tuple[str, str]) -> None:
    for locality, name in zip(("L1", "L2"), names):
        text = assembly(lambda b, x, locality=locality: b.prefetch(x, 16, locality=locality), target)
        assert [n in text for n in names] == [n == name for n in names]
