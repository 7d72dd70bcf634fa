"""Maxima of packed integers, 32 channels at once: the highest bit of a maximum is set where any is; then only elements with that bit remain.

y_m = or over the taps of (x_m and alive),   alive = and over planes p > m of (x_p or not y_p)
"""

from __future__ import annotations

from tvm import tirx as t

from ....codegen.builder import Buffer
from ....codegen.kernel_builder import KernelBuilder
from ....target import Target
from ....tile.bits import BitMaxPool2d
from ....tile.fusion import Fusion
from ...template import Template, kernel
from ..window import span, tasks


@kernel(BitMaxPool2d)
class BitMaxPool(Template):
    """Loops: (image, row) > pixel > word > plane, the highest first > tap."""

    name = "bit_max_pool"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return not fusion.epilogue

    def emit(self, k: KernelBuilder) -> None:
        b, op, x = k.b, k.anchor, k.args[k.anchor.x]
        n, planes, h, w, words = op.x.shape
        oh, ow = op.pixels
        ones = t.const(-1, "int32")
        with b.loop("task", 0, n * oh, tasks(k.threads, n * oh)) as task:
            image, oy = b.let("image", t.floordiv(task, oh)), b.let("oy", t.floormod(task, oh))
            top = b.let("top", oy * op.stride[0] - op.padding[0])
            r0, r1 = span(b, top, op.kernel[0], 1, h, True, True)
            with b.loop("ox", 0, ow) as ox:
                left = b.let("left", ox * op.stride[1] - op.padding[2])
                s0, s1 = span(b, left, op.kernel[1], 1, w, True, True)
                with b.loop("word", 0, words) as number:
                    found: dict[int, Buffer] = {}
                    for m in reversed(range(planes)):
                        acc = b.local(1, "int32")
                        b.store(acc, 0, t.const(0, "int32"))
                        with b.loop("r", 0, r1 - r0) as r, b.loop("s", 0, s1 - s0) as s:
                            pixel = b.let("pixel", (top + r0 + r) * w + left + s0 + s)
                            value = b.load(x, ((image * planes + m) * h * w + pixel) * words + number)
                            for p, high in found.items():
                                own = b.load(x, ((image * planes + p) * h * w + pixel) * words + number)
                                value = t.bitwise_and(value, t.bitwise_or(own, t.bitwise_xor(b.load(high, 0), ones)))
                            b.store(acc, 0, t.bitwise_or(b.load(acc, 0), value))
                        found[m] = acc
                    for m, acc in found.items():
                        b.store(k.out, (((image * planes + m) * oh + oy) * ow + ox) * words + number, b.load(acc, 0))
