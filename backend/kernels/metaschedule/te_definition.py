"""A fusion as a plain definition in TVM's tensor expressions, from which a search for schedules starts.

    conv2d      y[n, o, i, j, l] = sum over c, r, s of x[n, c, i*sh + r*dh - top, j*sw + s*dw - left] * w[o, r, s, c, l]
    depthwise   y[n, o, i, j, l] = sum over r, s of x[n, o, …, …, l] * w[o, r, s, l]
    linear      y[m, n] = sum over k of x[m, k] * w[n / lanes, k, n % lanes]

then bias and epilogue, element by element. Feature maps have the layout that assign-layouts chose; constants are packed as written here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import te
from tvm import tirx as t

from ....ir.op import Value
from ....ir.ops import Elementwise, Linear
from ...codegen.builder import Expr, const, expression
from ...codegen.ieee import keep_differences
from ...codegen.tir_math import TirMath
from ...target import Target
from ...tile.fusion import Fusion, operand_kind
from ...tile.ops import TileConv2d, block
from ..cpu.conv.template import conv_window, padded_bias


def refusal(fusion: Fusion) -> str:
    """Why a fusion has no definition; empty where it has one."""
    op: Any = fusion.anchor
    if len(fusion.segments) > 1:
        return "a chain of several convolutions"
    if not isinstance(op, (TileConv2d, Linear)):
        return f"{op.name} is no convolution and no linear layer"
    if any(v.type.elem != "f32" for o in fusion.ops for v in (*o.operands, o.out)):
        return "not all of it is f32"
    if fusion.array(op.w) is None or (op.b is not None and fusion.array(op.b) is None):
        return "weights or bias are computed"
    if isinstance(op, TileConv2d):
        g = conv_window(fusion)
        if not g.lanes:
            return "its result is plain"
        if g.groups > 1 and not g.depthwise:
            return "grouped convolution"
    for o in fusion.epilogue:
        if isinstance(o, Elementwise) and o.transcendental:
            return f"{o.name} in the epilogue has exponentials"
    if any(operand_kind(v.type, fusion.out) == "other" for v in fusion.extra):
        return "its epilogue reads an operand of another form than the result"
    return ""


def packed(fusion: Fusion, target: Target) -> dict[Value, np.ndarray]:
    """Weights and bias as the definition reads them; lanes past the last channel are zero."""
    op: Any = fusion.anchor
    w = fusion.array(op.w)
    assert w is not None
    lanes = target.lanes
    blocks = -(-len(w) // lanes)
    full = np.zeros((blocks * lanes, *w.shape[1:]), np.float32)
    full[: len(w)] = w
    full = np.moveaxis(full.reshape(blocks, lanes, *w.shape[1:]), 1, -1)
    if isinstance(op, TileConv2d):
        # [block][channel][kh][kw][lane] -> [block][kh][kw][channel][lane]; a depthwise one has no channels there
        full = full[:, 0] if conv_window(fusion).depthwise else full.transpose(0, 2, 3, 1, 4)
    result = {op.w: np.ascontiguousarray(full)}
    if op.b is not None:
        result[op.b] = padded_bias(fusion.array(op.b), len(w), lanes).reshape(blocks, lanes)
    return result


def define(fusion: Fusion, target: Target) -> Any:
    """The PrimFunc of a fusion over its arguments, in order, and its result."""
    constants = packed(fusion, target)
    tensors: dict[Value, Any] = {}
    for i, v in enumerate(fusion.op.body.inputs):
        shape = constants[v].shape if v in constants else v.type.shape or (1,)
        tensors[v] = te.placeholder(shape, name=f"a{i}")
    op: Any = fusion.anchor
    anchor = _conv2d(fusion, tensors) if isinstance(op, TileConv2d) else _linear(fusion, tensors, target.lanes)
    out = anchor
    if op.b is not None or fusion.epilogue:
        out = te.compute(anchor.shape, lambda *at: _epilogue(fusion, tensors, anchor, at, target.lanes), name="epilogue")
    return te.create_prim_func([*tensors.values(), out])


def _conv2d(fusion: Fusion, tensors: dict[Value, Any]) -> Any:
    op: Any = fusion.anchor
    g, x, w = conv_window(fusion), tensors[op.x], tensors[op.w]
    bottom, right = op.padding[1], op.padding[3]
    lanes = block(op.x.type.layout)
    if any(op.padding):

        def bordered(n: Expr, c: Expr, i: Expr, j: Expr, *lane: Expr) -> Expr:
            inside = t.all(i >= g.top, i < g.h + g.top, j >= g.left, j < g.w + g.left)
            return t.if_then_else(inside, tensors[op.x][(n, c, i - g.top, j - g.left, *lane)], const(0.0))

        n, c, h, width, *lane = op.x.type.shape
        x = te.compute((n, c, h + g.top + bottom, width + g.left + right, *lane), bordered, name="pad")
    r, s = te.reduce_axis((0, g.kh), name="r"), te.reduce_axis((0, g.kw), name="s")
    c = te.reduce_axis((0, g.c), name="c")

    def taps(n: Expr, o: Expr, i: Expr, j: Expr, lane: Expr) -> Expr:
        y, z = i * g.sh + r * g.dh, j * g.sw + s * g.dw
        if g.depthwise:
            return te.sum(x[n, o, y, z, lane] * w[o, r, s, lane], axis=[r, s])
        at = (n, t.floordiv(c, lanes), y, z, t.floormod(c, lanes)) if lanes else (n, c, y, z)
        return te.sum(x[at] * w[o, r, s, c, lane], axis=[c, r, s])

    return te.compute(op.out.type.shape, taps, name="conv2d")


def _linear(fusion: Fusion, tensors: dict[Value, Any], lanes: int) -> Any:
    op: Any = fusion.anchor
    x, w = tensors[op.x], tensors[op.w]
    k = te.reduce_axis((0, op.x.shape[-1]), name="k")

    def product(*at: Expr) -> Expr:
        return te.sum(x[(*at[:-1], k)] * w[t.floordiv(at[-1], lanes), k, t.floormod(at[-1], lanes)], axis=k)

    return te.compute(op.out.type.shape, product, name="linear")


class _PlainMath(TirMath):
    """`TirMath` without statements: every value is one expression."""

    def __init__(self) -> None:
        pass

    def _named(self, x: Expr) -> Expr:
        return x

    def _fence(self, x: Expr) -> Expr:
        return x


def _epilogue(fusion: Fusion, tensors: dict[Value, Any], anchor: Any, at: tuple[Expr, ...], lanes: int) -> Expr:
    op: Any = fusion.anchor
    value = anchor(*at)
    if op.b is not None:
        bias = tensors[op.b]
        value = value + (bias[at[1], at[4]] if isinstance(op, TileConv2d) else bias[t.floordiv(at[-1], lanes), t.floormod(at[-1], lanes)])
    values = {op.out: value}

    def read(v: Value) -> Expr:
        if v in values:
            return values[v]
        shape = v.type.shape or (1,)
        return tensors[v](*(const(0, "int32") if size == 1 else i for size, i in zip(shape, at[len(at) - len(shape) :])))

    for o in fusion.epilogue:
        values[o.out] = keep_differences(expression(o.f(_PlainMath(), *(read(v) for v in o.operands))))  # type: ignore[attr-defined]
    return values[fusion.result]
