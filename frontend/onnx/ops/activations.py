"""Activation functions, clipping and dropout."""

from __future__ import annotations

import math

import numpy as np

from ....ir.op import Op, Value
from ....ir.ops import (
    Abs,
    Add,
    Clip,
    Div,
    Elu,
    Gelu,
    Greater,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Less,
    Maximum,
    Minimum,
    Mul,
    Prelu,
    Relu,
    Sigmoid,
    Silu,
    Softplus,
    Sub,
    Tanh,
    Where,
)
from ..node import Node
from ..registry import onnx_converter

UNARY: dict[str, type[Op]] = {"Relu": Relu, "Sigmoid": Sigmoid, "HardSwish": HardSwish, "Softplus": Softplus}


def _register(name: str, kind: type[Op]) -> None:
    @onnx_converter(name)
    def convert(node: Node, x: Value) -> Op:
        return kind(x)


for _name, _kind in UNARY.items():
    _register(_name, _kind)


@onnx_converter("LeakyRelu")
def leaky_relu(node: Node, x: Value, *, alpha: float = 0.01) -> Op:
    return LeakyRelu(x, alpha)


@onnx_converter("PRelu")
def prelu(node: Node, x: Value, slope: Value) -> Op:
    """A slope per channel, or one, is nn.prelu; any other shape becomes elementwise ops."""
    shape = (1,) * (x.type.rank - slope.type.rank) + slope.shape
    if slope.type.size == 1 or (x.type.rank > 1 and math.prod(shape) == shape[1] == x.shape[1]):
        return Prelu(x, node.reshape(slope, (slope.type.size,)))
    return Where(Less(x, node.like(x, 0)), Mul(x, slope), x)


@onnx_converter("Elu")
def elu(node: Node, x: Value, *, alpha: float = 1.0) -> Op:
    return Elu(x, alpha)


@onnx_converter("Selu")
def selu(node: Node, x: Value, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Op:
    return Mul(Elu(x, alpha), node.like(x, gamma))


@onnx_converter("Celu")
def celu(node: Node, x: Value, *, alpha: float = 1.0) -> Op:
    """max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))"""
    return Where(Greater(x, node.like(x, 0)), x, Elu(Div(x, node.like(x, alpha)), alpha))


@onnx_converter("ThresholdedRelu")
def thresholded_relu(node: Node, x: Value, *, alpha: float = 1.0) -> Op:
    return Where(Greater(x, node.like(x, alpha)), x, node.like(x, 0))


@onnx_converter("HardSigmoid")
def hard_sigmoid(node: Node, x: Value, *, alpha: float = 0.2, beta: float = 0.5) -> Op:
    """clip(alpha * x + beta, 0, 1); MobileNetV3's for alpha = 1/6"""
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return HardSigmoid(x)
    return Clip(Add(Mul(x, node.like(x, alpha)), node.like(x, beta)), 0.0, 1.0)


@onnx_converter("Gelu")
def gelu(node: Node, x: Value, *, approximate: str = "none") -> Op:
    return Gelu(x, approximate)


@onnx_converter("Mish")
def mish(node: Node, x: Value) -> Op:
    return Mul(x, Tanh(Softplus(x)))


@onnx_converter("Swish")
def swish(node: Node, x: Value, *, alpha: float = 1.0) -> Op:
    return Silu(x) if alpha == 1 else Mul(x, Sigmoid(Mul(x, node.like(x, alpha))))


@onnx_converter("Softsign")
def softsign(node: Node, x: Value) -> Op:
    return Div(x, Add(Abs(x), node.like(x, 1)))


@onnx_converter("Shrink")
def shrink(node: Node, x: Value, *, bias: float = 0.0, lambd: float = 0.5) -> Op:
    """x + bias below -lambd, x - bias above lambd, else 0"""
    zero = node.like(x, 0)
    if not x.type.is_float and (bias != int(bias) or lambd != int(lambd)):
        raise node.unsupported(f"bias {bias} and lambd {lambd} of a tensor of integers; valid: whole numbers, or a float tensor")
    above = Where(Greater(x, node.like(x, lambd)), Sub(x, node.like(x, bias)), zero)
    return Where(Less(x, node.like(x, -lambd)), Add(x, node.like(x, bias)), above)


@onnx_converter("Clip")
def clip(node: Node, x: Value, low: Value | None = None, high: Value | None = None) -> Value | Op:
    """Bounds that are computed, or cross each other, become a maximum and a minimum; where they cross, everything becomes `high`."""
    bounds = [node.constant(v) for v in (low, high)]
    known = all(v is None or a is not None for v, a in zip((low, high), bounds))
    lo, hi = (float(a.reshape(-1)[0]) if a is not None else sign * math.inf for a, sign in zip(bounds, (-1, 1)))
    exact = x.type.is_float or all(math.isinf(b) or abs(b) < 2**53 for b in (lo, hi))
    if known and exact and lo <= hi:
        return Clip(x, lo, hi) if math.isfinite(lo) or math.isfinite(hi) else x
    if low is not None:
        x = Maximum(x, node.reshape(low, ())).out
    return x if high is None else Minimum(x, node.reshape(high, ())).out


@onnx_converter("Dropout")
def dropout(node: Node, x: Value, ratio: Value | None = None, training: Value | None = None, *, seed: int = 0) -> list[Value]:
    """The identity in inference; the mask, where the model reads it, is true everywhere."""
    if training is not None:
        mode, rate = node.constant(training), node.constant(ratio)
        drops = mode is None or bool(mode.reshape(-1)[0])
        if drops and (ratio is None or rate is None or rate.reshape(-1)[0] != 0):
            raise node.unsupported("dropout in training mode; export the model in evaluation mode")
    mask = [node.expand(node.const(np.True_, "bool"), node.dims(x))] if node.used(1) else []
    return [x, *mask]
