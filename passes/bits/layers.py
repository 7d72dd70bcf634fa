"""Which layers get few bits, and what the ledger says of each."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...ir.errors import TersorError
from ...ir.graph import Graph
from ...ir.op import Const, Op, Value
from ...ir.ops import Conv2d, Linear
from ..core.base import LayerPass
from ..core.context import Context

Layer = Conv2d | Linear


@dataclass(frozen=True)
class FewBits:
    """What became of a layer: its weights and inputs, or why it stays as it is."""

    layer: str
    weights: str
    inputs: str
    kept: str = ""


@dataclass(frozen=True)
class FewBitsPass(LayerPass):
    """Base of the passes that give layers few bits. ends: the first and the last layers too. exclude: patterns of module paths that stay."""

    ends: bool = False
    exclude: tuple[str, ...] = ()

    def each_layer(self, graph: Graph, ctx: Context, change: Callable[[Layer], FewBits]) -> None:
        """Change every layer that is not kept; a row in the ledger for each."""
        self._check_patterns(graph)
        changed = 0
        for layer, why in chosen(graph, self.ends, self.exclude):
            row = FewBits(name_of(layer), "float", "float", why) if why else change(layer)
            ctx.layers.append(row)
            changed += not row.kept
        graph.remove_dead()
        if not changed:
            reasons = "; ".join(dict.fromkeys(row.kept for row in ctx.layers)) or "there is no convolution and no linear layer"
            raise TersorError(f"no layer can get few bits: {reasons}")
        ctx.record(Counter({"layers": changed}))

    def _check_patterns(self, graph: Graph) -> None:
        paths = sorted({op.loc.path for op in graph if op.loc.path})
        for pattern in self.exclude:
            if not fnmatch.filter(paths, pattern):
                raise TersorError(f"exclude pattern {pattern!r} matches no op; module paths: {', '.join(paths[:12]) or 'none'}")


def chosen(graph: Graph, ends: bool, exclude: tuple[str, ...]) -> Iterator[tuple[Layer, str]]:
    """Every convolution and linear layer, with the reason why it stays (empty where it does not)."""
    layers = [op for op in graph.ops if isinstance(op, Layer)]
    first, last = first_layers(graph), last_layers(graph)
    for layer in layers:
        if any(fnmatch.fnmatchcase(layer.loc.path, pattern) for pattern in exclude):
            yield layer, "excluded"
        elif layer in first and not ends:
            yield layer, "first layer"
        elif layer in last and not ends:
            yield layer, "last layer"
        elif not isinstance(layer.w.op, Const):
            yield layer, f"its weights are not constant but of {layer.w.op.name if layer.w.op else 'an input'}"
        else:
            yield layer, ""


def first_layers(graph: Graph) -> set[Op]:
    """Layers whose input has gone through no other layer."""
    behind: set[Value] = set()
    found: set[Op] = set()
    for op in graph.ops:
        fresh = behind.isdisjoint(op.operands)
        if isinstance(op, Layer) and fresh:
            found.add(op)
        if isinstance(op, Layer) or not fresh:
            behind.update(op.outs)
    return found


def last_layers(graph: Graph) -> set[Op]:
    """Layers whose result goes through no other layer."""
    before: set[Value] = set()
    found: set[Op] = set()
    for op in reversed(graph.ops):
        fresh = before.isdisjoint(op.outs)
        if isinstance(op, Layer) and fresh:
            found.add(op)
        if isinstance(op, Layer) or not fresh:
            before.update(op.operands)
    return found


def name_of(op: Op) -> str:
    """The module path of a layer, else the name of its result."""
    return op.loc.path or op.out.name or op.name
