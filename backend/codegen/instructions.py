"""Instructions for which TensorIR and LLVM's intrinsics do not do: functions in LLVM IR around inline assembly, inlined where they are called."""

from __future__ import annotations

from .builder import Builder, Expr, lanes_of

#: No instruction: a value that LLVM takes for another one.
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
    """A vector of i32 whose origin LLVM does not see. register: the constraint of the target's vector registers, `v` on x86.

    A sum that goes through this at every step stays a sum step by step. LLVM would add the terms of several steps to each other first, which takes
    more registers than there are: a register tile of 5 x 2 on AVX2 is slower by a tenth and more.
    """
    lanes = lanes_of(value)
    name = f"tersor_opaque_{lanes}"
    return b.call_function(f"int32x{lanes}", name, _OPAQUE.format(kind=f"<{lanes} x i32>", name=name, register=register), value)


def vpdpwssd(b: Builder, acc: Expr, x: Expr, w: Expr) -> Expr:
    """acc and the products of neighbouring i16, added in pairs into i32. LLVM 22 makes two instructions of most calls of its own intrinsic."""
    lanes = lanes_of(acc)
    name = f"tersor_vpdpwssd_{lanes}"
    code = _VPDPWSSD.format(name=name, kind=f"<{lanes} x i32>", halves=f"<{2 * lanes} x i16>")
    return b.call_function(f"int32x{lanes}", name, code, acc, x, w)
