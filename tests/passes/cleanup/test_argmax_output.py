"""argmax-output: the class of each image, as torch's argmax of the logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import tersor
from tersor import TersorError


def test_it_gives_the_place_of_the_largest_logit() -> None:
    torch.manual_seed(0)
    module, x = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), torch.randn(4, 3, 6, 6)
    graph = tersor.trace(module, (x,))
    small = tersor.transform(graph, "default,argmax-output", calibration=[x])
    with torch.no_grad():
        expected = module.double()(x.double()).argmax(1)
    assert torch.equal(small(x), expected) and small.output_names == graph.output_names
    np.testing.assert_array_equal(tersor.compile(small, batch=[4])(x.numpy()), expected)


@pytest.mark.parametrize(("axis", "message"), [(0, "axis must name an axis of .* other than the batch, got 0"), (2, "got 2")])
def test_what_is_no_axis_of_classes(axis: int, message: str) -> None:
    graph = tersor.trace(nn.Linear(3, 2).eval(), (torch.randn(1, 3),))
    with pytest.raises(TersorError, match=message):
        tersor.transform(graph, f"argmax-output{{axis={axis}}}")


def test_several_outputs() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, x - 1

    with pytest.raises(TersorError, match="needs one output of logits, and the graph has 2"):
        tersor.transform(tersor.trace(Two().eval(), (torch.randn(1, 3),)), "argmax-output")
