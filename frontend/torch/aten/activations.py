"""Activations and other functions of one tensor."""

from __future__ import annotations

import math

from ....ir.op import Op, Value
from ....ir.ops import (
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Ceil,
    Clip,
    Cos,
    Cosh,
    Div,
    Elu,
    Equal,
    Erf,
    Exp,
    Expm1,
    Floor,
    Gelu,
    Greater,
    GreaterEqual,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Less,
    LessEqual,
    Log,
    Log1p,
    Log2,
    Log10,
    LogicalNot,
    Maximum,
    Minimum,
    Mul,
    Neg,
    NotEqual,
    Pow,
    Prelu,
    Relu,
    Round,
    Rsqrt,
    Sigmoid,
    Silu,
    Sin,
    Sinh,
    Softplus,
    Sqrt,
    Sub,
    Tan,
    Tanh,
    Where,
)
from ...call import Call
from ...registry import converter

#: Operators that become an op of one operand, cast to the type of the result.
UNARY: dict[str, type[Op]] = {
    "relu": Relu,
    "sigmoid": Sigmoid,
    "hardsigmoid": HardSigmoid,
    "hardswish": HardSwish,
    "silu": Silu,
    "tanh": Tanh,
    "exp": Exp,
    "expm1": Expm1,
    "log": Log,
    "log1p": Log1p,
    "log2": Log2,
    "log10": Log10,
    "sqrt": Sqrt,
    "rsqrt": Rsqrt,
    "neg": Neg,
    "abs": Abs,
    "floor": Floor,
    "ceil": Ceil,
    "round": Round,
    "erf": Erf,
    "asinh": Asinh,
    "sin": Sin,
    "cos": Cos,
    "tan": Tan,
    "asin": Asin,
    "acos": Acos,
    "atan": Atan,
    "sinh": Sinh,
    "cosh": Cosh,
    "acosh": Acosh,
    "atanh": Atanh,
}


def _register(name: str, kind: type[Op]) -> None:
    @converter(f"aten.{name}.default")
    def convert(call: Call, x: Value) -> Op:
        return kind(call.cast(x, call.elem))


for _name, _kind in UNARY.items():
    _register(_name, _kind)


@converter("aten.hardtanh.default")
def hardtanh(call: Call, x: Value, low: float = -1.0, high: float = 1.0) -> Value:
    return clamp(call, x, low, high)


@converter("aten.clamp.default", "aten.clip.default")
def clamp(call: Call, x: Value, min: float | None = None, max: float | None = None) -> Value:
    x = call.cast(x, call.elem)
    if min is not None and max is not None and min > max:
        return call.expand(call.cast(max, call.elem), (), call.shape)  # torch's rule: everything becomes max
    return Clip(x, -math.inf if min is None else float(min), math.inf if max is None else float(max)).out


@converter("aten.clamp_min.default")
def clamp_min(call: Call, x: Value, min: float) -> Value:
    return clamp(call, x, min)


@converter("aten.clamp_max.default")
def clamp_max(call: Call, x: Value, max: float) -> Value:
    return clamp(call, x, None, max)


@converter("aten.clamp.Tensor", "aten.clip.Tensor")
def clamp_tensor(call: Call, x: Value, min: Value | None = None, max: Value | None = None) -> Value:
    x = call.cast(x, call.elem)
    if min is not None:
        x = Maximum(x, call.cast(min, call.elem)).out
    return x if max is None else Minimum(x, call.cast(max, call.elem)).out


@converter("aten.clamp_min.Tensor")
def clamp_min_tensor(call: Call, x: Value, min: Value) -> Value:
    return clamp_tensor(call, x, min)


@converter("aten.clamp_max.Tensor")
def clamp_max_tensor(call: Call, x: Value, max: Value) -> Value:
    return clamp_tensor(call, x, None, max)


@converter("aten.leaky_relu.default")
def leaky_relu(call: Call, x: Value, slope: float = 0.01) -> Op:
    return LeakyRelu(x, float(slope))


@converter("aten.prelu.default", "aten._prelu_kernel.default")
def prelu(call: Call, x: Value, w: Value) -> Op:
    return Prelu(x, call.reshape(w, (w.type.size,)))


@converter("aten.gelu.default")
def gelu(call: Call, x: Value, *, approximate: str = "none") -> Op:
    return Gelu(x, approximate)


@converter("aten.elu.default")
def elu(call: Call, x: Value, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Op:
    y: Op = Elu(x, float(alpha))
    if input_scale != 1:
        y = Where(Greater(x, call.cast(0, call.elem)), x, Elu(Mul(x, call.cast(input_scale, call.elem)), float(alpha)))
    return y if scale == 1 else Mul(y, call.cast(scale, call.elem))


@converter("aten.celu.default")
def celu(call: Call, x: Value, alpha: float = 1.0) -> Op:
    return elu(call, x, alpha, 1.0, 1.0 / alpha)


@converter("aten.selu.default")
def selu(call: Call, x: Value) -> Op:
    """Klambauer et al., 1706.02515"""
    return elu(call, x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


@converter("aten.softplus.default")
def softplus(call: Call, x: Value, beta: float = 1.0, threshold: float = 20.0) -> Op:
    """log(1 + exp(beta x)) / beta, and x itself where beta x is above the threshold"""
    if beta == 1 and threshold == 20:
        return Softplus(x)
    scaled = Mul(x, call.cast(beta, call.elem)).out
    limit = call.cast(threshold, call.elem)
    return Where(Greater(scaled, limit), x, Div(Log1p(Exp(Minimum(scaled, limit))), call.cast(beta, call.elem)))


@converter("aten.mish.default")
def mish(call: Call, x: Value) -> Op:
    """x * tanh(softplus(x)) (1908.08681)"""
    return Mul(x, Tanh(Softplus(x)))


@converter("aten.log_sigmoid_forward.default")
def log_sigmoid_forward(call: Call, x: Value) -> list[Op | None]:
    return [log_sigmoid(call, x), None]


@converter("aten.log_sigmoid.default")
def log_sigmoid(call: Call, x: Value) -> Op:
    """-softplus(-x)"""
    return Neg(Softplus(Neg(x)))


@converter("aten.threshold.default")
def threshold(call: Call, x: Value, threshold: float, value: float) -> Op:
    """value where x <= threshold, else x: NaN stays"""
    return Where(LessEqual(x, call.cast(threshold, call.elem)), call.cast(value, call.elem), x)


@converter("aten.hardshrink.default")
def hardshrink(call: Call, x: Value, lambd: float = 0.5) -> Op:
    """0 where |x| <= lambd, else x: NaN stays"""
    return Where(LessEqual(Abs(x), call.cast(lambd, call.elem)), call.cast(0, call.elem), x)


@converter("aten.softshrink.default")
def softshrink(call: Call, x: Value, lambd: float = 0.5) -> Op:
    """x - clip(x, -lambd, lambd)"""
    return Sub(x, Clip(x, -float(lambd), float(lambd)))


@converter("aten.glu.default")
def glu(call: Call, x: Value, dim: int = -1) -> Op:
    from .shapes import cut

    axis = call.axis(dim, x.type.rank)
    half = call.static(x, axis) // 2
    return Mul(cut(x, axis, 0, half), Sigmoid(cut(x, axis, half, 2 * half)))


@converter("aten.reciprocal.default")
def reciprocal(call: Call, x: Value) -> Op:
    return Div(call.cast(1, call.elem), call.cast(x, call.elem))


@converter("aten.square.default")
def square(call: Call, x: Value) -> Op:
    return Mul(x, x)


@converter("aten.exp2.default")
def exp2(call: Call, x: Value) -> Op:
    """pow(2, x); exp(x ln2) would multiply the rounding error of x ln2 by its size"""
    return Pow(call.cast(2, call.elem), call.cast(x, call.elem))


@converter("aten.sign.default")
def sign(call: Call, x: Value) -> Op:
    zero = call.cast(0, call.elem)
    one, minus = call.cast(1, call.elem), call.cast(-1, call.elem)
    return Where(Greater(x, zero), one, Where(Less(x, zero), minus, zero))


@converter("aten.trunc.default")
def trunc(call: Call, x: Value) -> Op:
    return Where(GreaterEqual(x, call.cast(0, call.elem)), Floor(x), Ceil(x))


@converter("aten.round.decimals")
def round_decimals(call: Call, x: Value, *, decimals: int) -> Op:
    """rint(x * 10^d) / 10^d, for negative d rint(x / 10^-d) * 10^-d"""
    if not x.type.is_float:
        raise call.unsupported(f"round of {x.type.elem} to decimals; valid: floats")
    power = call.cast(10.0 ** abs(decimals), call.elem)
    return Div(Round(Mul(x, power)), power) if decimals > 0 else Mul(Round(Div(x, power)), power)


@converter("aten.isnan.default")
def isnan(call: Call, x: Value) -> Op:
    return NotEqual(x, x)


@converter("aten.isinf.default")
def isinf(call: Call, x: Value) -> Op:
    return Equal(Abs(x), call.cast(math.inf, str(x.type.elem)))


@converter("aten.isfinite.default")
def isfinite(call: Call, x: Value) -> Op:
    return Less(Abs(x), call.cast(math.inf, str(x.type.elem)))


@converter("aten.logical_not.default")
def logical_not(call: Call, x: Value) -> Op:
    return LogicalNot(call.truth(x))
