"""The rounding epilogue of integer kernels on blocked maps: consecutive accumulators are rounded together and stored as one vector of bytes.

Four vectors of i32 become one of bytes by saturating packs, which clamp to 0 .. 255:

    q = rint(real) as i32;  bytes = packuswb(packssdw(q0, q1) + Z, packssdw(q2, q3) + Z);  min(max(bytes, low), high)

The sum is left out where Z is 0, and the last clamp where it is 0 .. 255 (`ByteRange`), as mostly after a ReLU. This is exact where no real value
leaves i32, which `packs` proves from the multipliers. Any other epilogue runs vector by vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import tirx as t

from ....ir.op import Value
from ...codegen.builder import Expr, splat
from ...codegen.kernel_builder import KernelBuilder
from ...codegen.shuffles import shuffle
from ...target import Target
from ...tile.fusion import Fusion
from ...tile.integer import RoundedReal, byte_range
from .arithmetic.base import x86

#: Bound on real values, so that they fit i32 when rounded.
REAL = 2.0**30
#: Bound on integers of an element type minus their zero point.
SIZE = {"u8": 2.0**9, "i8": 2.0**9, "i32": 2.0**31}
#: Vectors that are packed into one.
PACKED = 4


def packs(fusion: Fusion, target: Target) -> bool:
    """Whether results can be rounded by packs: on x86 with AVX2 or AVX-512, u8, and for the values of the multipliers."""
    last = fusion.epilogue[-1] if fusion.epilogue else None
    if not isinstance(last, RoundedReal) or last.to != "u8" or fusion.lane_offset > 0:
        return False
    most = sum(_most(fusion, m) * SIZE.get(str(v.type.elem), np.inf) for v, m in last.terms)
    wide = target.lanes == 16 and "avx512bw" in target.features
    return x86(target) and bool(most <= REAL) and (wide or target.lanes == 8)


def _most(fusion: Fusion, multiplier: Value) -> float:
    """The largest magnitude of a multiplier; infinity where it is not constant."""
    array = fusion.array(multiplier)
    return np.inf if array is None else float(np.abs(array).max())


def finish(k: KernelBuilder, values: Sequence[Expr], offset: Expr, channel: Expr, image: Expr, packed: bool) -> None:
    """The epilogue on accumulators whose results are consecutive from `offset` on, where a channel block begins.

    packed: whether `packs` holds, which is part of a kernel's parameters.
    """
    lanes, block = k.target.lanes, k.fusion.out.shape[-1]
    places = [(offset + i * lanes, channel + i * lanes % block, image, lanes) for i in range(len(values))]
    if not packed:
        for value, place in zip(values, places):
            k.finish(value, *place)
        return
    reals = [k.unrounded(value, *place) for value, place in zip(values, places)]
    for i in range(0, len(reals), PACKED):
        _store(k, reals[i : i + PACKED], offset + i * lanes)


def _store(k: KernelBuilder, reals: list[Expr], offset: Expr) -> None:
    """Up to four vectors of f32."""
    b, lanes, op = k.b, k.target.lanes, k.fusion.epilogue[-1]
    integers = [b.value(_nearest(real, lanes)) for real in reals]
    padded = (integers + [integers[-1]] * PACKED)[:PACKED]
    zero: Any = b.load(k.args[op.zero], 0)  # type: ignore[attr-defined]
    halves = [padded[:2], padded[2:]] if len(reals) > 2 else [padded[:2]] * 2
    words = [_packssdw(half[0], half[1], lanes) for half in halves]
    known = byte_range(op, k.fusion.array)
    if not known.zero_point_0:
        words = [_plus(word, splat(t.Cast("int16", zero), 2 * lanes), lanes) for word in words]
    # each 128 bits of the packs hold four lanes of all four vectors
    parts = lanes // 4
    order = [i // parts + PACKED * (i % parts) for i in range(lanes)]
    value = t.reinterpret(f"int32x{lanes}", _packuswb(words[0], words[1], lanes))
    value = b.value(t.reinterpret(f"uint8x{4 * lanes}", shuffle([b.value(value)], order)))
    if not known.full:
        low, high = (splat(t.Cast("uint8", t.Cast("int32", b.load(k.args[v], 0)) + zero), 4 * lanes) for v in (op.least, op.most))  # type: ignore[attr-defined]
        value = b.value(t.Min(t.Max(value, low), high))
    if len(reals) == PACKED:
        b.store(k.out, offset, value, 4 * lanes)
        return
    at = 0
    for count in (2, 1):
        if len(reals) & count:
            part = shuffle([value], [*range(at * lanes, (at + count) * lanes)])
            b.store(k.out, offset + at * lanes, part, count * lanes)
            at += count


def _nearest(real: Expr, lanes: int) -> Expr:
    """rint to i32, halves to even: cvtps2dq."""
    return t.call_llvm_pure_intrin(f"int32x{lanes}", f"llvm.lrint.v{lanes}i32.v{lanes}f32", real)


def _packssdw(a: Expr, b: Expr, lanes: int) -> Expr:
    name = {8: "avx2.packssdw", 16: "avx512.packssdw.512"}[lanes]
    return t.call_llvm_pure_intrin(f"int16x{2 * lanes}", f"llvm.x86.{name}", a, b)


def _packuswb(a: Expr, b: Expr, lanes: int) -> Expr:
    name = {8: "avx2.packuswb", 16: "avx512.packuswb.512"}[lanes]
    return t.call_llvm_pure_intrin(f"uint8x{4 * lanes}", f"llvm.x86.{name}", a, b)


def _plus(a: Expr, b: Expr, lanes: int) -> Expr:
    """The sum of i16, saturated."""
    return t.call_llvm_pure_intrin(f"int16x{2 * lanes}", "llvm.sadd.sat", a, b)
