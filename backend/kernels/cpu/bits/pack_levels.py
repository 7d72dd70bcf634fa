"""Maps of floats, or of integers in bytes, as packed bits."""

from __future__ import annotations

from tvm import tirx as t

from ....codegen.builder import Expr, const
from ....codegen.kernel_builder import KernelBuilder
from ....codegen.vector_math import cast
from ....target import Target
from ....tile.bits import WORD, PackLevels
from ....tile.fusion import Fusion
from ....tile.ops import block
from ...template import Params, Template, kernel
from ..window import tasks
from .masks import joined, mask


def stored(k: KernelBuilder, x: Expr, lanes: int) -> Expr:
    """The integers that are packed, as i32 lanes."""
    op, b = k.anchor, k.b
    x = b.value(x)
    if not op.bits:
        return t.Select(x < const(0.0, "float32", lanes), const(0, "int32", lanes), const(1, "int32", lanes))
    if op.x.type.elem == "u8":
        return cast(x, "int32")
    # a NaN is not above 0
    positive = b.value(t.Select(x > const(0.0, "float32", lanes), x, const(0.0, "float32", lanes)))
    most = const(1.0, "float32", lanes)
    clipped = t.Select(positive < most, positive, most) * const(float((1 << op.bits) - 1), "float32", lanes)
    return cast(k.math.rint(b.value(clipped)), "int32")


@kernel(PackLevels)
class PackBlocked(Template):
    """Blocked maps: lanes are channels, and a comparison of each vector gives its bits of a word. Loops: (image, row) > pixel > word."""

    name = "pack_blocked"
    strided_batch = True

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        layout = fusion.anchor.operands[0].type.layout
        return layout is not None and block(layout) % target.lanes == 0 and not fusion.epilogue

    def cost(self, fusion: Fusion, target: Target, params: Params) -> float:
        return float(fusion.anchor.operands[0].type.size) / target.lanes

    def emit(self, k: KernelBuilder) -> None:
        b, op, lanes = k.b, k.anchor, k.target.lanes
        n, blocks, h, w, size = op.x.shape
        planes, words, c = op.out.shape[1], op.out.shape[4], op.x.type.layout.channels
        rows = k.fusion.map_rows(op.x)
        with b.loop("task", 0, n * h, tasks(k.threads, n * h)) as task:
            image, y = b.let("image", t.floordiv(task, h)), b.let("y", t.floormod(task, h))
            for first, last, live in ((0, c // WORD, WORD), (c // WORD, words, c % WORD)):
                if first == last:
                    continue
                with b.loop("word", first, last) as number, b.loop("ox", 0, w) as ox:
                    masks: list[list[Expr]] = [[] for _ in range(planes)]
                    for vector in range(-(-live // lanes)):
                        channel = b.let("channel", number * WORD + vector * lanes)
                        plane = image * blocks + t.floordiv(channel, size)
                        at = rows.at(plane, y) + ox * size + t.floormod(channel, size)
                        value = b.value(stored(k, b.load(k.args[op.x], at, lanes), lanes))
                        for m, own in enumerate(masks):
                            bit = value if planes == 1 else t.bitwise_and(value, const(1 << m, "int32", lanes))
                            own.append(mask(b, bit, lanes))
                    for m, own in enumerate(masks):
                        result = joined(own, lanes)
                        if live < WORD:
                            result = t.bitwise_and(result, t.const((1 << live) - 1, "int32"))
                        b.store(k.out, (((image * planes + m) * h + y) * w + ox) * words + number, result)


@kernel(PackLevels)
class PackPlain(Template):
    """Plain maps: lanes are pixels, and channels are the bits of a word, one after the other. Loops: image > vector of pixels > word > channel."""

    name = "pack_plain"

    def accepts(self, fusion: Fusion, target: Target) -> bool:
        return fusion.anchor.operands[0].type.layout is None and not fusion.epilogue

    def emit(self, k: KernelBuilder) -> None:
        b, op = k.b, k.anchor
        n, c, h, w = op.x.shape
        planes, words, pixels = op.out.shape[1], op.out.shape[4], h * w
        with b.loop("image", 0, n, tasks(k.threads, n)) as image, b.loop("word", 0, words) as number:
            whole = pixels // k.target.lanes * k.target.lanes
            for start, stop, lanes in ((0, whole, k.target.lanes), (whole, pixels, 1)):
                with b.loop("p", 0, (stop - start) // lanes) as p:
                    at = b.let("at", start + p * lanes)
                    accs = [b.local(lanes, "int32") for _ in range(planes)]
                    for acc in accs:
                        b.store(acc, 0, const(0, "int32", lanes), lanes)
                    with b.loop("channel", 0, t.min(c - number * WORD, WORD)) as channel:
                        x = b.load(k.args[op.x], (image * c + number * WORD + channel) * pixels + at, lanes)
                        value = b.value(stored(k, x, lanes))
                        for m, acc in enumerate(accs):
                            bit = t.bitwise_and(t.shift_right(value, const(m, "int32", lanes)), const(1, "int32", lanes))
                            place = t.Broadcast(channel, lanes) if lanes > 1 else channel
                            b.store(acc, 0, t.bitwise_or(b.load(acc, 0, lanes), t.shift_left(bit, place)), lanes)
                    for m, acc in enumerate(accs):
                        to = ((image * planes + m) * pixels + at) * words + number
                        b.store_strided(k.out, to, words, b.load(acc, 0, lanes), lanes)
