"""Convolution templates against the interpreter in float64: every geometry, every vector width, each template forced in turn."""

from __future__ import annotations

import numpy as np
import pytest
from backend_run import DISTINCT_TARGETS, TARGETS, Compiled, arrays_for, assert_close, check, reference
from conv_graphs import conv_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling import some

from tersor.backend.kernels.cpu.conv.direct import map_cycles, tile_height
from tersor.backend.kernels.cpu.window import Window
from tersor.backend.kernels.template import templates_for
from tersor.backend.lowering import select_kernels as schedule_module
from tersor.backend.pipelines import lower
from tersor.backend.target import resolve
from tersor.backend.tile.ops import Fused
from tersor.ir.graph import Graph
from tersor.ir.op import Const
from tersor.ir.ops import Conv2d, Mul, Sigmoid
from tersor.ir.types import Tensor


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the schedule see only these convolution templates."""
    conv = {"direct", "gemm", "depthwise", "streamed_depthwise", "winograd"}
    monkeypatch.setattr(schedule_module, "templates_for", lambda op: (t for t in templates_for(op) if t.name in names or t.name not in conv))


GEOMETRIES = {
    "3x3": conv_graph(1, 32, 48, (13, 15), (3, 3), padding=(1, 1, 1, 1), residual=True),
    "odd_channels": conv_graph(3, 19, 23, (9, 11), (3, 3), padding=(1, 1, 1, 1)),
    "one_channel": conv_graph(1, 1, 1, (8, 8), (3, 3)),
    "1x7": conv_graph(1, 20, 33, (12, 17), (1, 7), padding=(0, 0, 3, 3)),
    "7x1_stride3": conv_graph(2, 17, 16, (20, 9), (7, 1), stride=(3, 3), padding=(3, 3, 0, 0)),
    "dilated": conv_graph(1, 24, 40, (21, 19), (3, 3), padding=(3, 3, 3, 3), dilation=(3, 3)),
    "asymmetric": conv_graph(1, 16, 16, (10, 10), (4, 4), stride=(2, 2), padding=(0, 2, 1, 3)),
    "pad_beyond_kernel": conv_graph(1, 16, 16, (5, 5), (2, 2), padding=(4, 4, 4, 4)),
    "first_layer": conv_graph(2, 3, 40, (33, 31), (7, 7), stride=(2, 2), padding=(3, 3, 3, 3)),
    "pointwise": conv_graph(3, 40, 72, (7, 9), (1, 1), residual=True),
    "pointwise_stride2": conv_graph(1, 64, 24, (14, 14), (1, 1), stride=(2, 2), bias=False),
    "wide_row": conv_graph(1, 16, 80, (2, 200), (3, 3), padding=(1, 1, 1, 1)),
    "narrow": conv_graph(2, 20, 8, (23, 3), (3, 3), padding=(1, 3, 1, 1), residual=True),
    "narrow_dilated": conv_graph(1, 17, 16, (29, 7), (5, 5), stride=(1, 2), padding=(3, 4, 1, 0), dilation=(2, 1)),
    "narrow_planes": conv_graph(2, 4, 8, (19, 4), (5, 2), padding=(2, 1, 0, 0)),
    "short_last_tile": conv_graph(1, 20, 32, (6, 56), (4, 4), padding=(1, 0, 0, 2)),
    "large_planes": conv_graph(1, 20, 16, (70, 66), (2, 1), stride=(3, 3)),
    "one_pixel": conv_graph(1, 64, 100, (1, 1), (3, 3), padding=(1, 1, 1, 1)),
}


#: Few input channels stay plain planes, which only `direct` reads.
TEMPLATES = [
    (name, template)
    for name in GEOMETRIES
    for template in ("direct", "gemm")
    if (name, template) not in (("first_layer", "gemm"), ("one_channel", "gemm"), ("narrow_planes", "gemm"))
]


@pytest.mark.parametrize("name, template, target", some(((*case, target) for case in TEMPLATES for target in DISTINCT_TARGETS), 2))
def test_dense_templates(name: str, template: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, template)
    compiled = check(GEOMETRIES[name], target=target, legal=False)
    assert template in compiled.templates


GROUPED = {
    "aligned": conv_graph(1, 64, 64, (9, 9), (3, 3), padding=(1, 1, 1, 1), groups=4),
    "few_per_group": conv_graph(1, 32, 32, (9, 9), (3, 3), padding=(1, 1, 1, 1), groups=8),
    "unaligned": conv_graph(2, 30, 42, (7, 11), (3, 3), stride=(2, 1), padding=(1, 1, 1, 1), groups=6),
    "widening": conv_graph(1, 18, 54, (8, 8), (3, 2), groups=18),
    "unaligned_narrow": conv_graph(1, 21, 39, (17, 4), (3, 3), padding=(1, 1, 1, 1), groups=3),
    "narrowing": conv_graph(1, 60, 12, (8, 8), (1, 1), groups=3),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", GROUPED)
def test_groups(name: str, target: str) -> None:
    check(GROUPED[name], target=target, legal=False)


DEPTHWISE = {
    "3x3": conv_graph(1, 40, 40, (14, 14), (3, 3), padding=(1, 1, 1, 1), groups=40),
    "5x5_stride2": conv_graph(3, 24, 24, (15, 13), (5, 5), stride=(2, 2), padding=(2, 2, 2, 2), groups=24),
    "7x7": conv_graph(1, 17, 17, (9, 30), (7, 7), padding=(3, 3, 3, 3), groups=17),
    "dilated": conv_graph(1, 16, 16, (20, 20), (3, 3), padding=(2, 2, 2, 2), dilation=(2, 2), groups=16),
    "asymmetric": conv_graph(2, 21, 21, (6, 8), (3, 4), stride=(1, 2), padding=(0, 1, 2, 0), groups=21, bias=False),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise(name: str, target: str) -> None:
    compiled = check(DEPTHWISE[name], target=target, legal=False)
    assert "depthwise" in compiled.templates


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise_threads(name: str, threads: int) -> None:
    compiled = check(DEPTHWISE[name], threads=threads, legal=False)
    assert "depthwise" in compiled.templates


@pytest.mark.parametrize(("channels", "size", "rows"), [(512, 14, True), (1024, 7, False), (32, 112, True)])
def test_depthwise_layers_are_divided_as_the_pointwise_ones_around(channels: int, size: int, rows: bool) -> None:
    """By rows where the pointwise layer's weights are few beside the map, else by channels: a thread finds in its cache what it wrote."""
    depthwise = conv_graph(1, channels, channels, (size, size), (3, 3), padding=(1, 1, 1, 1), groups=channels)
    pointwise = conv_graph(1, channels, channels, (size, size), (1, 1))
    (dw,), (pw,) = (
        [op.params for op in lower(g, resolve("cpu:znver5"), 2, tuned=False).ops if isinstance(op, Fused) and op.macs()]
        for g in (depthwise, pointwise)
    )
    assert (dw["chunk"] < size, pw["chunk"] < size * size) == (rows, rows)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("name", ["3x3", "first_layer", "narrow", "pointwise", "pointwise_stride2", "wide_row"])
def test_threads(name: str, threads: int) -> None:
    check(GEOMETRIES[name], threads=threads, legal=False)


@pytest.mark.parametrize(("width", "vectors", "tall"), [(4, 1, True), (4, 2, True), (1, 1, True), (7, 2, False), (56, 1, False)])
def test_tiles_of_narrow_maps_are_tall(width: int, vectors: int, tall: bool) -> None:
    """Rows too short for the pipelines are computed several at a time, those that cross no border above or below; 7x7 maps and wider as ever."""
    g = Window(1, 32, 40, width, 16 * vectors, 40, width, 3, 3, 1, 1, 1, 1, block_in=16, lanes=16)
    assert g.whole_rows == (1, 39)
    height = tile_height(g, resolve("cpu:x86-64-v4"), vectors)
    assert (height > 1) == tall and (height * width * vectors < 32 or not tall)
    assert tall == (map_cycles(g, resolve("cpu:x86-64-v4"), vectors, height) < map_cycles(g, resolve("cpu:x86-64-v4"), vectors, 1))


@st.composite
def random_geometry(draw: st.DrawFn) -> Graph:
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    c, o = groups * draw(st.integers(1, 40)), groups * draw(st.integers(1, 40))
    kernel = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, 4)) for _ in range(4))
    size = [max(draw(st.integers(1, 24)), dilation[i] * (kernel[i] - 1) + 1 - padding[2 * i] - padding[2 * i + 1]) for i in (0, 1)]
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return conv_graph(
        draw(st.integers(1, 4)), c, o, (size[0], size[1]), kernel, stride, padding, dilation, groups, draw(st.booleans()), draw(st.booleans())
    )


@settings(max_examples=15, deadline=None, derandomize=True)
@given(random_geometry(), st.sampled_from(DISTINCT_TARGETS))
def test_any_geometry(graph: Graph, target: str) -> None:
    check(graph, target=target, legal=False)


def test_dead_lanes_never_reach_a_live_one() -> None:
    """1/x of a dead lane is inf: the next convolution must not read it."""
    rng = np.random.default_rng(0)
    graph = Graph()
    y = graph.add_input(Tensor((1, 19, 6, 6)), "x", True)
    for _ in range(2):
        y = graph.add(Conv2d(y, Const(rng.standard_normal((19, 19, 3, 3)).astype(np.float32)), padding=(1, 1, 1, 1)))
        y = graph.add(Mul(y, Const(np.full((1, 19, 1, 1), 0.1, np.float32))))
        y = graph.add(Sigmoid(y))
    graph.set_outputs([y])
    inputs = arrays_for(graph)
    assert_close(Compiled(graph, legal=False)(*inputs)[0], reference(graph, inputs)[0], 1e-5)
