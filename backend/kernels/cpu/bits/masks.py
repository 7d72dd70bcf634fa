"""Bits of vectors: one bit for each lane that is not 0, and words of 32 of them."""

from __future__ import annotations

from tvm import tirx as t

from ....codegen.builder import Buffer, Builder, Expr

#: One bit of each lane, the first in the lowest place; each target has an instruction or two for it.
_MASK = """
define linkonce_odr i32 @tersor_mask_{lanes}(ptr %p) alwaysinline nounwind {{
  %v = load <{lanes} x i32>, ptr %p, align 4
  %c = icmp ne <{lanes} x i32> %v, zeroinitializer
  %m = bitcast <{lanes} x i1> %c to i{lanes}
  %z = zext i{lanes} %m to i32
  ret i32 %z
}}
"""


def mask(b: Builder, value: Expr, lanes: int) -> Expr:
    """An i32 whose bit i says whether lane i of an i32 vector is not 0."""
    slot = b.local(lanes, "int32")
    b.store(slot, 0, value, lanes)
    return b.let("mask", b.call_llvm("int32", f"tersor_mask_{lanes}", _MASK.format(lanes=lanes), slot, 0))


def joined(masks: list[Expr], lanes: int) -> Expr:
    """Masks of neighbouring vectors as one word."""
    word = masks[0]
    for i, m in enumerate(masks[1:], 1):
        word = t.bitwise_or(word, t.shift_left(m, t.const(i * lanes, "int32")))
    return word


def word(b: Builder, buffer: Buffer, at: Expr) -> Expr:
    """A word as an unsigned number."""
    return t.reinterpret("uint32", b.load(buffer, at))
