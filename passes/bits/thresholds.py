"""Replace the channelwise operators between an accumulator and its quantization by integer thresholds.

    to_levels(f_c(dequantize(acc)))  ->  threshold(acc, t),    t[c, j] = the smallest acc whose level is j + 1

f_c is any chain of batch norms, additions and multiplications by constants, relu and clip. Each is monotonic in every channel, so the chain is
too. Where it decreases, the filter is negated. Thresholds are found by bisection with the chain in float64: nothing is rounded to f32 in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...ir.evaluate import to_numpy, to_torch
from ...ir.op import Const, Op, Value
from ...ir.ops import Add, BatchNorm, BitsConv2d, Clip, Dequantize, Div, Mul, Neg, Relu, SignBit, Sub, Threshold, ToLevels
from ...ir.ops.bits_layers import levels, levels_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Chain:
    """Operators after an accumulator's dequantization, up to the value that is quantized."""

    conv: BitsConv2d
    scale: float
    ops: tuple[Op, ...]
    inner: tuple[Value, ...]

    def __call__(self, acc: torch.Tensor) -> torch.Tensor:
        """The chain in float64 on accumulators (1, C, 1, n)."""
        y = acc.double() * self.scale
        for op, v in zip(self.ops, self.inner):
            y = op.evaluate(*(y if o is v else None if o is None else _double(o) for o in (getattr(op, f.name) for f in op.operand_fields)))
        return y


def _double(v: Value) -> torch.Tensor:
    assert isinstance(v.op, Const)
    return to_torch(v.op.array).double()


def chain_to(v: Value) -> Chain | None:
    """The chain that ends in a value; None where a value inside it has other readers."""
    ops: list[Op] = []
    inner: list[Value] = []
    while isinstance(v.op, (BatchNorm, Add, Sub, Mul, Div, Neg, Relu, Clip)):
        if not v.single_use or (source := _source(v.op)) is None:
            return None
        ops.append(v.op)
        inner.append(source)
        v = source
    if not isinstance(v.op, Dequantize) or not isinstance(v.op.x.op, BitsConv2d) or not (v.single_use and v.op.x.single_use):
        return None
    return Chain(v.op.x.op, float(v.op.scale), tuple(reversed(ops)), tuple(reversed(inner)))


def _source(op: Op) -> Value | None:
    """The one operand that is not constant, where the others have one number per channel."""
    computed = [v for v in op.operands if not isinstance(v.op, Const)]
    if len(computed) != 1 or computed[0].shape != op.out.shape or op.out.type.rank != 4:
        return None
    c = op.out.shape[1]
    column = all(v.type.size == 1 or v.shape == (1, c, 1, 1) or v.shape == (c, 1, 1) for v in op.operands if v is not computed[0])
    # a divisor that is computed would not be monotonic
    fits = column or isinstance(op, BatchNorm)
    return computed[0] if fits and not (isinstance(op, Div) and op.b is computed[0]) else None


def as_threshold(op: SignBit | ToLevels) -> Threshold | None:
    """The threshold that gives the same levels, or None where they do not come from an accumulator."""
    chain = chain_to(op.x)
    if chain is None or (isinstance(op, ToLevels) and op.bits > 4) or not isinstance(chain.conv.w.op, Const):
        return None
    conv, channels = chain.conv, op.x.shape[1]
    own = levels(op.out.type.elem)
    limit = conv.bound

    def level(acc: np.ndarray) -> np.ndarray:
        """Levels of accumulators (C, n)."""
        y = op.evaluate(chain(to_torch(np.ascontiguousarray(acc)).reshape(1, channels, 1, -1)))
        return to_numpy(y).reshape(channels, -1).astype(np.int64)

    ends = level(np.broadcast_to(np.array([[-limit, limit]], np.int64), (channels, 2)))
    falls = ends[:, 0] > ends[:, 1]
    sign = np.where(falls, -1, 1)[:, None]
    steps = np.arange(1, 1 << own.bits)
    # the smallest accumulator (negated where it falls) of at least each level; limit + 1 where there is none
    low, high = np.full((channels, len(steps)), -limit - 1), np.full((channels, len(steps)), limit + 1)
    while (high - low > 1).any():
        middle = (low + high) // 2
        reached = level(np.clip(middle, -limit, limit) * sign) >= steps
        high, low = np.where(reached, middle, high), np.where(reached, low, middle)
    if falls.any():
        conv = _negated(conv, falls)
    return Threshold(conv, Const(high.astype(np.int32), loc=op.loc), op.out.type.elem, loc=op.loc)


def _negated(conv: BitsConv2d, which: np.ndarray) -> BitsConv2d:
    """The convolution with some filters negated: levels of weights are symmetric about 0."""
    w = conv.w.op
    assert isinstance(w, Const)
    own = levels_of(conv, "w")
    top = (1 << own.bits) - 1 if own.last == -own.first else -2 * own.first // own.step
    array = np.where(which.reshape(-1, 1, 1, 1), top - w.array, w.array).astype(np.uint8)
    const = Const(array, w.elem, loc=w.loc)
    const.out.name = w.out.name
    result = conv.rebuilt(w=const)
    assert isinstance(result, BitsConv2d)
    return result
