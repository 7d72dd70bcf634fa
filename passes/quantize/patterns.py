"""Patterns that turn float operators between dequantize and quantize into integer ones. dq(q) is a dequantized tensor, acc an i32 accumulator.

layer(dq(x), dq(w), b)            ->  dq(quant.layer(x, w, b_i32))       b_i32 = rint(b / (S_x S_w))
sum(dq(x))                        ->  dq(quant.sum(x))
move(dq(x))                       ->  dq(move(x))
q(concat(dq(a), dq(b)))           ->  concat(q(dq(a)), q(dq(b)))         where types differ
q(dq(x))                          ->  x, or requantize(x) where types differ
q(clamp(dq(x)))                   ->  requantize(x){low, high}           q(clip(r, a, b)) = clip(q(r), q(a), q(b)): q is monotonic
q(clamp(add(dq(a), dq(b))))       ->  quant.add(a, b){low, high}         mul likewise, of 8-bit operands
q(f(dq(x)))                       ->  lookup(x, table)                   table[i] = q(f(dq(i))), in float64
q(cast(x))                        ->  scast(x)                           bytes with scale 1 and zero point 0 (`image_input`)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.errors import VerifyError
from ...ir.evaluate import to_numpy, to_torch
from ...ir.op import Const, Op, Value
from ...ir.ops import (
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    Cast,
    Clip,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dequantize,
    Elementwise,
    Linear,
    Lookup,
    Matmul,
    Mean,
    Mul,
    QuantAdd,
    QuantAvgPool2d,
    QuantConv2d,
    QuantConvTranspose2d,
    Quantize,
    QuantLinear,
    QuantMatmul,
    QuantMul,
    QuantSoftmax,
    QuantSum,
    QuantSumPool2d,
    Relu,
    Requantize,
    Reshape,
    Softmax,
    StorageCast,
    Upsample,
)
from ...ir.ops.quant import Rounded, Rounding
from ...ir.ops.quant_math import elem_of
from ...ir.ops.quant_softmax import overflows
from ...ir.rewrite import Refusal, Result, Rewrite, refuse, rewrite
from ...ir.types import NUMPY, STORAGE, Tensor, Uniform, storage_range
from .roles import window_size


def stored(v: Value) -> Value | None:
    """The quantized tensor that a float value dequantizes."""
    return v.op.x if isinstance(v.op, Dequantize) else None


def small(v: Value) -> Value | None:
    """`stored`, if it has at most 8 bits and one scale."""
    q = stored(v)
    return q if q is not None and one_scale(q.type) else None


def one_scale(type: Tensor) -> bool:
    return isinstance(type.elem, Uniform) and type.elem.axis is None and STORAGE[type.elem.storage][0] <= 8


def named(const: Const, name: str) -> Const:
    """The constant, with the given name."""
    const.out.name = name
    return const


# -- constants, layers, sums, moves ------------------------------------------------------------


@rewrite
def quantize_constant(op: Quantize) -> Result:
    """q(c) -> a constant of integers"""
    if not isinstance(op.x.op, Const):
        return None
    return named(Const(to_numpy(op.evaluate(to_torch(op.x.op.array))), op.to, loc=op.loc), op.x.name)


@rewrite
def integer_bytes(op: Quantize) -> Result:
    """q(cast(x)) -> scast(x)"""
    cast = op.x.op
    if not isinstance(cast, Cast) or cast.x.type.elem != op.to.storage or op.to != Uniform(op.to.storage, (1.0,), (0,)):
        return None
    return StorageCast(cast.x, op.to, loc=cast.loc)


@rewrite
def integer_layer(op: Conv2d | ConvTranspose2d | Linear) -> Result:
    """layer(dq(x), dq(w), b) -> dq(quant.layer(x, w, b_i32)), or dq(quant.layer(x, w)) + b"""
    x, w = small(op.x), stored(op.w)
    if x is None or w is None or not isinstance(w.op, Const):
        return None
    if isinstance(w.type.elem, Uniform) and any(w.type.elem.zero_points):
        return refuse(f"its weights have the zero point {w.type.elem.zero_points[0]}; integer layers need symmetric weights, of zero point 0")
    kind = {Conv2d: QuantConv2d, ConvTranspose2d: QuantConvTranspose2d, Linear: QuantLinear}[type(op)]
    geometry = {f.name: getattr(op, f.name) for f in op.attr_fields}
    layer: Op = kind(x, w, None, **geometry, loc=op.loc)
    if op.b is not None:
        b = integer_bias(op.b, layer.out.type)
        if isinstance(b, Refusal):
            return b
        try:
            layer = layer.rebuilt(b=b)
        except VerifyError:  # some quantizers give channels of tiny scales the largest bias there is: the sum passes i32, so it is one of floats
            column = (op.b.type.size, *(1,) * (op.out.type.rank - 2 if kind is not QuantLinear else 0))
            return Add(Dequantize(layer, loc=op.loc), Reshape(op.b, column, loc=op.loc), loc=op.loc)
    return Dequantize(layer, loc=op.loc)


def integer_bias(b: Value, acc: Tensor) -> Const | Refusal:
    """rint(b / S) as i32 with the accumulator's scales. Integers that already have these scales, up to their rounding to f32, are kept."""
    assert isinstance(acc.elem, Uniform)
    given = stored(b) or b
    if not isinstance(given.op, Const):
        return refuse("its bias is not constant")
    q, wanted = np.asarray(given.op.array, np.float64), np.array(acc.elem.scales)
    if isinstance(given.type.elem, Uniform):
        ratio = np.array(given.type.elem.scales) / wanted
        q = q - np.array(given.type.elem.zero_points)
        q = q if np.allclose(ratio, 1, rtol=1e-6, atol=0) else np.rint(q * ratio)
    else:
        q = np.rint(q / wanted)
    if np.abs(q).max(initial=0) >= 2**31:
        return refuse(f"its bias of {float(np.abs(q * wanted).max()):g} is beyond i32 at the scale of its accumulator")
    axis = None if acc.elem.axis is None else 0
    return named(Const(q.astype(np.int32), Uniform("i32", acc.elem.scales, acc.elem.zero_points, axis), loc=given.op.loc), b.name)


@rewrite
def integer_matmul(op: Matmul) -> Result:
    """matmul(dq(a), dq(b)) -> dq(quant.matmul(a, b))"""
    a, b = small(op.a), small(op.b)
    return None if a is None or b is None else Dequantize(QuantMatmul(a, b, loc=op.loc), loc=op.loc)


@rewrite
def integer_sum(op: Mean | AvgPool2d | AdaptiveAvgPool2d) -> Result:
    """mean(dq(x)) -> dq(quant.sum(x){divisor})"""
    x = small(op.x)
    if x is None:
        return None
    total: Op
    if isinstance(op, Mean):
        count = int(np.prod([x.shape[a] for a in op.axes], dtype=np.int64))
        total = QuantSum(x, op.axes, op.keepdim, count, loc=op.loc)
    elif isinstance(op, AvgPool2d):
        count = window_size(op) or 0
        if not count:
            return refuse("its windows hold different numbers of elements")
        total = QuantSumPool2d(x, op.kernel, op.stride, op.padding, count, op.ceil_mode, loc=op.loc)
    else:
        kh, kw = (size // n for size, n in zip(x.shape[2:], op.size))
        if (kh * op.size[0], kw * op.size[1]) != x.shape[2:]:
            return refuse("its windows differ in size")
        whole = op.size == (1, 1)
        total = QuantSum(x, (2, 3), True, kh * kw, loc=op.loc) if whole else QuantSumPool2d(x, (kh, kw), (kh, kw), divisor=kh * kw, loc=op.loc)
    return Dequantize(total, loc=op.loc)


def integer_move(op: Op) -> Result:
    """move(dq(x)) -> dq(move(x))"""
    if not (op.selects or isinstance(op, Upsample)):
        return None
    if isinstance(op, Concat):
        xs = [small(v) for v in op.xs]
        if not all(q is not None and xs[0] is not None and q.type.elem == xs[0].type.elem for q in xs):
            return None
        return Dequantize(op.rebuilt(xs=xs), loc=op.loc)
    if isinstance(op, Upsample) and op.mode != "nearest":
        return None
    x = small(op.operands[0])
    return None if x is None else Dequantize(op.rebuilt(x=x), loc=op.loc)


MOVE = Rewrite("integer_move", integer_move, (Op,))


@rewrite
def integer_concat(op: Quantize) -> Result:
    """q(concat(dq(a), dq(b))) -> concat(requantize(a), requantize(b))"""
    concat = op.x.op
    if not isinstance(concat, Concat) or op.to.axis is not None or not all(stored(v) is not None for v in concat.xs):
        return None
    return concat.rebuilt(xs=[Quantize(v, op.to, op.rounding, loc=op.loc).out for v in concat.xs], loc=concat.loc)


# -- what rounds -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clamped:
    """A value and the clamp of stored integers that follows it."""

    value: Value
    low: int | None
    high: int | None


def behind_clamps(op: Quantize) -> Clamped:
    """Look from a quantize through relu and clip to their operand, and collect the clamp."""
    v, (first, last) = op.x, op.to.range
    low, high = first, last
    while isinstance(v.op, Relu | Clip):
        bounds = np.array([0.0, np.inf] if isinstance(v.op, Relu) else [v.op.min, v.op.max], np.float32)
        inner = to_numpy(Quantize(Const(bounds), op.to, op.rounding).evaluate(to_torch(bounds)))
        low, high = max(low, min(int(inner[0]), high)), min(high, max(int(inner[1]), low))
        v = v.op.x
    return Clamped(v, None if low == first else low, None if high == last else high)


def rounding_patterns(default: Rounding) -> Sequence[Rewrite]:
    """The patterns that round: with the default, but `onnx` where the quantize has it."""

    @rewrite
    def integer_requantize(op: Quantize) -> Result:
        """q(clamp(dq(x))) -> requantize(x){low, high}; a table for onnx where x has 8 bits"""
        found, rounding = behind_clamps(op), rounding_of(op, default)
        x = stored(found.value)
        if x is None:
            return None
        if x.type.elem == op.to and found.low is None and found.high is None:
            return x
        if isinstance(x.op, Rounded) and x.op.rounding == rounding and x.type.elem == op.to:
            # the same type again: only the clamp is new
            first, last = x.op.clamp
            low, high = (found.low if found.low is not None else first), (found.high if found.high is not None else last)
            return x.op.rebuilt(low=min(max(low, first), last), high=max(min(high, last), first), loc=op.loc)
        if rounding == "onnx" and one_scale(x.type):
            table = integers_of(x, lambda real: Quantize(found.value, op.to, rounding).evaluate(real))
            table = np.clip(table, found.low, found.high) if (found.low, found.high) != (None, None) else table
            return Lookup(x, Const(table, op.to, loc=op.loc), loc=op.loc)
        if rounding == "onnx" and isinstance(pool := x.op, QuantSumPool2d) and one_scale(pool.x.type):
            geometry = (pool.x, pool.kernel, pool.stride, pool.padding)
            return QuantAvgPool2d(*geometry, op.to, found.low, found.high, divisor=pool.divisor, ceil_mode=pool.ceil_mode, loc=pool.loc)
        divisor = x.op.divisor if rounding == "onnx" and isinstance(x.op, QuantSum) else 1
        return Requantize(x, op.to, found.low, found.high, rounding, divisor, loc=op.loc)

    @rewrite
    def integer_add(op: Quantize) -> Result:
        """q(clamp(add(dq(a), dq(b)))) -> quant.add(a, b){low, high}"""
        found = behind_clamps(op)
        add = found.value.op
        if not isinstance(add, Add) or (a := stored(add.a)) is None or (b := stored(add.b)) is None:
            return None
        rounding = rounding_of(op, default) if one_scale(a.type) and one_scale(b.type) else default
        return QuantAdd(a, b, op.to, found.low, found.high, rounding, loc=add.loc)

    @rewrite
    def integer_softmax(op: Quantize) -> Result:
        """q(softmax(dq(x))) -> quant.softmax(x), only for onnx: other arithmetics leave a softmax float"""
        softmax = op.x.op
        if not isinstance(softmax, Softmax) or op.rounding != "onnx" or (x := small(softmax.x)) is None:
            return None
        if op.to.axis is not None or not (elem_of(x).storage == op.to.storage in ("u8", "i8")) or overflows(x.shape[softmax.axis], op.to):
            return None
        return QuantSoftmax(x, softmax.axis, op.to, loc=softmax.loc)

    @rewrite
    def integer_mul(op: Quantize) -> Result:
        """q(clamp(mul(dq(a), dq(b)))) -> quant.mul(a, b){low, high}"""
        found = behind_clamps(op)
        mul = found.value.op
        if not isinstance(mul, Mul) or (a := small(mul.a)) is None or (b := small(mul.b)) is None:
            return None
        return QuantMul(a, b, op.to, found.low, found.high, rounding_of(op, default), loc=mul.loc)

    return integer_requantize, integer_add, integer_mul, integer_softmax


def rounding_of(op: Quantize, default: Rounding) -> Rounding:
    """The arithmetic of the integer operator that a quantize becomes part of."""
    return "onnx" if op.rounding == "onnx" else default


#: Most operators of an expression that becomes a table.
EXPRESSION = 24


@rewrite
def integer_table(op: Quantize) -> Result:
    """q(f(dq(x))) -> lookup(x, table); f may be written out: x * sigmoid(x)"""
    v = variable(op.x)
    if v is None or (x := small(v)) is None:
        return None
    table = tabulated(op, v, x)
    assert op.x.op is not None
    return table if isinstance(table, Refusal) else Lookup(x, Const(table, op.to, loc=op.x.op.loc), loc=op.x.op.loc)


def variable(y: Value) -> Value | None:
    """The only tensor that an expression of elementwise operators and single numbers reads, of the expression's shape."""
    leaves: set[Value] = set()
    seen: set[Value] = set()
    stack = [y]
    while stack:
        v = stack.pop()
        if v in seen:
            continue
        seen.add(v)
        if number(v) is not None:
            continue
        if isinstance(v.op, Elementwise) and v.type.elem == "f32" and v.shape == y.shape:
            stack.extend(v.op.operands)
        else:
            leaves.add(v)
        if len(leaves) > 1 or len(seen) > EXPRESSION:
            return None
    (leaf,) = leaves or {y}
    return leaf if leaf is not y and leaf.shape == y.shape else None


def number(v: Value) -> np.ndarray | None:
    """A constant of one element, dequantized or not."""
    if v.type.size != 1 or v.type.elem != "f32":
        return None
    if isinstance(v.op, Dequantize) and isinstance(v.op.x.op, Const):
        return to_numpy(v.op.evaluate(to_torch(v.op.x.op.array)))
    return v.op.array if isinstance(v.op, Const) else None


def integers_of(x: Value, f: Callable[[Any], Any], dtype: str = "f32") -> np.ndarray:
    """f(dq(i)) for every integer i that may be stored in x; dq(i) is rounded to f32, or exact in f64."""
    elem = x.type.elem
    assert isinstance(elem, Uniform)
    low, high = storage_range(elem.storage)
    numbers = (np.arange(low, high + 1) - elem.zero_points[0]) * np.float64(np.float32(elem.scales[0]))
    return to_numpy(f(to_torch(numbers.astype(NUMPY[dtype]))))


def tabulated(op: Quantize, v: Value, x: Value) -> np.ndarray | Refusal:
    """q(f(dq(i))) for every stored integer i: computed in float64 and rounded once; for `onnx` as the operators compute it in f32."""
    exact = op.rounding == "f32"

    def result(numbers: Any) -> Any:
        known = {v: numbers}

        def value(o: Value) -> Any:
            if o not in known:
                array = number(o)
                if array is not None:
                    known[o] = to_torch(array).to(numbers.dtype).reshape(-1)
                else:
                    assert o.op is not None
                    known[o] = o.op.evaluate(*(value(operand) for operand in o.op.operands))
            return known[o]

        return value(op.x)

    real = integers_of(x, result, "f64" if exact else "f32")
    if np.isnan(real).any():
        return refuse("it gives NaN for some integer")
    if not exact:
        return to_numpy(op.evaluate(to_torch(real)))
    first, last = op.to.range
    table: np.ndarray = np.clip(np.rint(real / op.to.scales[0]) + op.to.zero_points[0], first, last).astype(Tensor((), op.to).dtype)
    return table


def patterns(rounding: Rounding) -> Sequence[Rewrite]:
    """All patterns, for one kind of rounding."""
    return (
        quantize_constant,
        integer_bytes,
        integer_layer,
        integer_matmul,
        integer_sum,
        MOVE,
        integer_concat,
        *rounding_patterns(rounding),
        integer_table,
    )
