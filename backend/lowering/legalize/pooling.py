"""Rules for reductions over the pixels of feature maps, and for pooling to a given size."""

from __future__ import annotations

import numpy as np

from ....ir.op import Const, Op
from ....ir.ops import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d, Mean, Mul, ReduceMax, Reshape, Sum
from ....ir.rewrite import Result, rewrite
from .channels import is_map


@rewrite
def reduce_pixels(op: Mean | Sum | ReduceMax) -> Result:
    """mean(x, [2, 3]) -> adaptive_avg_pool2d(x, 1),   sum -> H*W times that,   max -> adaptive_max_pool2d(x, 1);   of a map"""
    if op.axes != (2, 3) or not is_map(op.x) or (op.x.type.elem != "f32" and not isinstance(op, ReduceMax)):
        return None
    kind = AdaptiveMaxPool2d if isinstance(op, ReduceMax) else AdaptiveAvgPool2d
    pooled: Op = kind(op.x, (1, 1), loc=op.loc)
    if isinstance(op, Sum):
        pooled = Mul(pooled, Const(np.float32(op.x.shape[2] * op.x.shape[3])), loc=op.loc)
    return pooled if op.keepdim else Reshape(pooled, op.out.shape, loc=op.loc)


@rewrite
def adaptive_to_window(op: AdaptiveAvgPool2d | AdaptiveMaxPool2d) -> Result:
    """adaptive_pool2d(x, size) -> pool2d(x, kernel = stride = [H/h, W/w])   where size divides the map and is not 1;   -> x of its size"""
    (h, w), (oh, ow) = op.x.shape[2:], op.size
    if (h, w) == (oh, ow):
        return op.x
    if (oh, ow) == (1, 1) or h % oh or w % ow:
        return None
    window = (h // oh, w // ow)
    kind = AvgPool2d if isinstance(op, AdaptiveAvgPool2d) else MaxPool2d
    return kind(op.x, window, window, loc=op.loc)


@rewrite
def window_to_adaptive(op: AvgPool2d) -> Result:
    """avg_pool2d(x, kernel = [H, W]) -> adaptive_avg_pool2d(x, 1)   without padding or divisor"""
    if op.kernel == op.x.shape[2:] and not any(op.padding) and op.divisor in (None, op.kernel[0] * op.kernel[1]):
        return AdaptiveAvgPool2d(op.x, (1, 1), loc=op.loc)
    return None


RULES = (reduce_pixels, adaptive_to_window, window_to_adaptive)
