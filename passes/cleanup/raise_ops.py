"""raise: arithmetic that an exporter decomposed, back to named operators."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import Add, Div, Erf, Gelu, GroupNorm, LayerNorm, Mean, Mul, Pow, Reshape, Rsqrt, Sqrt, Sub, Tanh
from ...ir.rewrite import Result, refuse, rewrite
from ..core.base import Pass, register_pass
from ..core.context import Context
from .identities import constant_right, splat


@register_pass
@dataclass(frozen=True)
class Raise(Pass):
    """Recognize operators that are decomposed into arithmetic, as in ONNX models of older opsets.

    0.5 * x * (1 + erf(x / sqrt(2)))                               ->  gelu(x)
    0.5 * x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3)))        ->  gelu(x, "tanh")
    (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps)              ->  layer_norm(x)         over the last axes
    reshape(instance_norm(reshape(x, (N, groups, -1))))            ->  group_norm(x)
    layer_norm(x) * gamma + beta                                   ->  layer_norm(x, gamma, beta), group_norm alike

    The factors of a product may come in any order. Hard-swish and hard-sigmoid are named by `simplify`, silu by `canonicalize`.
    """

    name = "raise"
    keeps = "numeric"
    tolerance = 1e-5

    def run(self, graph: Graph, ctx: Context) -> None:
        ctx.greedy(graph, constant_right, gelu, layer_norm, group_norm, norm_scale, norm_shift)


def factors(value: Value) -> tuple[float, list[Value]]:
    """The factors of a value that is a product: its numbers multiplied, and the others. Inner products have one reader."""
    number, rest = 1.0, []
    stack = [(value, True)]
    while stack:
        v, root = stack.pop()
        known = splat(v)
        if known is not None:
            number *= known
        elif isinstance(v.op, Mul) and (root or v.single_use):
            stack += [(v.op.a, False), (v.op.b, False)]
        elif isinstance(v.op, Div) and (root or v.single_use) and splat(v.op.b):
            number /= splat(v.op.b) or 1.0
            stack.append((v.op.a, False))
        else:
            rest.append(v)
    return number, rest


def close(a: float, b: float) -> bool:
    """Equal up to the rounding of a constant to the element type."""
    return math.isclose(a, b, rel_tol=1e-6)


def plus_one(value: Value, kind: type[Op]) -> Value | None:
    """t of `kind(t) + 1`"""
    match value.op:
        case Add(a=Value(op=inner), b=one) if isinstance(inner, kind) and splat(one) == 1:
            return inner.operands[0]
    return None


@rewrite
def gelu(op: Mul | Div) -> Result:
    """0.5 * x * (1 + erf(x / sqrt(2))) -> gelu(x),   0.5 * x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3))) -> gelu(x, "tanh")"""
    number, rest = factors(op.out)
    if len(rest) != 2 or not close(number, 0.5) or not op.out.type.is_float:
        return None
    for x, gate in (rest, rest[::-1]):
        if x.type != op.out.type:
            continue
        inner = plus_one(gate, Erf)
        if inner is not None and _is_scaled(inner, x, math.sqrt(0.5)):
            return Gelu(x)
        inner = plus_one(gate, Tanh)
        if inner is not None and _is_tanh_argument(inner, x):
            return Gelu(x, "tanh")
    return None


def _is_scaled(value: Value, x: Value, factor: float) -> bool:
    number, rest = factors(value)
    return len(rest) == 1 and rest[0] is x and close(number, factor)


def _is_tanh_argument(value: Value, x: Value) -> bool:
    """sqrt(2/pi) * (x + 0.044715 * x^3)"""
    number, rest = factors(value)
    if len(rest) != 1 or not close(number, math.sqrt(2 / math.pi)):
        return False
    match rest[0].op:
        case Add(a=a, b=b):
            return any(one is x and _is_cube(cubic, x) for one, cubic in ((a, b), (b, a)))
    return False


def _is_cube(value: Value, x: Value) -> bool:
    number, rest = factors(value)
    if len(rest) == 1 and isinstance(rest[0].op, Pow):
        return close(number, 0.044715) and rest[0].op.a is x and splat(rest[0].op.b) == 3
    return close(number, 0.044715) and len(rest) == 3 and all(v is x for v in rest)


@rewrite
def layer_norm(op: Div | Mul) -> Result:
    """(x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) -> layer_norm(x)   over the last axes"""
    found = _centered_and_eps(op)
    if found is None:
        return None
    centered, mean_square, eps = found
    match centered.op, mean_square.op:
        case Sub(a=x, b=Value(op=Mean() as mean)), Mean() as variance if mean.x is x:
            count = len(mean.axes)
            last = tuple(range(x.type.rank - count, x.type.rank))
            if not (count and mean.axes == variance.axes == last and mean.keepdim and variance.keepdim):
                return refuse("the mean is not over the last axes")
            return LayerNorm(x, axes=count, eps=eps) if _is_square(variance.x, x, mean) else None
    return None


def _centered_and_eps(op: Div | Mul) -> tuple[Value, Value, float] | None:
    """c, m and eps of c / sqrt(m + eps), or of c * rsqrt(m + eps)."""
    pairs = [(op.a, op.b)] if isinstance(op, Div) else [(op.a, op.b), (op.b, op.a)]
    for c, root in pairs:
        match root.op:
            case Sqrt(x=inner) | Rsqrt(x=inner) if isinstance(root.op, Sqrt) == isinstance(op, Div):
                match inner.op:
                    case Add(a=m, b=small) if (eps := splat(small)) is not None and eps >= 0:
                        return c, m, eps
    return None


def _is_square(value: Value, x: Value, mean: Mean) -> bool:
    """Whether a value is (x - mean)^2; the difference may be computed twice."""
    match value.op:
        case Mul(a=a, b=b) if a is b:
            base = a
        case Pow(a=a, b=two) if splat(two) == 2:
            base = a
        case _:
            return False
    match base.op:
        case Sub(a=a, b=Value(op=Mean() as other)):
            return a is x and other.x is x and (other.axes, other.keepdim) == (mean.axes, mean.keepdim)
    return False


@rewrite
def group_norm(op: Reshape) -> Result:
    """reshape(instance_norm(reshape(x, (N, groups, -1)))) -> group_norm(x)"""
    match op.x.op:
        case GroupNorm(x=Value(op=Reshape(x=x))) as norm if x.type == op.out.type and norm.groups == norm.x.shape[1]:
            plain = all(v is None or splat(v) == number for v, number in ((norm.gamma, 1), (norm.beta, 0)))
            if not plain or x.type.rank < 2 or x.shape[0] != norm.x.shape[0] or x.shape[1] % norm.groups:
                return None
            return GroupNorm(x, groups=norm.groups, eps=norm.eps)
    return None


@rewrite
def norm_scale(op: Mul) -> Result:
    """layer_norm(x) * gamma -> layer_norm(x, gamma),   group_norm(x) * gamma -> group_norm(x, gamma)"""
    norm = op.a.op
    if not isinstance(norm, LayerNorm | GroupNorm) or norm.gamma is not None or norm.beta is not None:
        return None
    gamma = _parameter(norm, op.b)
    if gamma is None or op.out.type != op.a.type:
        return None
    return norm.rebuilt(gamma=gamma, loc=op.loc) if op.a.single_use else refuse(f"the result of {norm.name} [{norm.loc}] has other readers")


@rewrite
def norm_shift(op: Add) -> Result:
    """layer_norm(x, gamma) + beta -> layer_norm(x, gamma, beta),   group_norm alike"""
    norm = op.a.op
    if not isinstance(norm, LayerNorm | GroupNorm) or norm.beta is not None:
        return None
    beta = _parameter(norm, op.b)
    if beta is None or op.out.type != op.a.type:
        return None
    return norm.rebuilt(beta=beta, loc=op.loc) if op.a.single_use else refuse(f"the result of {norm.name} [{norm.loc}] has other readers")


def _parameter(norm: LayerNorm | GroupNorm, value: Value) -> Value | None:
    """A constant in the shape that the norm takes: of the normalized axes, or of the channels."""
    if not isinstance(value.op, Const) or value.type.elem != norm.x.type.elem:
        return None
    rank = norm.x.type.rank
    shape = (1,) * (rank - value.type.rank) + value.shape
    if len(shape) != rank:
        return None
    wanted = norm.x.shape[-norm.axes :] if isinstance(norm, LayerNorm) else norm.x.shape[1:2]
    full = (1,) * (rank - norm.axes) + wanted if isinstance(norm, LayerNorm) else (1, *wanted, *(1,) * (rank - 2))
    if shape != full:
        return None
    return value if value.shape == wanted else Const(np.reshape(value.op.array, wanted), loc=value.op.loc).out
