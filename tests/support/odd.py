"""Registry of small modules as third parties write them: odd channels, odd wiring, odd results. Each shows one habit in as few layers as it takes.

`ODD[name]()` gives (module in evaluation mode, inputs at batch 1). The modules stand in the files odd_*.py by theme.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from tersor.bench.models import randomize

Inputs = tuple[torch.Tensor, ...]
Model = tuple[nn.Module, Inputs]

ODD: dict[str, Callable[[], Model]] = {}
#: Modules whose shapes cannot follow the batch: traced at batch 1 only, with a warning.
STATIC: set[str] = set()


def odd(*shapes: tuple[int, ...], static: bool = False, inputs: Callable[[], Inputs] | None = None) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Register a module class under its name: called without arguments, on random normal inputs of these shapes (or on `inputs()`)."""

    def register(cls: type[nn.Module]) -> type[nn.Module]:
        def make() -> Model:
            torch.manual_seed(3)
            example = inputs() if inputs else tuple(torch.randn(s) for s in shapes)
            sample = example if static or inputs else tuple(torch.randn(4, *s[1:]) for s in shapes)
            return randomize(cls(), sample, 3), example

        ODD[cls.__name__] = make
        if static:
            STATIC.add(cls.__name__)
        return cls

    return register
