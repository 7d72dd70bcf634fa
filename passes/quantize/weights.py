"""Scales of weights: symmetric, one per output channel.

    s8      S = max|w| / 127
    s7      S = max|w| / 63        AVX2's maddubs never saturates: two products of u8 * s7 fit i16
    pairs   the smallest S (in steps of 0.5 %) at which the positive and the negative weights of channels 2i and 2i+1 of a tap each sum to at
            most 128 in magnitude: maddubs is exact then too, with less rounding error than s7

A channel of small weights and a large bias gets the scale that its bias needs: |b| / (S_x S) stays below 2^30.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...ir.op import Const
from ...ir.ops import Conv2d, ConvTranspose2d, Linear
from ...ir.types import Uniform
from .histogram import SMALLEST_SCALE

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
WeightFormat = Literal["s8", "pairs", "s7"]
Layer = Conv2d | ConvTranspose2d | Linear
LEVELS = {"s8": 127, "pairs": 127, "s7": 63}
#: The largest bias in units of its scale: it leaves the i32 accumulator room for the products.
BIAS_LIMIT = 2.0**30
#: The largest sum of two weights of one sign for which 255 * sum fits i16.
PAIR_LIMIT = 128


def weight_type(layer: Layer, x: Uniform, form: WeightFormat, per_channel: bool = True) -> Uniform:
    """The type of a layer's weights, given that of its input; one scale for all channels unless `per_channel`."""
    axis = scale_axis(layer)
    assert isinstance(layer.w.op, Const)
    w = np.moveaxis(np.asarray(layer.w.op.array, np.float32), axis, 0)
    levels = LEVELS[form]
    largest = np.abs(w).reshape(len(w), -1).max(axis=1, initial=0).astype(np.float64)
    least = np.maximum(_bias(layer, len(w), axis) / (x.scales[0] * BIAS_LIMIT), SMALLEST_SCALE)
    scales = rounded_up(np.maximum(largest / levels, least))
    if form == "pairs":
        scales = _pair_scales(_input_pairs(layer, w), scales)
    if not per_channel:
        # the largest scale is valid for every channel: larger scales make smaller integers
        return Uniform("i8", (float(scales.max()),), (0,), None, qmin=-levels, qmax=levels)
    return Uniform("i8", tuple(map(float, scales)), (0,) * len(w), axis, qmin=-levels, qmax=levels)


def scale_axis(layer: Layer) -> int:
    """The axis of w that scales run along: its output channels (those of one group, where a transposed convolution has several)."""
    return 1 if isinstance(layer, ConvTranspose2d) and not layer.depthwise else 0


def rounded_up(scales: F64) -> F32:
    """f32 numbers of at least these values, so that no weight exceeds its range."""
    result = scales.astype(np.float32)
    return np.where(result < scales, np.nextafter(result, np.float32(np.inf)), result)


def _bias(layer: Layer, count: int, axis: int) -> F64:
    """The largest |b| of each scale."""
    if layer.b is None:
        return np.zeros(count)
    assert isinstance(layer.b.op, Const)
    b: F64 = np.abs(np.asarray(layer.b.op.array, np.float64))
    if isinstance(layer, ConvTranspose2d):
        # output channel = group * (O/groups) + index; a depthwise one has a scale for each group
        b = b.reshape(layer.groups, -1).max(axis=0 if axis == 1 else 1)
    return b


def _input_pairs(layer: Layer, w: F32) -> F32:
    """w (channels, …) as (channels, pairs, 2): inputs 2i and 2i+1 of one tap; an odd last one is paired with 0."""
    if not isinstance(layer, ConvTranspose2d):
        inputs = np.moveaxis(w, 1, -1)
    elif layer.depthwise:
        inputs = w[..., None]
    else:
        inputs = np.moveaxis(w.reshape(len(w), layer.groups, -1, *w.shape[2:]), 2, -1)
    if inputs.shape[-1] % 2:
        inputs = np.concatenate([inputs, np.zeros((*inputs.shape[:-1], 1), np.float32)], axis=-1)
    return inputs.reshape(len(w), -1, 2)


def _pair_scales(pairs: F32, scales: F32) -> F32:
    """The smallest scales from `scales` on that satisfy every pair."""
    scales = scales.copy()
    open_ = np.arange(len(scales))
    while len(open_):
        q = np.rint(pairs[open_] * (1 / scales[open_].astype(np.float64)).astype(np.float32)[:, None, None])
        high = np.maximum(q, 0).sum(-1).max(1, initial=0)
        low = -np.minimum(q, 0).sum(-1).min(1, initial=0)
        open_ = open_[np.maximum(high, low) > PAIR_LIMIT]
        scales[open_] = rounded_up(scales[open_].astype(np.float64) * 1.005)
    return scales
