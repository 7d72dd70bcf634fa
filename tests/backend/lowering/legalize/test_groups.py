"""Grouped convolutions spread over aligned vectors: the same numbers, fewer zeros, and only where it pays."""

from __future__ import annotations

import numpy as np
import pytest
from backend_run import TARGETS, check
from conv_graphs import conv_graph

from tersor.backend.lowering.legalize import legalize
from tersor.backend.lowering.legalize.groups import aligned
from tersor.backend.target import resolve
from tersor.backend.tile.ops import ChannelGather
from tersor.ir.ops import Conv2d

LANES = {"cpu:x86-64-v4": 16, "cpu:znver3": 8, "cpu:x86-64-v2": 4}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("c", "o", "groups"), [(114, 42, 6), (57, 51, 3), (20, 28, 4), (21, 35, 7)])
def test_unaligned_groups(c: int, o: int, groups: int, target: str) -> None:
    check(conv_graph(2, c, o, (7, 9), (3, 3), padding=(1, 1, 1, 1), groups=groups), target=target)


def test_spread_over_whole_vectors() -> None:
    graph = legalize(conv_graph(1, 114, 42, (7, 9), (3, 3), groups=6), resolve("cpu:x86-64-v4"))
    (conv,) = graph.find(Conv2d)
    assert conv.out.shape[1] == 6 * 8
    assert len(graph.find(ChannelGather)) == 1
    weights = conv.w.op.array.reshape(6, 8, 19, 3, 3)  # type: ignore[attr-defined]
    assert (weights[:, 7:] == 0).all()
    assert np.abs(weights[:, :7]).min(axis=(2, 3, 4)).max() > 0


@pytest.mark.parametrize(("c", "kernel", "spread"), [(92, 3, True), (12, 1, False)])
def test_half_dead_vectors(c: int, kernel: int, spread: bool) -> None:
    """17 outputs become 32 where the reduction is long, and stay where the gather behind them would cost more than it saves."""
    graph = legalize(conv_graph(1, c, 34, (7, 26), (kernel, kernel), groups=2), resolve("cpu:x86-64-v4"))
    (conv,) = graph.find(Conv2d)
    assert conv.out.shape[1] == (2 * 32 if spread else 34)


@pytest.mark.parametrize(("c", "o", "groups"), [(64, 64, 4), (32, 32, 8), (24, 24, 24), (30, 30, 1), (18, 54, 18)])
def test_left_alone(c: int, o: int, groups: int) -> None:
    """Aligned already, depthwise, no groups, or too few channels for it to pay."""
    graph = legalize(conv_graph(1, c, o, (7, 9), (3, 3), groups=groups), resolve("cpu:x86-64-v4"))
    assert all(op.out.shape[1] == o for op in graph.find(Conv2d))


def test_widths() -> None:
    assert [aligned(n, 16) for n in (1, 3, 7, 9, 16, 17, 40)] == [1, 4, 8, 16, 16, 32, 48]
