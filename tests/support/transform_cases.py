"""A small network, and passes of each kind that `transform` distinguishes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pass_cases import graph_of

from tersor.ir import Const, Graph, Loc, Op, Value
from tersor.ir import ops as nn
from tersor.passes import (
    Context,
    LayerPass,
    Pass,
    register_pass,
)


def conv_bn_relu(x: Value) -> Op:
    rng = np.random.default_rng(3)
    bn = [Const(rng.uniform(0.5, 1.5, 4).astype(np.float32)) for _ in range(4)]
    w = Const(rng.standard_normal((4, 3, 3, 3)).astype(np.float32))
    return nn.Relu(nn.BatchNorm(nn.Conv2d(x, w, padding=(1, 1, 1, 1), loc=Loc("features.0")), *bn, loc=Loc("features.1")))


def network(batched: bool = True) -> Graph:
    return graph_of(conv_bn_relu, (1, 3, 6, 6), batched=batched)


@register_pass
@dataclass(frozen=True)
class Scale(LayerPass):
    """Multiply the weights of convolutions."""

    name = "test-scale"
    keeps = "lossy"
    by: float = 1.01

    def run(self, graph: Graph, ctx: Context) -> None:
        for conv in graph.find(nn.Conv2d):
            w = conv.operands[1].op
            assert isinstance(w, Const)
            graph.replace(conv, conv.rebuilt(w=Const(w.array * np.float32(self.at(conv).by))))


@register_pass
@dataclass(frozen=True)
class Claim(Pass):
    """Multiply every relu, whatever it declares."""

    name = "test-claim-exact"
    keeps = "exact"
    by: float = 1.0

    def run(self, graph: Graph, ctx: Context) -> None:
        for relu in graph.find(nn.Relu):
            assert isinstance(relu, nn.Relu)
            graph.replace(relu, nn.Mul(nn.Abs(nn.Relu(relu.x)), Const(np.float32(self.by))))


@register_pass
@dataclass(frozen=True)
class ClaimNumeric(Claim):
    """The same, declared numeric."""

    name = "test-claim-numeric"
    keeps = "numeric"
    tolerance = 1e-6


@register_pass
@dataclass(frozen=True)
class Fails(Pass):
    """Change the graph, then fail."""

    name = "test-fails"
    keeps = "exact"
    how: str = "key"

    def run(self, graph: Graph, ctx: Context) -> Any:
        graph.replace(graph.find(nn.Relu)[0], nn.Neg(graph.inputs[0]))
        if self.how == "type":
            return 3
        if self.how == "invalid":
            graph.ops.reverse()
            return None
        return {}[self.how]


@register_pass
@dataclass(frozen=True)
class Needs(Pass):
    """Ask the context for something."""

    name = "test-needs"
    keeps = "exact"
    what: str = "calibration"

    def run(self, graph: Graph, ctx: Context) -> None:
        getattr(ctx, f"need_{self.what}")(self)
