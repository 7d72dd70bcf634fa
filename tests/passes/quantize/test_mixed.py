"""Mixed precision: which layers stay float, by the noise of the outputs or by a latency."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from quant_networks import Net, conv
from torch import nn

import tersor
from tersor import TersorError
from tersor.passes import Precision


def network() -> Any:
    """A layer whose channels differ a thousandfold, which per-tensor activations cannot hold, between two that quantize well."""
    torch.manual_seed(0)
    net = Net(lambda s, x: s.c(F.relu(s.b(F.relu(s.a(x))))).mean((2, 3)), a=conv(3, 8), b=conv(8, 8), c=conv(8, 4)).eval()
    with torch.no_grad():
        net.a.weight[1:] *= 1e-3
        net.a.bias[1:] *= 1e-3
        net.b.weight[:, 1:] *= 1e3
    return net


IMAGES = torch.randn(16, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def graph() -> tersor.Graph:
    module: nn.Module = network()
    return tersor.transform(tersor.trace(module, (IMAGES[:1],)), "default")


def quantized(graph: tersor.Graph, options: str = "", **more: Any) -> tuple[float, list[str]]:
    """SQNR of the outputs, and the layers that stay float."""
    small = tersor.transform(graph, f"quantize{options},to-integer", calibration=[IMAGES], **more)
    y, z = graph(IMAGES), small(IMAGES)
    kept = [row.layer for row in Precision.of(small).islands if row.macs]
    return 10 * math.log10(float(y.square().sum() / (y - z).square().sum())), kept


def test_the_fewest_layers_that_are_enough(graph: tersor.Graph) -> None:
    plain, none = quantized(graph)
    assert none == [] and plain < 25
    better, kept = quantized(graph, "{sqnr=30}")
    assert better > 30 and kept == ["b"]
    assert quantized(graph, f"{{sqnr={plain - 1}}}") == (plain, [])


def test_the_most_layers_that_are_fast_enough(graph: tersor.Graph) -> None:
    """A latency by hand: a layer in floats takes 3, one in integers 1."""

    def latency(g: tersor.Graph) -> float:
        return float(sum(3 if op.name == "nn.conv2d" else 1 if op.name == "quant.conv2d" else 0 for op in g))

    assert quantized(graph, "{latency=3}", latency=latency)[1] == []
    assert quantized(graph, "{latency=6.5}", latency=latency)[1] == ["b"]
    assert len(quantized(graph, "{latency=100}", latency=latency)[1]) == 2
    with pytest.raises(TersorError, match=r"latency=2 ms is not reached: with every layer in integers the network takes 3\.000 ms"):
        quantized(graph, "{latency=2}", latency=latency)


def test_what_cannot_be_reached(graph: tersor.Graph) -> None:
    with pytest.raises(TersorError, match=r"sqnr=200 dB is not reached: with . alone in integers the outputs have"):
        quantized(graph, "{sqnr=200}")
    with pytest.raises(TersorError, match="give sqnr or latency"):
        quantized(graph, "{sqnr=20 latency=3}")
