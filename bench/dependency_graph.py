"""Torch-Pruning (Fang et al., 2301.12900) on our networks: the channels that it removes for a MAC budget, and our repair of the result."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tersor.ir.graph import Graph
from tersor.ir.ops import Conv2d
from tersor.passes.core.context import Context
from tersor.passes.coupling import Coupling
from tersor.passes.prune.layerwise import Pruning, Settings

from .fashion import Images
from .fashion_networks import Residual, count_macs

#: Largest share of a layer to remove. A group that would lose all its channels is skipped by Torch-Pruning, so that a higher ratio would
#: remove less; with this, each of our layers, of 16 channels and more, keeps one.
MOST = 0.9


@dataclass(frozen=True)
class Variant:
    """importance: "magnitude" (L2 norm over the group) or "taylor" (|w dL/dw|, from labelled images). one_ranking: channels of all layers
    compete, instead of the same share everywhere. branches: the residual stream keeps its width."""

    importance: str = "magnitude"
    one_ranking: bool = False
    branches: bool = False


@dataclass(frozen=True)
class Removed:
    """The smaller network, and which output channels of which convolution of the old one it lacks, by module path."""

    module: nn.Module
    channels: dict[str, np.ndarray]


def prune(module: nn.Module, macs: float, variant: Variant, labelled: Images | None = None) -> Removed:
    """Remove channels until at most the share `macs` of the multiply-accumulates is left."""
    budget = macs * count_macs(module)
    low, high = 0.0, MOST
    best = remove(module, high, variant, labelled)
    if count_macs(best.module) > budget:
        raise ValueError(f"Torch-Pruning leaves {count_macs(best.module) / count_macs(module):.1%} of the MACs at the ratio {high}, above {macs:.0%}")
    for _ in range(9):
        middle = (low + high) / 2
        found = remove(module, middle, variant, labelled)
        if count_macs(found.module) <= budget:
            high, best = middle, found
        else:
            low = middle
    return best


def remove(module: nn.Module, ratio: float, variant: Variant, labelled: Images | None) -> Removed:
    """One run of its pruner at a ratio of channels, in one step."""
    import torch_pruning as tp

    small = copy.deepcopy(module).eval()
    names = {m: name for name, m in small.named_modules()}
    ignored: list[nn.Module] = [m for m in small.modules() if isinstance(m, nn.Linear)]
    if variant.branches:
        ignored += stream(small)
    if variant.importance == "taylor":
        assert labelled is not None
        for start in range(0, len(labelled), 128):
            part = slice(start, start + 128)
            F.cross_entropy(small(labelled.normalized(part)), labelled.labels[part], reduction="sum").backward()  # type: ignore[no-untyped-call]
        importance: Any = tp.importance.GroupTaylorImportance()
    else:
        importance = tp.importance.GroupMagnitudeImportance(p=2)
    example = torch.zeros(1, 1, 28, 28)
    pruner = tp.pruner.BasePruner(small, example, importance, variant.one_ranking, ratio, max_pruning_ratio=MOST, ignored_layers=ignored)
    channels: dict[str, np.ndarray] = {}
    for group in pruner.step(interactive=True):
        for dependency, positions in group:
            layer = dependency.target.module
            if isinstance(layer, nn.Conv2d) and pruner.DG.is_out_channel_pruning_fn(dependency.handler):
                channels[names[layer]] = np.asarray(positions, np.int64)
        group.prune()
    return Removed(small, channels)


def stream(module: nn.Module) -> list[nn.Module]:
    """Convolutions whose results go into a residual sum."""
    found: list[nn.Module] = []
    for block in module.modules():
        if isinstance(block, Residual):
            found += [m for part in (block.b, block.shortcut) for m in part.modules() if isinstance(m, nn.Conv2d)]
    return [*found, *[m for m in module.modules() if isinstance(m, nn.Conv2d)][:1]] if found else []


def repaired(graph: Graph, removed: Removed, calibration: Sequence[torch.Tensor], seed: int) -> Graph:
    """Remove the same channels from `graph` (its norms folded), and refit every reader by least squares as prune-channels does."""
    coupling = Coupling(graph)
    settings = Settings("first-k", sum(map(len, calibration)), 10, True, True, "Torch-Pruning, least squares")
    walk = Pruning(coupling, [], np.zeros(0, np.int64), settings, Context(calibration, seed=seed, position=1))
    convs = {op.loc.path: op for op in graph.find(Conv2d)}
    for path, positions in removed.channels.items():
        conv = convs[path]
        assert isinstance(conv, Conv2d)
        walk.gone[coupling.sets(conv.w, 0)[positions]] = True
    walk.run(calibration)
    return walk.result().verify()
