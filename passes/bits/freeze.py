"""freeze-bits: after training, weights of few levels as constants."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ...ir.errors import TersorError
from ...ir.evaluate import run, to_numpy, to_torch
from ...ir.graph import Graph
from ...ir.op import Const
from ...ir.ops import QuantizeGradient
from ...ir.ops.bits import WeightQuantizer
from ..core.base import Pass, register_pass
from ..core.context import Context


@dataclass(frozen=True)
class Frozen:
    """A weight that was frozen: how many values it takes, and how the compiled network computes with it."""

    layer: str
    operator: str
    values: int
    runs: str = "float simulation"


@register_pass
@dataclass(frozen=True)
class FreezeBits(Pass):
    """Compute the weights of few levels as constants, so that the graph can be compiled, as a float simulation.

    bits.ternarize_weight(w)  ->  constant of -alpha, 0, alpha per filter
    bits.quantize_gradient(x) ->  x

    The outputs keep every bit. The weights are stored and multiplied as floats that take few values, which the ledger calls a float
    simulation; to-bits gives packed kernels instead. The float weights that they were computed from are dropped, so run it after training.
    """

    name = "freeze-bits"
    keeps = "exact"

    def run(self, graph: Graph, ctx: Context) -> None:
        quantizers = [op for op in graph.ops if isinstance(op, WeightQuantizer)]
        for op in quantizers:
            if not isinstance(op.w.op, Const):
                raise TersorError(f"the weight of {op.name} [{op.loc}] is not constant but of {op.w.op.name if op.w.op else 'an input'}")
            (value,) = run(op, [to_torch(op.w.op.array)])
            array = np.array(to_numpy(value), order="C")
            levels = max(len(np.unique(filter)) for filter in array.reshape(len(array), -1))
            ctx.layers.append(Frozen(op.loc.path or op.out.name, op.name, levels))
            graph.replace(op, Const(array, loc=op.loc))
        gradients = [op for op in graph.ops if isinstance(op, QuantizeGradient)]
        for gradient in gradients:
            graph.replace(gradient, gradient.x)
        graph.remove_dead()
        ctx.record(Counter({"weights": len(quantizers), "gradients": len(gradients)}))
