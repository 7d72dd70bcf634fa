"""Pooling, channel gathers, resizing and packs on blocked maps, against the interpreter in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from backend_run import DISTINCT_TARGETS, check
from sampling import some

from tersor.backend.tile.ops import ChannelGather
from tersor.ir.graph import Graph
from tersor.ir.op import Op, Value
from tersor.ir.ops import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d, Relu, Upsample
from tersor.ir.types import Tensor

Make = Callable[..., Op]
RNG = np.random.default_rng(0)
ONE, TWO = [(2, 21, 31, 30)], [(3, 21, 7, 9), (3, 30, 7, 9)]
CASES: dict[str, tuple[Make, list[tuple[int, ...]]]] = {
    "max": (lambda x: MaxPool2d(x, (3, 3), (2, 2), (1, 1, 1, 1)), ONE),
    "max_dilated": (lambda x: MaxPool2d(x, (3, 2), (1, 2), (1, 0, 0, 1), (2, 2)), ONE),
    "max_ceil": (lambda x: MaxPool2d(x, (3, 3), (2, 2), ceil_mode=True), ONE),
    "avg": (lambda x: AvgPool2d(x, (3, 3), (2, 2), (1, 1, 1, 1)), ONE),
    "avg_without_pad": (lambda x: AvgPool2d(x, (3, 3), (2, 2), (1, 0, 1, 1), count_include_pad=False), ONE),
    "avg_ceil": (lambda x: AvgPool2d(x, (3, 2), (2, 3), (1, 1, 1, 0), ceil_mode=True), ONE),
    "avg_divisor": (lambda x: AvgPool2d(x, (2, 2), (2, 2), divisor=3), ONE),
    "global_avg": (lambda x: AdaptiveAvgPool2d(x, (1, 1)), ONE),
    "global_max": (lambda x: AdaptiveMaxPool2d(x, (1, 1)), ONE),
    "adaptive_avg": (lambda x: AdaptiveAvgPool2d(x, (3, 7)), ONE),
    "adaptive_max": (lambda x: AdaptiveMaxPool2d(x, (40, 4)), ONE),
    "concat": (lambda x, y: ChannelGather([x, y], tuple(range(51))), TWO),
    "concat_aligned": (lambda x, y: ChannelGather([x, y], tuple(range(96))), [(1, 64, 5, 5), (1, 32, 5, 5)]),
    "shuffle": (lambda x, y: ChannelGather([x, y], tuple(int(i) for i in RNG.permutation(51))), TWO),
    "every_other": (lambda x, y: ChannelGather([x, y], tuple(range(0, 51, 2))), TWO),
    "repeat": (lambda x, y: ChannelGather([x, y], tuple(i // 3 for i in range(90))), TWO),
    "nearest": (lambda x: Upsample(x, (62, 60)), ONE),
    "nearest_odd": (lambda x: Upsample(x, (45, 17)), ONE),
    "nearest_scales": (lambda x: Upsample(x, (40, 39), scales=(1.3, 1.3)), ONE),
    "bilinear": (lambda x: Upsample(x, (62, 60), "bilinear"), ONE),
    "bilinear_corners": (lambda x: Upsample(x, (20, 77), "bilinear", True), ONE),
    "bilinear_scales": (lambda x: Upsample(x, (46, 45), "bilinear", False, (1.5, 1.5)), ONE),
}


@pytest.mark.parametrize("name, target", some(((name, target) for name in CASES for target in DISTINCT_TARGETS), 4))
def test_maps(name: str, target: str) -> None:
    make, shapes = CASES[name]
    graph = Graph()
    # A pooling of one pixel is the identity that makes each operand blocked.
    blocked: list[Value] = [graph.add(MaxPool2d(graph.add_input(Tensor(s), f"x{i}", True), (1, 1), (1, 1))) for i, s in enumerate(shapes)]
    graph.set_outputs([graph.add(Relu(graph.add(make(*blocked))))])
    compiled = check(graph, target=target, legal=False, threads=1 + len(name) % 2)
    assert "repack" in compiled.templates
