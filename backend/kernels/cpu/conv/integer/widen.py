"""Bytes of a chunk of pixels as i16 in scratch, of which each thread has a part: [input block][pixel][channel].

Where no instruction multiplies bytes, a pair of channels is then one broadcast from memory; bytes have to be taken apart for each register tile.
"""

from __future__ import annotations

from tvm import tirx as t

from .....codegen.builder import Buffer, Expr
from .....codegen.kernel_builder import KernelBuilder
from .....target import Target
from ...arithmetic.integers import arithmetic_named, fitting_pairs
from ...window import Window

#: Bytes of an i16.
WIDE = 2


def widening(target: Target, names: list[str]) -> list[str]:
    """Arithmetics of i16 that are faster than those of bytes that fit a layer, of which the fastest comes first."""
    bytewise = arithmetic_named(names[0])
    pairs = fitting_pairs(target)[:1]
    return [name for name in pairs if arithmetic_named(name).dword_cycles < bytewise.dword_cycles]


def widened(g: Window, chunk: int) -> int:
    """Elements of a thread's part."""
    return g.in_blocks * chunk * g.block_in


def widen(k: KernelBuilder, g: Window, to: Buffer, at: Expr, image: Expr, first: Expr, count: Expr, chunk: int) -> None:
    """Pixels `first` to before `first + count` of an image, to element `at` on."""
    b, block, (stride, plane) = k.b, g.block_in, k.fusion.map_rows(k.anchor.x).cut(1)
    with b.loop("kb", 0, g.in_blocks) as kb:
        source, place = b.let("source", image * stride + kb * plane + first * block), b.let("place", at + kb * (chunk * block))
        with b.loop("pixel", 0, count) as pixel:
            value = b.load(k.args[k.anchor.x], source + pixel * block, block)
            b.store(to, place + pixel * block, t.Cast(f"int16x{block}", value), block)
