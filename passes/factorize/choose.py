"""Which layers are factorized, and to what size: by the error of each, by what is saved, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir.errors import TersorError
from ...ir.ops import Conv2d
from .design import Cost, Design


@dataclass(frozen=True)
class Option:
    """One way to factorize a layer: its relative error, and what it costs."""

    design: Design
    error: float
    cost: Cost


@dataclass(frozen=True)
class Layer:
    """A convolution and its options, each cheaper than itself."""

    conv: Conv2d
    options: Sequence[Option]


def within_error(layers: Sequence[Layer], most: Sequence[float | None]) -> list[Layer]:
    """The layers, each with only the options whose error is at most its entry of `most`."""
    return [Layer(x.conv, [o for o in x.options if m is None or o.error <= m]) for x, m in zip(layers, most)]


def cheapest(layers: Sequence[Layer]) -> list[Option | None]:
    """For each layer the option with the fewest MACs, None where it has no option."""
    return [min(x.options, key=lambda o: (o.cost.macs, o.error), default=None) for x in layers]


def within_budget(layers: Sequence[Layer], total: int, budget: float, what: str) -> list[Option | None]:
    """Options such that a graph of `total` MACs keeps at most `budget` of them, with little error.

    Greedy: from all layers as they are, take the step that adds the least squared error per MAC saved, until the budget is met. As the last
    step take the one that adds the least error among those that meet it. Raises a `TersorError` where no choice meets it.
    """
    allowed = budget * total
    least = total - sum(x.conv.macs() - o.cost.macs for x, o in zip(layers, cheapest(layers)) if o is not None)
    if least > allowed:
        raise TersorError(f"{what} cannot be met: the least that is left here is {least / total:.4g} of the MACs ({least} of {total})")
    chosen: list[Option | None] = [None] * len(layers)
    macs = total
    while macs > allowed:
        steps = []
        for i, (layer, now) in enumerate(zip(layers, chosen)):
            error, cost = (0.0, layer.conv.macs()) if now is None else (now.error, now.cost.macs)
            steps += [(o.error**2 - error**2, cost - o.cost.macs, i, o) for o in layer.options if o.cost.macs < cost]
        _, saved, i, option = min(steps, key=lambda s: s[0] / s[1])
        if macs - saved <= allowed:
            _, saved, i, option = min((s for s in steps if macs - s[1] <= allowed), key=lambda s: s[0])
        chosen[i] = option
        macs -= saved
    return chosen
