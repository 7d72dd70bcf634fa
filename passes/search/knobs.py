"""The parameters of a search: one ratio for each layer of `prune-channels` or `sparsify`, and the network's cost at given ratios."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.ops import Conv2d
from ..coupling import Coupling, Layer, inputs_of, source, weight
from ..prune.spaces import Choice, Cost, spaces_of
from ..sparse.layers import select


@dataclass(frozen=True)
class Knob:
    """A layer. path: its module path. facts: kind, input and output channels, kernel, stride, height, width; macs: of one run."""

    path: str
    facts: tuple[float, ...]
    macs: int


class Knobs(ABC):
    """The layers of a graph in order, for one pass. options: of the pass, as they stand in a pipeline string, besides the ratios."""

    name: str

    def __init__(self, graph: Graph, options: str):
        self.options = options
        self.whole = graph.macs()
        self.knobs = self._knobs(graph)
        paths = [k.path for k in self.knobs]
        if "" in paths or len(set(paths)) < len(paths):
            raise TersorError("search names layers by their module paths, and some have none, or the same one: trace the module, or give paths")

    @abstractmethod
    def _knobs(self, graph: Graph) -> list[Knob]:
        """The layers."""

    @abstractmethod
    def cost(self, ratios: Sequence[float]) -> float:
        """The share of multiply-accumulates that is left when these shares of the layers are removed."""

    @abstractmethod
    def base(self) -> str:
        """The pass's options that leave every layer unchanged, except for `layers`, whose entries set `option`."""

    option: str

    def pipeline(self, ratios: Sequence[float]) -> str:
        """The pass with a ratio for each layer."""
        layers = " ".join(f"{json.dumps(k.path)}: {{{self.option}={r:.4f}}}" for k, r in zip(self.knobs, ratios))
        return f"{self.name}{{{self.base()} {self.options} layers={{{layers}}}}}".replace("  ", " ")


class Weights(Knobs):
    """The sparsity of each layer of `sparsify`; its multiply-accumulates are those with weights that are not zero."""

    name, option = "sparsify", "sparsity"

    def _knobs(self, graph: Graph) -> list[Knob]:
        layers, _ = select(graph, (), False)
        return [Knob(layer.loc.path, facts(layer), layer.macs()) for layer in layers]

    def base(self) -> str:
        return "sparsity=0.0"

    def cost(self, ratios: Sequence[float]) -> float:
        return 1 - sum(r * k.macs for r, k in zip(ratios, self.knobs)) / self.whole


class Channels(Knobs):
    """The share of channels to remove from each space of `prune-channels`."""

    name, option = "prune-channels", "ratio"

    def _knobs(self, graph: Graph) -> list[Knob]:
        coupling = Coupling(graph)
        # sampled inputs of a branch belong to no layer's ratio
        spaces = [s for s in spaces_of(coupling, Choice()) if not s.sampled]
        if not spaces:
            raise TersorError("search finds no channel that can be pruned; tersor.passes.coupling.explain(graph) says what bars each layer")
        self._spaces, self._cost = spaces, Cost(coupling, spaces)
        return [Knob(s.producers[0].loc.path, facts(s.producers[0]), s.producers[0].macs()) for s in spaces]

    def base(self) -> str:
        return "ratio=0.0001 per_layer=uniform sample_inputs=false"

    def cost(self, ratios: Sequence[float]) -> float:
        keep = np.array([s.keep(1 - r) for s, r in zip(self._spaces, ratios)], np.int64)
        return self._cost(keep) / self.whole


def facts(layer: Layer) -> tuple[float, ...]:
    """The features of a layer in AMC's state (1802.03494, section 3.1): kind, channels, kernel, stride, size of the input."""
    value, axis = source(layer)
    inputs = 1 if inputs_of(layer) is None else value.shape[axis]
    outputs = float(weight(layer).shape[0])
    if isinstance(layer, Conv2d):
        _, _, height, width = value.shape
        return 1.0, outputs, float(inputs), float(layer.kernel[0]), float(layer.stride[0]), float(height), float(width)
    return 0.0, outputs, float(inputs), 1.0, 1.0, 1.0, 1.0


KNOBS: dict[str, type[Knobs]] = {"prune-channels": Channels, "sparsify": Weights}
