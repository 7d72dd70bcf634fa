"""Operators of training that are functions of their operands: dropout that drops nothing, and the gradient of a threshold."""

from __future__ import annotations

from ....ir.op import Op, Value
from ....ir.ops import LessEqual, Where
from ...call import Call
from ...registry import converter


@converter("aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default", "aten.feature_alpha_dropout.default")
def dropout(call: Call, x: Value, p: float, train: bool | None) -> Op:
    """Dropouts in evaluation mode are removed before the walk."""
    raise call.unsupported("dropout in training mode; call model.eval(), and pass training=self.training to functional dropout")


@converter("aten.native_dropout.default")
def native_dropout(call: Call, x: Value, p: float, train: bool | None) -> list[Value]:
    """x, and the mask of kept elements: all of them in evaluation mode."""
    if train is None or (train and p > 0):
        dropout(call, x, p, train)
    return [x, call.expand(call.const(True, "bool"), (), call.shape)]


@converter("aten.threshold_backward.default")
def threshold_backward(call: Call, gradient: Value, x: Value, threshold: float) -> Op:
    """The gradient where x > threshold, else 0."""
    if gradient.type.elem != x.type.elem:
        raise call.unsupported(f"a gradient of {gradient.type.elem} for {x.type.elem}, whose type torch leaves open; valid: one type")
    return Where(LessEqual(x, call.cast(threshold, call.elem)), call.cast(0, call.elem), gradient)
