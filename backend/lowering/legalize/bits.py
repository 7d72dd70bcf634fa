"""Networks of few bits: operators on `!bits.affine` become operators on packed words, or on bytes where the byte kernels are faster.

    bits.conv2d(x, w)               =>   bit_conv2d(pack_levels(x), words)             few products of bits: `in_words`
                                    =>   int_conv2d(u8 levels, i8 levels)              else
    bits.threshold(bits.conv2d)     =>   bit_conv2d_threshold, or int_conv2d -> levels
    bits.weight_conv2d(x, w)        =>   bit_weight_conv2d(x, words)
    quant.dequantize(acc)           =>   to_float(acc, scale)

A value is made in each form that its readers need. After this stage there is no `!bits.affine`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ....ir.errors import UnsupportedError
from ....ir.graph import Graph, remapped, unattached
from ....ir.op import Const, Op, Value
from ....ir.ops import BitsConv2d, BitsWeightConv2d, Cast, Dequantize, MaxPool2d, Mul, Sign, SignBit, Threshold, ToLevels
from ....ir.ops.bits_layers import SIGNS, levels_of
from ....ir.types import BitsAffine
from ...target import Target
from ...tile.bits import BitConv2d, BitConv2dThreshold, BitMaxPool2d, Levels, PackLevels, WeightConv2d, pack_words
from ...tile.integer import IntConv2d, Rescale, ToFloat

#: Memory form of a tensor of few bits: packed words of bits, or a byte for each integer.
Form = Literal["words", "bytes"]
#: Most bit products per pair of channels (bits of x times bits of w) for which words are faster than bytes.
PRODUCTS = 4


def in_words(op: BitsConv2d) -> bool:
    """Whether a convolution works on words: its weights have odd levels, and it has few bit products."""
    x, w = levels_of(op, "x"), levels_of(op, "w")
    odd = w.step == 2 and w.first == -w.last
    return odd and (x.step == 2 or x.first == 0) and x.bits * w.bits <= PRODUCTS


def pack_bits(graph: Graph, target: Target) -> Graph:
    """The graph without `!bits.affine` and its operators; itself where it has none. Raises `UnsupportedError` for what has no packed form."""
    if not any(few_bits(v) or op.few_bits for op in graph.ops for v in op.outs):
        return graph
    return _Packing(graph).run()


def few_bits(v: Value) -> bool:
    """Whether a value is a tensor of few levels."""
    return isinstance(v.type.elem, BitsAffine)


class _Packing:
    def __init__(self, graph: Graph):
        self.old, self.new = graph, Graph(graph.name)
        self.needs: dict[Value, set[Form]] = {}
        self.to: dict[Value, Value] = {}
        self.forms: dict[tuple[Value, Form], Value] = {}

    def run(self) -> Graph:
        for op in reversed(self.old.ops):
            self._ask(op)
        for v in [*self.old.inputs, *self.old.outputs]:
            if few_bits(v):
                raise UnsupportedError(f"{v.name or 'an output'} is {v.type}: inputs and outputs of a compiled network are not packed")
        for v in self.old.inputs:
            self.to[v] = self.new.add_input(v.type, v.name, v.name in self.old.batched)
        for op in self.old.ops:
            if type(op) in RULES:
                RULES[type(op)](self, op)
            elif any(map(few_bits, op.operands)):
                raise UnsupportedError(f"{op.name} [{op.loc}] reads {next(v.type for v in op.operands if few_bits(v))}: no kernel works on its bits")
            elif not (isinstance(op, Const) and few_bits(op.out)):
                self.put(op, remapped(op, self.to))
        self.new.set_outputs([self.to[v] for v in self.old.outputs], self.old.output_names, self.old.structure)
        self.new.remove_dead()
        return self.new

    def _ask(self, op: Op) -> None:
        """Record the form in which an operator reads its input; called for readers before producers."""
        if isinstance(op, BitsConv2d):
            self.needs.setdefault(op.x, set()).add("words" if in_words(op) else "bytes")
        elif isinstance(op, MaxPool2d) and few_bits(op.x):
            self.needs.setdefault(op.x, set()).update(self.needs.get(op.out, ()))

    def put(self, old: Op, new: Op, form: Form | None = None) -> Value:
        """Add the op that replaces an operator, with its result in a form."""
        for made in unattached(new):
            made.loc = old.loc
        value = self.new.add(new)
        value.name = old.out.name
        if form is None:
            self.to[old.out] = value
        else:
            self.forms[old.out, form] = value
        return value


def sign_bit(p: _Packing, op: SignBit) -> None:
    x = p.to[op.x]
    for form in sorted(p.needs.get(op.out, ())):
        p.put(op, PackLevels(x, 0) if form == "words" else Cast(Sign(x), "i8"), form)


def to_levels(p: _Packing, op: ToLevels) -> None:
    x, steps = p.to[op.x], (1 << op.bits) - 1
    for form in sorted(p.needs.get(op.out, ())):
        p.put(op, PackLevels(x, op.bits) if form == "words" else Rescale(x, *(_f32(steps), _i32(0), _f32(0), _f32(steps)), "u8"), form)


def max_pool(p: _Packing, op: MaxPool2d) -> None:
    if not few_bits(op.x):
        p.put(op, remapped(op, p.to))
        return
    if op.dilation != (1, 1):
        raise UnsupportedError(f"{op.name} [{op.loc}]: a dilated pooling has no kernel on bits")
    for form in sorted(p.needs.get(op.out, ())):
        x = p.forms[op.x, form]
        p.put(op, BitMaxPool2d(x, op.kernel, op.stride, op.padding, op.ceil_mode) if form == "words" else op.rebuilt(x=x), form)


def conv(p: _Packing, op: BitsConv2d) -> None:
    if all(isinstance(user, Threshold) and p.needs.get(user.out) == {"words"} for user in op.out.users) and in_words(op):
        return
    p.put(op, _bit_conv(p, op, BitConv2d) if in_words(op) else _byte_conv(p, op))


def _bit_conv(p: _Packing, op: BitsConv2d, kind: type[Op], **fields: Any) -> Op:
    signs = levels_of(op, "x").step == 2
    words = np.ascontiguousarray(pack_words(_stored(op).transpose(0, 2, 3, 1), levels_of(op, "w").bits).swapaxes(0, 1))
    window: dict[str, Any] = {"stride": op.stride, "padding": op.padding, "dilation": op.dilation}
    return kind(x=p.forms[op.x, "words"], w=Const(words), channels=op.x.shape[1], signs=signs, **window, **fields)


def _byte_conv(p: _Packing, op: BitsConv2d) -> Op:
    w = levels_of(op, "w")
    if w.largest > 127:
        raise UnsupportedError(f"{op.name} [{op.loc}] has weights of {w.bits} bits: levels of {w.largest} do not fit i8, at most 7 bits do")
    x = p.forms[op.x, "bytes"]
    array = (_stored(op).astype(np.int16) * w.step + w.first).astype(np.int8)
    zero = Const(np.zeros((), x.type.dtype))
    return IntConv2d(x, Const(array), None, op.stride, op.padding, op.dilation, 1, zero=zero.out)


def threshold(p: _Packing, op: Threshold) -> None:
    source, bits = op.x.op, int(op.to.storage[1:])
    assert isinstance(op.t.op, Const)
    needs = p.needs.get(op.out, set())
    if needs == {"words"} and isinstance(source, BitsConv2d) and in_words(source):
        p.put(op, _bit_conv(p, source, BitConv2dThreshold, t=p.to[op.t], bits=bits), "words")
        return
    if op.to == SIGNS and "bytes" in needs:
        raise UnsupportedError(f"{op.name} [{op.loc}]: signs behind a threshold have no kernel on bytes")
    ts = [Const(np.ascontiguousarray(column.reshape(1, -1, 1, 1))) for column in op.t.op.array.T]
    stored = p.put(op, Levels(p.to[op.x], [t.out for t in ts]), "bytes")
    if "words" in needs:
        p.put(op, PackLevels(stored, bits), "words")


def weight_conv(p: _Packing, op: BitsWeightConv2d) -> None:
    own = levels_of(op, "w")
    words = pack_words(_stored(op).transpose(2, 3, 1, 0), own.bits)
    window: dict[str, Any] = {"stride": op.stride, "padding": op.padding, "dilation": op.dilation}
    w = Const(np.ascontiguousarray(np.moveaxis(words, 0, 3)))
    y: Op = WeightConv2d(p.to[op.x], w, op.w.shape[0], own.step, own.first, **window)
    p.put(op, y if own.unit == 1 else Mul(y, _f32(own.unit)))


def dequantize(p: _Packing, op: Dequantize) -> None:
    p.put(op, ToFloat(p.to[op.x], Const(op.scale)) if isinstance(op.x.op, BitsConv2d) else remapped(op, p.to))


def _stored(op: BitsConv2d | BitsWeightConv2d) -> np.ndarray:
    """Stored integers of the weights (O, C, kh, kw)."""
    if not isinstance(op.w.op, Const):
        raise UnsupportedError(f"{op.name} [{op.loc}]: its weights are not constant")
    return op.w.op.array


def _f32(value: float) -> Const:
    return Const(np.asarray(value, np.float32))


def _i32(value: int) -> Const:
    return Const(np.asarray(value, np.int32))


RULES: dict[type[Op], Callable[[_Packing, Any], None]] = {
    SignBit: sign_bit,
    ToLevels: to_levels,
    MaxPool2d: max_pool,
    BitsConv2d: conv,
    Threshold: threshold,
    BitsWeightConv2d: weight_conv,
    Dequantize: dequantize,
}
