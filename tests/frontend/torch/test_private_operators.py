"""Operators under torch's functions: those of backends and `prims`, and results that few models read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from frontend_checks import agrees
from torch import nn

import tersor

aten, prims = torch.ops.aten, torch.ops.prims


def x(*shape: int) -> torch.Tensor:
    return torch.randn(shape or (2, 4, 6), generator=torch.Generator().manual_seed(3))


#: Of x (N, 4, 6).
FUNCTIONS: dict[str, Callable[[torch.Tensor], Any]] = {
    "bilinear": lambda x: torch.nn.functional.bilinear(x, x.flip(1), torch.ones(3, 6, 6, dtype=x.dtype), torch.ones(3, dtype=x.dtype)),
    "layer norm's statistics": lambda x: aten.native_layer_norm(x, [4, 6], None, None, 1e-5),
    "group norm's statistics": lambda x: aten.native_group_norm(x, None, None, x.shape[0], 4, 6, 2, 1e-5),
    "dropout that drops nothing": lambda x: aten.native_dropout(x, 0.5, False),
    "prims": lambda x: (prims.sum(x, [1]), prims.prod(x, [1, 2]), prims.collapse(x, 1, 2)),
    "unfold": lambda x: (x.unfold(1, 2, 1), x.mean().unfold(0, 1, 1)),
    "private convolution": lambda x: aten._convolution(x, x.new_ones(2, 4, 3), None, [1], [1], [1], False, [0], 1, False, False, False, True),
    "strides": lambda x: (x * 1).flatten(1).as_strided((2, 3, 2), (4, 2, 3), 1) if x.shape[0] == 2 else x,
    "sign of": lambda x: (torch.copysign(x, -x), torch.signbit((x * 3).int()), torch.signbit(x)),
}
STATIC = ("strides",)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    agrees(FUNCTIONS[name], [x()], static=name in STATIC)


def test_a_convolution_over_time() -> None:
    agrees(lambda t: aten.conv_tbc(t, t.new_ones(3, 4, 2), t.new_ones(2), 1), [x(6, 2, 4)], static=True)


def test_empty_tensors_are_known() -> None:
    """They come from slices, add nothing to sums, and may be results."""
    agrees(lambda t: (t[:, 4:], t[:, 4:].sum(1), torch.cat([t, t[:, :0]], 1), t[:0].amax((1, 2))), [x()], static=True)


def test_a_model_without_inputs_is_a_constant() -> None:
    class Grid(nn.Module):
        def forward(self) -> torch.Tensor:
            return torch.arange(6.0).reshape(2, 3) * 2

    graph = tersor.trace(Grid().eval(), ())
    assert torch.equal(graph(), Grid()()) and tersor.compile(graph)().tolist() == Grid()().tolist()


def test_memory_that_nobody_writes_is_zero() -> None:
    graph = tersor.trace(type("Empty", (nn.Module,), {"forward": lambda self, t: t + torch.empty(2, 4, 6)})().eval(), (x(),))
    assert torch.equal(graph(x()), x())
