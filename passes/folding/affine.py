"""Scale and shift of a layer's output or input channels, moved into its weights.

    layer(x, w, b) * k + s  =  layer(x, w*k, b*k + s)                 k, s per output channel
    layer(x*k + s, w, b)    =  layer(x, w*k, b + sum(w*s))            k, s per input channel

All arithmetic is float64 and rounded once, to the dtype of the weights. Constants are never changed: new ones are made.
Nothing is folded where the type cannot hold the result: see `held`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...ir.op import Const, Loc, Op, Value
from ...ir.ops import Conv2d, ConvTranspose2d, Linear
from ...ir.rewrite import Refusal, refuse
from ...ir.types import EPSILON, NUMPY, SMALLEST_NORMAL, storage_elem

#: A channel may lose its weights where its bias is at least this many times larger: for inputs up to this size they round away.
LARGE_INPUT = 1e12
#: Layers whose weights can take in a scale and shift of their channels.
Layer = Conv2d | ConvTranspose2d | Linear
F64 = NDArray[np.float64]


def array_of(value: Value) -> F64:
    """The array of a constant, in float64."""
    assert isinstance(value.op, Const)
    return np.asarray(value.op.array).astype(np.float64)


def constant(value: Value | None) -> bool:
    """Whether a value is a float constant (a missing one counts as zero)."""
    return value is None or (isinstance(value.op, Const) and value.type.is_float)


def rounded(array: F64, elem: str) -> np.ndarray:
    """The array in a float type; what the type cannot hold becomes infinite or zero."""
    with np.errstate(over="ignore", under="ignore"):
        return array.astype(NUMPY[elem])


def representable(array: F64, elem: str) -> bool:
    """Whether rounding to a float type changes the last bits alone: every number stays finite, and is normal or exactly what it was."""
    kept = rounded(array, elem).astype(np.float64)
    return bool(np.isfinite(kept).all() and ((np.abs(kept) >= SMALLEST_NORMAL[elem]) | (kept == array)).all())


def keeps_digits(c: F64, d: F64) -> bool:
    """Whether c + d keeps the size of the larger one: (x + 2^23) - 2^23 rounds x, which x + 0 does not."""
    return bool((np.abs(c + d) >= np.maximum(np.abs(c), np.abs(d)) / 2).all())


def channel_axis(layer: Layer) -> int:
    """Axis of the layer's input and output that holds its channels."""
    return layer.out.type.rank - 1 if isinstance(layer, Linear) else 1


def scale_output(layer: Layer, k: F64, shift: F64) -> Op | Refusal:
    """The layer whose result is the old one times `k` plus `shift`, both (O,)."""
    if not (constant(layer.w) and constant(layer.b)):
        return refuse(f"the weights of {layer.name} are not constant")
    b = shift if layer.b is None else array_of(layer.b) * k + shift
    w = array_of(layer.w)
    if not isinstance(layer, ConvTranspose2d):
        w = w * k.reshape(-1, *[1] * (w.ndim - 1))
        return _with_weights(layer, w, b, w, b)
    # (C, O/groups, kh, kw): the rows of one group make that group's output channels
    c, per_group, *kernel = w.shape
    w = w.reshape(layer.groups, c // layer.groups, per_group, *kernel) * k.reshape(layer.groups, 1, per_group, 1, 1)
    return _with_weights(layer, w.reshape(c, per_group, *kernel), b, w.swapaxes(1, 2).reshape(len(b), -1), b)


def scale_input(layer: Layer, k: F64, shift: F64) -> Op | Refusal:
    """The layer that gives for x what the old one gave for `x * k + shift`, both (C,)."""
    if not (constant(layer.w) and constant(layer.b)):
        return refuse(f"the weights of {layer.name} are not constant")
    if shift.any():
        if isinstance(layer, ConvTranspose2d):
            return refuse("the border of a transposed convolution sums fewer terms, so a shift before it is no bias")
        if isinstance(layer, Conv2d) and any(layer.padding):
            return refuse("the convolution pads with zeros, which a shift before it does not shift")
    w = array_of(layer.w)
    if isinstance(layer, ConvTranspose2d):
        w = w * k.reshape(-1, 1, 1, 1)
        return _with_weights(layer, w, None, w)
    # one row of k and shift per group, repeated for the output channels of the group
    groups = layer.groups if isinstance(layer, Conv2d) else 1
    ones = (1,) * (w.ndim - 2)
    rows = len(w) // groups
    b = None
    if shift.any():
        b = (w * np.repeat(shift.reshape(groups, -1), rows, axis=0).reshape(*w.shape[:2], *ones)).sum(axis=tuple(range(1, w.ndim)))
        b = b if layer.b is None else b + array_of(layer.b)
    w = w * np.repeat(k.reshape(groups, -1), rows, axis=0).reshape(*w.shape[:2], *ones)
    return _with_weights(layer, w, b, w.reshape(groups, rows, *w.shape[1:]).swapaxes(1, 2).reshape(len(k), -1))


def held(slices: F64, elem: str, beside: F64 | None = None) -> bool:
    """Whether a type can hold folded weights (channels, …): all are finite, and each channel keeps its precision.

    Rounding costs a channel's weights at most an epsilon of the largest of them. Subnormal weights lose more. That is allowed where
    `beside`, the bias (channels,) that their sum is added to, hides it for inputs up to `LARGE_INPUT`, as in channels that training has
    emptied.
    """
    kept = rounded(slices, elem).astype(np.float64)
    if not np.isfinite(kept).all():
        return False
    lost = np.abs(kept - slices).reshape(len(slices), -1).max(axis=1, initial=0)
    hidden = 0.0 if beside is None else np.abs(beside) / LARGE_INPUT
    return bool((lost <= EPSILON[elem] * np.maximum(np.abs(slices).reshape(len(slices), -1).max(axis=1, initial=0), hidden)).all())


def _with_weights(layer: Layer, w: F64, b: F64 | None, slices: F64, beside: F64 | None = None) -> Op | Refusal:
    """The layer with new constants; without `b` it keeps its bias. slices: the weights of each scaled channel; beside: as in `held`."""
    elem = storage_elem(layer.w.type.elem)
    if not held(slices, elem, beside):
        return refuse(f"{elem} cannot hold the folded weights")
    new_b = None if b is None else _const(b, layer.w if layer.b is None else layer.b)
    if new_b is not None and not np.isfinite(new_b.array).all():
        return refuse("the folded bias would not be finite")
    return layer.rebuilt(w=_const(w, layer.w), b=layer.b if new_b is None else new_b)


def _const(array: F64, like: Value) -> Const:
    """A constant with the element type and the location of `like`."""
    const = Const(rounded(array, storage_elem(like.type.elem)), loc=like.op.loc if like.op is not None else Loc())
    const.out.name = like.name
    return const
