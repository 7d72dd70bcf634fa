"""Scale and shift of a layer's output or input channels, moved into its weights.

    layer(x, w, b) * k + s  =  layer(x, w*k, b*k + s)                 k, s per output channel
    layer(x*k + s, w, b)    =  layer(x, w*k, b + sum(w*s))            k, s per input channel

All arithmetic is float64 and rounded once, to the dtype of the weights. Constants are never changed: new ones are made.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...ir.op import Const, Loc, Op, Value
from ...ir.ops import Conv2d, ConvTranspose2d, Linear
from ...ir.rewrite import Refusal, refuse

#: Layers with weights that a scale and shift of their channels can move into.
Layer = Conv2d | ConvTranspose2d | Linear
F64 = NDArray[np.float64]


def array_of(value: Value) -> F64:
    """The array of a constant, in float64."""
    assert isinstance(value.op, Const)
    return np.asarray(value.op.array).astype(np.float64)


def constant(value: Value | None) -> bool:
    """Whether a value is a float constant (a missing one counts as zero)."""
    return value is None or (isinstance(value.op, Const) and value.type.is_float)


def channel_axis(layer: Layer) -> int:
    """Axis of the layer's input and output that holds its channels."""
    return layer.out.type.rank - 1 if isinstance(layer, Linear) else 1


def scale_output(layer: Layer, k: F64, shift: F64) -> Op | Refusal:
    """The layer whose result is the old one times `k` plus `shift`, both (O,)."""
    if not (constant(layer.w) and constant(layer.b)):
        return refuse(f"the weights of {layer.name} are not constant")
    w = array_of(layer.w)
    if isinstance(layer, ConvTranspose2d):
        # (C, O/groups, kh, kw): the rows of one group make that group's output channels
        c, per_group, *kernel = w.shape
        w = (w.reshape(layer.groups, c // layer.groups, per_group, *kernel) * k.reshape(layer.groups, 1, per_group, 1, 1)).reshape(w.shape)
    else:
        w = w * k.reshape(-1, *[1] * (w.ndim - 1))
    b = shift if layer.b is None else array_of(layer.b) * k + shift
    return _with_weights(layer, w, b)


def scale_input(layer: Layer, k: F64, shift: F64) -> Op | Refusal:
    """The layer that does to x what the old one did to `x * k + shift`, both (C,)."""
    if not (constant(layer.w) and constant(layer.b)):
        return refuse(f"the weights of {layer.name} are not constant")
    if shift.any():
        if isinstance(layer, ConvTranspose2d):
            return refuse("the border of a transposed convolution sums fewer terms, so a shift before it is no bias")
        if isinstance(layer, Conv2d) and any(layer.padding):
            return refuse("the convolution pads with zeros, which a shift before it does not shift")
    w = array_of(layer.w)
    if isinstance(layer, ConvTranspose2d):
        return _with_weights(layer, w * k.reshape(-1, 1, 1, 1), None)
    # one row of k and shift per group, repeated for the output channels of the group
    groups = layer.groups if isinstance(layer, Conv2d) else 1
    ones = (1,) * (w.ndim - 2)
    rows = len(w) // groups
    b = None
    if shift.any():
        b = (w * np.repeat(shift.reshape(groups, -1), rows, axis=0).reshape(*w.shape[:2], *ones)).sum(axis=tuple(range(1, w.ndim)))
        b = b if layer.b is None else b + array_of(layer.b)
    return _with_weights(layer, w * np.repeat(k.reshape(groups, -1), rows, axis=0).reshape(*w.shape[:2], *ones), b)


def _with_weights(layer: Layer, w: F64, b: F64 | None) -> Op | Refusal:
    """The layer with new constants; without `b` it keeps its bias."""
    new_w = _rounded(w, layer.w)
    new_b = None if b is None else _rounded(b, layer.w if layer.b is None else layer.b)
    if not (np.isfinite(new_w.array).all() and (new_b is None or np.isfinite(new_b.array).all())):
        return refuse("the folded weights would not be finite")
    return layer.rebuilt(w=new_w, b=layer.b if new_b is None else new_b)


def _rounded(array: F64, like: Value) -> Const:
    """A constant of the element type of `like`, that keeps where it comes from."""
    with np.errstate(over="ignore"):
        const = Const(array.astype(like.type.dtype), loc=like.op.loc if like.op is not None else Loc())
    const.out.name = like.name
    return const
