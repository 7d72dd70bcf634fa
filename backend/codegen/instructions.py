"""Instructions that TensorIR or LLVM's intrinsics cannot express well: functions in LLVM IR around inline assembly, inlined where they are called."""

from __future__ import annotations

from .builder import Builder, Expr, lanes_of

#: No instruction: LLVM treats the result as a new value.
_OPAQUE = """
define linkonce_odr {kind} @{name}({kind} %x) alwaysinline nounwind {{
  %y = call {kind} asm "", "={register},0"({kind} %x)
  ret {kind} %y
}}
"""

_VPDPWSSD = """
define linkonce_odr {kind} @{name}({kind} %acc, {halves} %x, {halves} %w) alwaysinline nounwind {{
  %y = call {kind} asm "vpdpwssd $3, $2, $0", "=v,0,v,v"({kind} %acc, {halves} %x, {halves} %w)
  ret {kind} %y
}}
"""


def opaque(b: Builder, value: Expr, register: str) -> Expr:
    """A vector of i32 whose computation LLVM does not see. register: the constraint of the target's vector registers, `v` on x86.

    A sum that goes through this at every step keeps its order of additions. LLVM would otherwise reassociate it and first add the terms of several
    steps, which needs more registers than there are.
    """
    lanes = lanes_of(value)
    name = f"tersor_opaque_{lanes}"
    return b.call_function(f"int32x{lanes}", name, _OPAQUE.format(kind=f"<{lanes} x i32>", name=name, register=register), value)


def vpdpwssd(b: Builder, acc: Expr, x: Expr, w: Expr) -> Expr:
    """acc plus the products of neighbouring i16, added in pairs into i32. LLVM 22 turns most calls of its own intrinsic into two instructions."""
    lanes = lanes_of(acc)
    name = f"tersor_vpdpwssd_{lanes}"
    code = _VPDPWSSD.format(name=name, kind=f"<{lanes} x i32>", halves=f"<{2 * lanes} x i16>")
    return b.call_function(f"int32x{lanes}", name, code, acc, x, w)
