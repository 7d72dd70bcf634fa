"""Run a network with quantize/dequantize pairs beside the network without them, layer after layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...ir.op import Op, Value
from ...ir.ops import Dequantize, Quantize
from ..reconstruct import Replay
from .roles import data_operands, grid

if TYPE_CHECKING:
    import torch


class PairedReplay(Replay):
    """A `Replay` in whose first run quantize and dequantize are the identity."""

    def changes(self, op: Op) -> bool:
        return isinstance(op, Quantize | Dequantize)

    def _evaluated(self, op: Op, i: int, env: Any, memo: dict[Value, Any]) -> torch.Tensor:
        if env is not self._new and isinstance(op, Quantize | Dequantize):
            y: torch.Tensor = self._peek(op.x, i, env, memo)
            return y
        return super()._evaluated(op, i, env, memo)

    def alone(self, op: Op, i: int) -> torch.Tensor:
        """The result of a quantized layer on the inputs of the network without pairs, each rounded to its type."""
        data = data_operands(op)
        args: list[Any] = []
        for v in op.operands:
            elem = grid(v) if v in data else None
            given = self.original(v, i) if v in data else self.current(v, i)
            args.append(given if elem is None else fake(given, Quantize(v, elem)))
        args += [None] * (len(op.operand_fields) - len(args))
        y: torch.Tensor = op.evaluate(*args)
        return y


def fake(x: torch.Tensor, quantize: Quantize) -> torch.Tensor:
    """Quantized and dequantized."""
    y: torch.Tensor = Dequantize(quantize).evaluate(quantize.evaluate(x))
    return y


@dataclass
class Noise:
    """Signal and noise of one layer, summed up."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, y: torch.Tensor, got: torch.Tensor) -> None:
        """Add a chunk. y: the reference; got: the quantized result."""
        self.signal += float(y.double().square().sum())
        self.noise += float((got.double() - y.double()).square().sum())

    @property
    def sqnr(self) -> float:
        """10 log10(signal / noise), in dB."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal > 0 else -math.inf
