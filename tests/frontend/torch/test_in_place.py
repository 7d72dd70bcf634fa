"""In-place calls mean what torch means, through every alias, on the fast way and on torch's own functionalization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from frontend_checks import agrees, compare
from torch import nn

from tersor.frontend import trace
from tersor.frontend.torch import export


def view_then_relu(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    v = y.view(-1)
    v.relu_()
    return y


def relu_then_view(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    y = x * 2
    y.relu_()
    return y, y.view(x.shape[0], -1)


def view_before_and_change_after(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    v = y.view(x.shape[0], -1)
    y.add_(1)
    return v.sum(1)


def change_of_a_slice(x: torch.Tensor) -> torch.Tensor:
    y = x + 0
    y[:, 1:3].mul_(3)
    return y


def assignment_to_an_index(x: torch.Tensor) -> torch.Tensor:
    y = x + 0
    y[:, 0] = y[:, 1] * 2
    y[:, :, ::2] = 0.5
    y[..., -1] = 7
    return y


def change_of_a_chunk(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    a, _ = y.chunk(2, 1)
    a.relu_()
    return y


def chain(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    z = y.add_(x)
    y.relu_()
    return z * y


def change_after_read(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    before = y * 3
    y.relu_()
    return before + y


def dropout_is_an_alias(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    z = F.dropout(y, 0.5, training=False)
    z.relu_()
    return y


def change_of_a_transposed(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y.transpose(1, 2).sub_(1)
    return y


def expression(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y += 1
    y *= 2
    y -= x
    y /= 3
    y.clamp_(-1, 1)
    return y


def returned_twice(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    y = x * 2
    return y, y.relu_()


def contiguous_may_be_an_alias(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y.contiguous().relu_()
    return y


def fill_of_a_part(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y[:, 2].zero_()
    y[:, 3].copy_(x[:, 0])
    return y


CASES: list[Callable[[torch.Tensor], Any]] = [
    view_then_relu,
    relu_then_view,
    view_before_and_change_after,
    change_of_a_slice,
    assignment_to_an_index,
    change_of_a_chunk,
    chain,
    change_after_read,
    dropout_is_an_alias,
    change_of_a_transposed,
    expression,
    returned_twice,
    contiguous_may_be_an_alias,
    fill_of_a_part,
]


@pytest.mark.parametrize("case", CASES)
def test_in_place_calls_reach_every_alias(case: Callable[[torch.Tensor], Any]) -> None:
    agrees(case, [torch.randn(1, 4, 4, 6)])


@pytest.mark.parametrize("name", ["relu_", "hardtanh_", "leaky_relu_", "hardswish_", "silu_", "elu_", "sigmoid_", "relu6_"])
def test_in_place_activations(name: str) -> None:
    function = {"relu_": torch.relu_, "sigmoid_": torch.sigmoid_, "silu_": lambda x: F.silu(x, inplace=True)}.get(name)
    if function is None:
        plain = getattr(F, name.removesuffix("_"))
        agrees(lambda x: plain(x * 2, inplace=True), [torch.randn(1, 4, 4, 6)])
    else:
        agrees(lambda x: function(x * 2), [torch.randn(1, 4, 4, 6)])


class Typical(nn.Module):
    """conv + bn + relu_ and an in-place residual, as networks are written."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn(self.conv(x)))
        z = self.bn(self.conv(y))
        z += y
        z = self.relu(z)
        return F.dropout(z.flatten(1), training=self.training)


def test_typical_network_needs_no_second_trace_and_means_the_same_as_with_it() -> None:
    module, x = Typical().eval(), torch.randn(1, 4, 5, 5)
    with patch.object(torch.export.ExportedProgram, "run_decompositions", side_effect=AssertionError("a second trace")):
        quick = trace(module, x)
    with patch.object(export, "make_functional", return_value=False):
        slow = trace(module, x)
    compare(quick, module, [x], (1, 3))
    assert [op.out.name for op in quick.ops if op.name == "nn.relu"] == ["relu", "relu_1"]
    assert [op.name for op in quick.ops] == [op.name for op in slow.ops]


@pytest.mark.parametrize("case", [view_then_relu, view_before_and_change_after, change_of_a_slice, change_of_a_chunk])
def test_a_change_that_an_alias_sees_is_left_to_torch(case: Callable[[torch.Tensor], Any]) -> None:
    refused = []

    def watched(graph: torch.fx.Graph) -> bool:
        refused.append(not export_make_functional(graph))
        return not refused[-1]

    export_make_functional = export.make_functional
    with patch.object(export, "make_functional", watched):
        agrees(case, [torch.randn(1, 4, 4, 6)])
    assert refused == [True]


def test_a_change_of_the_input_is_left_out_with_a_warning() -> None:
    x = torch.randn(1, 4)
    with pytest.warns(UserWarning, match=r"ReLU\.forward changes its input 'input' in place; the graph leaves it as it is"):
        graph = trace(nn.ReLU(inplace=True), x)
    given = x.clone()
    assert torch.equal(graph(given), x.relu())
    assert torch.equal(given, x)
