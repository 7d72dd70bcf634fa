"""Turn a scale and shift per channel into a depthwise 1x1 convolution, which has an integer form.

    x * k + s  ->  conv2d(x, k; depthwise 1x1, bias s)        k, s of shape (1, C, 1, 1): a norm that cannot be folded into a layer (DenseNet)

With one scale per channel the weight is the integer +-127 with scale |k| / 127, so k loses no precision.
"""

from __future__ import annotations

import numpy as np

from ...ir.op import Const, Value
from ...ir.ops import Add, Conv2d, Mul
from ...ir.rewrite import Result, rewrite


@rewrite
def scale_shift_to_conv(op: Add | Mul) -> Result:
    """x * k + s -> conv2d(x, k; 1x1, groups = C)"""
    if isinstance(op, Mul):
        x, k, s = op.a, per_channel(op.a, op.b), None
        after = op.out.users[0] if op.out.single_use and op.out.users else None
        if isinstance(after, Add) and after.a is op.out and per_channel(after.a, after.b) is not None:
            return None
    else:
        x, k, s = op.a, None, per_channel(op.a, op.b)
        inner = op.a.op
        if isinstance(inner, Mul) and inner.out.single_use and (scale := per_channel(inner.a, inner.b)) is not None:
            x, k = inner.a, scale
    if (k is None and s is None) or op.out.shape != x.shape:
        return None
    channels = x.shape[1]
    w = np.ones(channels, np.float32) if k is None else k
    return Conv2d(x, Const(w.reshape(channels, 1, 1, 1)), None if s is None else Const(s), groups=channels, loc=op.loc)


def per_channel(x: Value, c: Value) -> np.ndarray | None:
    """The numbers (C,) of a constant with one per channel of x (N, C, H, W), C > 1; else None."""
    if not isinstance(c.op, Const) or isinstance(x.op, Const) or c.type.elem != "f32" or x.type.elem != "f32" or x.type.rank != 4:
        return None
    channels = x.shape[1]
    if channels < 2 or c.shape not in ((1, channels, 1, 1), (channels, 1, 1)):
        return None
    return np.ascontiguousarray(c.op.array.reshape(channels))
