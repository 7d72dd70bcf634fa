"""Mixed precision: choose the layers that stay float, by a target signal-to-noise ratio of the outputs or a measured latency.

Layers are ordered by the noise in the network's outputs when one of them alone is quantized. Those with the most noise stay float: the fewest
with which the outputs reach the ratio, or the most with which the network is fast enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...ir.errors import TersorError
from ...ir.evaluate import at_batch_of, evaluate
from ...ir.graph import Graph
from ...ir.op import Op
from ...ir.ops import Dequantize, Quantize
from ..core.context import Batch, Context
from ..reconstruct.replay import inputs_in_chunks
from .paired import Noise
from .roles import data_operands

if TYPE_CHECKING:
    import torch

#: Images on which outputs are compared.
IMAGES = 16

Quantized = Callable[[Sequence[str]], Graph]


@dataclass
class Mixed:
    """The search for layers to keep float. quantized(skip): a copy of the graph with quantize/dequantize pairs, except at the layers in `skip`."""

    graph: Graph
    quantized: Quantized
    calibration: Sequence[Batch]
    ctx: Context

    def __post_init__(self) -> None:
        self.inputs = next(iter(inputs_in_chunks(self.graph, self.calibration, IMAGES, IMAGES)))
        self.expected = self._outputs(self.graph)

    def enough(self, sqnr: float) -> list[str]:
        """The fewest layers to keep float so that the outputs have at least `sqnr` dB."""
        order = self.order()
        kept = _least(len(order), lambda k: self.sqnr(self.quantized(order[:k])) >= sqnr)
        if kept is None:
            best = self.sqnr(self.quantized(order[:-1]))
            raise TersorError(f"sqnr={sqnr:g} dB is not reached: with {order[-1]} alone in integers the outputs have {best:.1f} dB")
        return order[:kept]

    def affordable(self, limit: float, milliseconds: Callable[[Graph], float]) -> list[str]:
        """The most layers that can stay float so that the network takes at most `limit` ms."""
        order = self.order()
        fast = milliseconds(self.quantized([]))
        if fast > limit:
            raise TersorError(f"latency={limit:g} ms is not reached: with every layer in integers the network takes {fast:.3f} ms")
        over = _least(len(order), lambda k: milliseconds(self.quantized(order[:k])) > limit)
        return order[: len(order) - 1 if over is None else max(over - 1, 0)]

    def order(self) -> list[str]:
        """Module paths of layers, the noisiest first."""
        pairs = self.quantized([])
        noise: dict[str, float] = {}
        layers = [op for op in pairs.ops if op.contraction and op.loc.path and _own(op)]
        for op in self.ctx.track(layers, "quantize: noise of each layer"):
            found = Noise()
            for y, got in zip(self.expected, self._outputs(pairs, _own(op))):
                found.add(y, got)
            noise[op.loc.path] = max(noise.get(op.loc.path, 0.0), found.noise)
        return sorted(noise, key=lambda path: -noise[path])

    def sqnr(self, graph: Graph) -> float:
        """SQNR of all outputs, in dB."""
        noise = Noise()
        for y, got in zip(self.expected, self._outputs(graph)):
            noise.add(y, got)
        return noise.sqnr

    def _outputs(self, graph: Graph, only: set[int] | None = None) -> list[torch.Tensor]:
        """only: positions of the quantize and dequantize operators that round; the others are the identity."""
        import torch

        run = at_batch_of(graph, self.inputs)
        places = {op: i for i, op in enumerate(run.ops)}

        def compute(op: Op, *xs: Any) -> Any:
            if only is not None and isinstance(op, Quantize | Dequantize) and places[op] not in only:
                return xs[0]
            return op.evaluate(*xs)

        with torch.no_grad():
            results = evaluate(run, self.inputs, compute=compute)
        return [y for y in results if y.is_floating_point()]


def _own(op: Op) -> set[int]:
    """Positions of the pairs that a layer reads."""
    graph = op.graph
    assert graph is not None
    pairs = [v.op for v in (*data_operands(op), *op.operands) if isinstance(v.op, Dequantize)]
    wanted = {o for pair in pairs for o in (pair, pair.x.op)}
    return {i for i, o in enumerate(graph.ops) if o in wanted}


def _least(count: int, holds: Callable[[int], bool]) -> int | None:
    """The least k from 0 to count - 1 for which a monotonic condition holds; None if there is none."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low if low < count else None
