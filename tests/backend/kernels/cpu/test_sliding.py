"""Windows that slide over a map pixel by pixel: strided depthwise convolutions and poolings, in one pass over each row and in several."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from backend_run import TARGETS, Compiled, arrays_for, check, conv, graph_of
from conv_graphs import conv_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.backend.emit.module import Emitter
from tersor.backend.kernels.cpu import pool, sliding
from tersor.backend.kernels.cpu.conv import streamed_depthwise
from tersor.backend.kernels.cpu.conv.streamed_depthwise import StreamedDepthwise
from tersor.backend.kernels.cpu.window import Window
from tersor.backend.kernels.template import templates_for
from tersor.backend.lowering import select_kernels as schedule
from tersor.backend.pipelines import lower
from tersor.backend.target import resolve
from tersor.backend.tile.fusion import Fusion
from tersor.backend.tile.ops import Fused
from tersor.ir.graph import Graph
from tersor.ir.op import Value
from tersor.ir.ops import AvgPool2d, Concat, MaxPool2d, Sigmoid


@pytest.fixture(autouse=True, params=["within", "beyond"])
def l2(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All maps count as within L2 or as beyond it, and strided depthwise convolutions are streamed."""
    for module in (pool, streamed_depthwise):
        monkeypatch.setattr(module, "beyond_l2", lambda g, target: request.param == "beyond")
    monkeypatch.setattr(schedule, "templates_for", lambda op: (t for t in templates_for(op) if t.name not in ("depthwise", "direct")))


DEPTHWISE = {
    "3x3": conv_graph(1, 40, 40, (14, 15), (3, 3), stride=(2, 2), padding=(1, 1, 1, 1), groups=40, residual=True),
    "odd": conv_graph(3, 21, 21, (11, 9), (3, 3), stride=(2, 2), padding=(0, 1, 2, 0), groups=21, bias=False),
    "2x2": conv_graph(1, 16, 16, (10, 12), (2, 2), stride=(2, 2), groups=16),
    "gaps": conv_graph(2, 17, 17, (13, 14), (2, 2), stride=(3, 3), padding=(1, 0, 0, 1), groups=17),
    "3x3_stride3": conv_graph(1, 24, 24, (13, 16), (3, 3), stride=(3, 3), padding=(1, 1, 1, 1), groups=24),
    "two_rows_again": conv_graph(1, 16, 16, (17, 10), (4, 2), stride=(2, 2), padding=(1, 2, 1, 0), groups=16),
    "dilated": conv_graph(1, 16, 16, (20, 19), (3, 3), stride=(2, 2), padding=(2, 2, 2, 2), dilation=(2, 2), groups=16),
    "dilated_columns": conv_graph(1, 16, 16, (20, 19), (3, 3), stride=(2, 2), padding=(1, 1, 2, 2), dilation=(1, 2), groups=16),
    "all_border": conv_graph(1, 16, 16, (2, 7), (3, 3), stride=(2, 2), padding=(1, 1, 1, 1), groups=16),
    "one_pixel": conv_graph(2, 16, 16, (1, 1), (3, 3), stride=(2, 2), padding=(1, 1, 1, 1), groups=16),
    "columns_beside_the_map": conv_graph(1, 16, 16, (9, 3), (3, 3), stride=(2, 2), padding=(1, 1, 4, 5), groups=16),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise(name: str, target: str) -> None:
    assert StreamedDepthwise.name in check(DEPTHWISE[name], target=target, legal=False).templates


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("name", DEPTHWISE)
def test_threads(name: str, threads: int) -> None:
    assert StreamedDepthwise.name in check(DEPTHWISE[name], threads=threads, legal=False).templates


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_any_window(data: st.DataObject) -> None:
    """Depthwise convolutions, and poolings of the same window, which may be smaller than the stride."""
    sh, sw = data.draw(st.integers(2, 3)), data.draw(st.integers(1, 3))
    kh = data.draw(st.integers(1, 5))
    kw = data.draw(st.integers(1, 4))
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in (kh, kh, kw, kw))
    size = (data.draw(st.integers(kh, 14)), data.draw(st.integers(kw, 14)))
    n, c = data.draw(st.integers(1, 2)), data.draw(st.integers(2, 40))
    threads, counts = data.draw(st.integers(1, 3)), data.draw(st.booleans())
    graph = conv_graph(n, c, c, size, (kh, kw), stride=(sh, sw), padding=padding, groups=c)
    if kh * kw < 3 * sh * sw and kh * kw + 3 <= resolve("cpu").registers:
        assert StreamedDepthwise.name in check(graph, threads=threads, legal=False).templates

    def pools(x: Value) -> list[Value]:
        y = MaxPool2d(x, (1, 1), (1, 1)).out
        return [MaxPool2d(y, (kh, kw), (sh, sw), padding).out, AvgPool2d(y, (kh, kw), (sh, sw), padding, count_include_pad=counts).out]

    check(graph_of(pools, (n, c, *size)), threads=threads, legal=False)


LARGE = [((7, 7), (3, 3, 3, 3), (9, 12)), ((7, 6), (3, 2, 0, 3), (9, 12)), ((5, 5), (2, 2, 2, 2), (4, 4))]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("kernel", "pad", "size"), LARGE)
def test_large_windows_and_maps_that_are_all_border(kernel: tuple[int, int], pad: tuple[int, ...], size: tuple[int, int], threads: int) -> None:
    """Kernel rows in a loop, with as many as lie in the map."""

    def pools(x: Value) -> list[Value]:
        y = MaxPool2d(x, (1, 1), (1, 1)).out
        averages = [AvgPool2d(y, kernel, (1, 1), pad, count_include_pad=counts).out for counts in (True, False)]
        return [*averages, MaxPool2d(y, kernel, (1, 1), pad).out, AvgPool2d(y, kernel, (1, 1), pad, divisor=5).out]

    check(graph_of(pools, (2, 20, *size)), threads=threads, legal=False)


WINDOWS = [(3, 1, 1), (3, 2, 1), (2, 2, 0), (5, 1, 2), (5, 2, 2), (7, 3, 3), (13, 1, 6)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("kernel", "stride", "pad"), WINDOWS)
def test_a_nan_is_what_is_largest_where_a_window_has_it(kernel: int, stride: int, pad: int, target: str) -> None:
    """And nowhere else: infinities are numbers, and what lies beside the map is not read."""
    x = arrays_for(graph_of(lambda x: MaxPool2d(x, (1, 1), (1, 1)), (2, 20, 15, 17)))[0]
    x[0, 3, 5, 6] = x[0, 3, 14, 16] = x[1, 17, 0, 0] = np.nan
    x[0, 4, 2:9] = -np.inf
    x[0, 5, 3, 3], x[0, 5, 3, 4] = np.inf, -np.inf

    def pool(x: Value) -> Value:
        return MaxPool2d(MaxPool2d(x, (1, 1), (1, 1)).out, (kernel, kernel), (stride, stride), (pad,) * 4).out

    got = Compiled(graph_of(pool, x.shape), target, 1, False)(x)[0]
    expected = torch.nn.functional.max_pool2d(torch.from_numpy(x), kernel, stride, pad).numpy()
    assert np.isnan(expected).any() and np.isinf(expected).any()
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_that_lie_in_the_result_between_passes_leave_the_lanes_of_others_alone(threads: int, target: str) -> None:
    """Where vectors have masks; else the parts are gathered."""

    def network(x: Value) -> Value:
        y = conv(x, 24)
        parts = [conv(y, 24, 3, 2, groups=24), MaxPool2d(y, (3, 3), (2, 2), (1, 1, 1, 1)).out, Sigmoid(conv(y, 24, 3, 2, groups=24, seed=1)).out]
        return conv(Concat([conv(x, 9, 3, 2), *parts, AvgPool2d(y, (2, 2), (2, 2)).out], 1).out, 20, 3)

    compiled = check(graph_of(network, (2, 30, 12, 10)), threads=threads, target=target)
    assert {StreamedDepthwise.name, "pool"} <= set(compiled.templates)
    assert ("channel_gather" in compiled.templates) == (not resolve(target).masks)


def lowered(graph: Graph, target: str) -> Fused:
    (op,) = [op for op in lower(graph, resolve(target), tuned=False).ops if isinstance(op, Fused) and op.macs()]
    return op


class TestChoice:
    """By the size of the map, without the fixture's changes."""

    @pytest.fixture(autouse=True)
    def l2(self) -> None:
        pass

    @pytest.mark.parametrize(("channels", "size", "stride", "streamed"), [(96, 112, 2, True), (256, 14, 2, False), (96, 112, 1, False)])
    def test_maps_that_l2_does_not_hold_are_streamed(self, channels: int, size: int, stride: int, streamed: bool) -> None:
        graph = conv_graph(1, channels, channels, (size, size), (3, 3), stride=(stride, stride), padding=(1, 1, 1, 1), groups=channels)
        assert lowered(graph, "cpu:znver4").template == ("streamed_depthwise" if streamed else "depthwise")

    @pytest.mark.parametrize(("size", "stride", "rolled"), [(112, 2, True), (12, 2, False), (112, 1, False)])
    def test_streamed_pixels_that_share_little_are_a_rolled_loop(self, size: int, stride: int, rolled: bool) -> None:
        emitter = Emitter(resolve("cpu:znver4"), 1)
        emitter.add(lower(graph_of(lambda x: MaxPool2d(x, (3, 3), (stride, stride)), (1, 96, size, size)), emitter.target, tuned=False), "main")
        assert any("tersor_rolled" in str(function.body) for function in emitter.functions.values()) == rolled

    @pytest.mark.parametrize(("target", "held"), [("cpu:znver4", True), ("cpu:znver3", False)])
    def test_all_weights_are_held_in_registers(self, target: str, held: bool) -> None:
        """5x5 with stride 3: 25 vectors, of 32 registers or of 16."""
        graph = conv_graph(1, 16, 16, (16, 16), (5, 5), stride=(3, 3), padding=(2, 2, 2, 2), groups=16)
        assert StreamedDepthwise().accepts(Fusion(lowered(graph, target)), resolve(target)) == held

    def test_rows_that_the_row_before_read_are_in_the_first_pass(self) -> None:
        def rows(kernel: int, stride: int, size: int, dilation: int = 1) -> list[list[int]]:
            g = Window(1, 64, size, size, 64, size // stride, size // stride, kernel, kernel, stride, stride, 1, 1, dilation, dilation, 64, 16, 16)
            return sliding.passes(g, sliding.beyond_l2(g, resolve("cpu:znver4")))

        assert rows(3, 2, 112) == [[0, 1], [2]]
        assert rows(2, 2, 112) == [[0], [1]]
        assert rows(5, 3, 112) == [[0, 1, 2], [3], [4]]
        assert rows(2, 3, 112) == [[0], [1]]
        assert rows(3, 1, 112) == [[0, 1, 2]]
        assert rows(3, 2, 112, dilation=2) == rows(3, 2, 8) == [[0, 1, 2]]
