"""Quantization-aware training: fake-quantize operators before training, quantize/dequantize pairs after it.

    batch_norm(conv2d(x, w))      ->  quant.fake_conv_norm2d(x, w, …)           before training: fold-bn would fold running statistics
    conv2d(x, w)                  ->  conv2d(x, fake(w))
    relu(x)                       ->  fake(relu(x), low, high)                  wherever `quantize` places a pair
    fake(x, low, high)            ->  dq(q(x))                                  after training, by `to-integer`
    fake_conv_norm2d(x, w, …)     ->  conv2d(x, dq(q(w k))), k = gamma / sqrt(var + eps)

Each fake operator rounds to the numbers of the type that it becomes, so after training only biases are rounded anew, to i32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...ir.errors import TersorError
from ...ir.evaluate import to_numpy, to_torch
from ...ir.graph import Graph
from ...ir.op import Const, Loc, Op, Value
from ...ir.ops import BatchNorm, Conv2d, ConvTranspose2d, Dequantize, Fake, FakeConvNorm2d, Linear, Quantize
from ...ir.rewrite import Result, Rewrite, rewrite
from .weights import scale_axis

if TYPE_CHECKING:
    import torch

Range = tuple[float, float]


# -- before training ---------------------------------------------------------------------------


def join_norms(per_channel: bool) -> Rewrite:
    """The pattern that joins a convolution and its norm into one layer."""

    @rewrite
    def join_norm(bn: BatchNorm) -> Result:
        """batch_norm(conv2d(x, w, b)) -> quant.fake_conv_norm2d(x, w, …, b)"""
        conv = bn.x.op
        if not isinstance(conv, Conv2d) or not conv.out.single_use or bn.out.type.elem != "f32":
            return None
        if not all(isinstance(v.op, Const) for v in (conv.w, bn.gamma, bn.beta, bn.mean, bn.var)):
            return None
        geometry = {f.name: getattr(conv, f.name) for f in conv.attr_fields}
        statistics = {name: getattr(bn, name) for name in ("gamma", "beta", "mean", "var", "eps")}
        return FakeConvNorm2d(conv.x, conv.w, conv.b, **geometry, **statistics, per_channel=per_channel, loc=conv.loc)

    return join_norm


def fake_activations(graph: Graph, groups: Sequence[tuple[Sequence[Value], Range]]) -> None:
    """v -> fake(v, low, high) for each value; the values of a group share one range."""
    order = {op: i for i, op in enumerate(graph.ops)}
    for values, ends in groups:
        first = min((op for v in values for op in v.users), key=order.__getitem__)
        low, high = (graph.insert_before(first, Const(np.float32(end))) for end in ends)
        base = values[0].name or "activation"
        low.op.out.name, high.op.out.name = f"{base}.low", f"{base}.high"  # type: ignore[union-attr]
        for v in values:
            _insert(graph, v, low, high, min(v.users, key=order.__getitem__))


def _insert(graph: Graph, v: Value, low: Value, high: Value, first: Op) -> None:
    readers = v.users
    new = graph.insert_before(first, Fake(v, low, high, loc=v.op.loc if v.op is not None else Loc()))
    for reader in readers:
        reader.replace_operand(v, new)
    if v in graph.outputs:
        graph.set_outputs([new if o is v else o for o in graph.outputs], graph.output_names, graph.structure)


def fake_weights(graph: Graph, layer: Op, per_channel: bool) -> None:
    """layer(x, w) -> layer(x, fake(w)); a layer joined with its norm rounds its weights itself."""
    if isinstance(layer, Conv2d | ConvTranspose2d | Linear):
        axis = scale_axis(layer) if per_channel else None
        new = graph.insert_before(layer, Fake(layer.w, None, None, "i8", axis, True, loc=layer.loc))
        layer.replace_operand(layer.w, new)


# -- after training ----------------------------------------------------------------------------


@rewrite
def settle_norm(op: FakeConvNorm2d) -> Result:
    """quant.fake_conv_norm2d(x, w, …) -> conv2d(x, fake(w k), (b - mean) k + beta)"""
    w, gamma, beta, mean, var = (_array(op, name) for name in ("w", "gamma", "beta", "mean", "var"))
    b = None if op.b is None else _array(op, "b")
    k = op.factor(gamma, var)
    new_w, new_b = Const(to_numpy(op.folded(w, k)), loc=op.loc), Const(to_numpy(op.bias(k, beta, mean, b)), loc=op.loc)
    new_w.out.name, new_b.out.name = op.w.name, f"{op.w.name}.bias" if op.b is None else op.b.name
    geometry = {f.name: getattr(op, f.name) for f in Conv2d.attr_fields}
    return Conv2d(op.x, op.fake(new_w), new_b, **geometry, loc=op.loc)


@rewrite
def settle_fake(op: Fake) -> Result:
    """quant.fake(x, low, high) -> dq(q(x))"""
    ends = op.ends(_array(op, "x")) if op.low is None else (_array(op, "low"), _array(op, "high"))
    return Dequantize(Quantize(op.x, op.integer_type(*ends), loc=op.loc), loc=op.loc)


def _array(op: Op, name: str) -> torch.Tensor:
    v: Value = getattr(op, name)
    if not isinstance(v.op, Const):
        raise TersorError(f"{op.name} [{op.loc}] is not of constant {name}, so it has no integer type")
    return to_torch(v.op.array)


#: The patterns that turn fake-quantize operators into quantize/dequantize pairs.
SETTLE = (settle_norm, settle_fake)
