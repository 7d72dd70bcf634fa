"""Elementwise ops that ONNX has as operators; all others are expanded into the nodes of their `f`."""

from __future__ import annotations

import math

from ....ir.op import Op
from ....ir.ops import (
    Abs,
    Add,
    Cast,
    Ceil,
    Clip,
    Div,
    Elementwise,
    Elu,
    Equal,
    Erf,
    Exp,
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
    LogicalAnd,
    LogicalNot,
    LogicalOr,
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
    Softplus,
    Sqrt,
    Sub,
    Tanh,
    Where,
)
from .builder import Builder, data_type
from .maths import OnnxMath, Term
from .registry import onnx_exporter

NAMES: dict[type[Op], str] = {
    Abs: "Abs",
    Add: "Add",
    Div: "Div",
    Equal: "Equal",
    Erf: "Erf",
    Exp: "Exp",
    Greater: "Greater",
    GreaterEqual: "GreaterOrEqual",
    HardSwish: "HardSwish",
    Less: "Less",
    LessEqual: "LessOrEqual",
    Log: "Log",
    LogicalAnd: "And",
    LogicalNot: "Not",
    LogicalOr: "Or",
    Maximum: "Max",
    Minimum: "Min",
    Mul: "Mul",
    Pow: "Pow",
    Relu: "Relu",
    Sigmoid: "Sigmoid",
    Softplus: "Softplus",
    Sqrt: "Sqrt",
    Sub: "Sub",
    Tanh: "Tanh",
    Where: "Where",
}


@onnx_exporter(*NAMES)
def named(b: Builder, op: Op, *xs: str) -> str:
    return b.node(NAMES[type(op)], *xs)


@onnx_exporter(Elementwise)
def written_out(b: Builder, op: Elementwise, *xs: str) -> str:
    """The nodes that `f` consists of."""
    terms = [Term(b, x, str(v.type.elem)) for x, v in zip(xs, op.operands)]
    result: str = op.f(OnnxMath(b), *terms).name
    return b.node("Identity", result) if result in xs else result


@onnx_exporter(Floor, Ceil, Round)
def rounded(b: Builder, op: Op, x: str) -> str:
    return b.node(type(op).__name__ if op.out.type.is_float else "Identity", x)


@onnx_exporter(Neg)
def neg(b: Builder, op: Neg, x: str) -> str:
    return b.node("Neg", x) if op.x.type.elem != "u8" else b.node("Sub", b.const(0, "u8"), x)


@onnx_exporter(Rsqrt)
def rsqrt(b: Builder, op: Rsqrt, x: str) -> str:
    return b.node("Reciprocal", b.node("Sqrt", x))


@onnx_exporter(Cast)
def cast(b: Builder, op: Cast, x: str) -> str:
    return b.node("Cast", x, to=data_type(op.elem))


@onnx_exporter(NotEqual)
def not_equal(b: Builder, op: NotEqual, x: str, y: str) -> str:
    return b.node("Not", b.node("Equal", x, y))


@onnx_exporter(Clip)
def clip(b: Builder, op: Clip, x: str) -> str:
    low, high = (b.const(v, str(op.x.type.elem)) if math.isfinite(v) else None for v in (op.min, op.max))
    return b.node("Clip", x, low, high)


@onnx_exporter(LeakyRelu)
def leaky_relu(b: Builder, op: LeakyRelu, x: str) -> str:
    return b.node("LeakyRelu", x, alpha=op.slope)


@onnx_exporter(Elu)
def elu(b: Builder, op: Elu, x: str) -> str:
    return b.node("Elu", x, alpha=op.alpha)


@onnx_exporter(Gelu)
def gelu(b: Builder, op: Gelu, x: str) -> str:
    return b.node("Gelu", x, approximate=op.approximate)


@onnx_exporter(HardSigmoid)
def hard_sigmoid(b: Builder, op: HardSigmoid, x: str) -> str:
    return b.node("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@onnx_exporter(Silu)
def silu(b: Builder, op: Silu, x: str) -> str:
    return b.node("Mul", x, b.node("Sigmoid", x))


@onnx_exporter(Prelu)
def prelu(b: Builder, op: Prelu, x: str, w: str) -> str:
    """ONNX aligns the slopes from the right."""
    return b.node("PRelu", x, b.node("Reshape", w, b.ints((-1, *(1,) * max(0, op.x.type.rank - 2)))))
