"""Winograd's convolution: its matrices against a plain correlation, its kernels against the interpreter in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backend_run import ALL_TARGETS, check, graph_of, lowered
from conv_graphs import conv_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling import some

import tersor
from tersor.backend.kernels.cpu.conv.winograd.plan import make_plan
from tersor.backend.kernels.cpu.conv.winograd.toom_cook import POINTS, matrices, points_of, transform_weights
from tersor.backend.kernels.template import templates_for
from tersor.backend.lowering import select_kernels as schedule_module
from tersor.backend.tile.fusion import Fusion
from tersor.backend.tile.ops import Fused
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Value
from tersor.ir.ops import Conv2d, Greater, Mul, Sigmoid
from tersor.ir.types import Tensor


@pytest.mark.parametrize("m", POINTS)
def test_one_dimension_is_a_correlation(m: int) -> None:
    rng = np.random.default_rng(m)
    b, g, a = matrices(m)
    d, w = rng.standard_normal(m + 2), rng.standard_normal(3)
    want = [sum(d[i + r] * w[r] for r in range(3)) for i in range(m)]
    np.testing.assert_allclose(a @ ((g @ w) * (b @ d)), want, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("m", "part"), [(4, 2), (6, 2), (6, 4)])
def test_a_smaller_tile_shares_weights(m: int, part: int) -> None:
    rng = np.random.default_rng(m)
    b, _, a = matrices(m, part)
    g = matrices(m)[1][list(points_of(m, part))]
    d, w = rng.standard_normal(part + 2), rng.standard_normal(3)
    want = [sum(d[i + r] * w[r] for r in range(3)) for i in range(part)]
    np.testing.assert_allclose(a @ ((g @ w) * (b @ d)), want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("m", POINTS)
def test_weights_are_transformed_in_two_dimensions(m: int) -> None:
    rng = np.random.default_rng(m)
    b, _, a = matrices(m)
    d, w = rng.standard_normal((m + 2, m + 2)), rng.standard_normal((1, 1, 3, 3)).astype(np.float32)
    u = transform_weights(w, m)[0].reshape(m + 2, m + 2)
    want = [[(d[i : i + 3, j : j + 3] * w[0, 0]).sum() for j in range(m)] for i in range(m)]
    np.testing.assert_allclose(a @ (u * (b @ d @ b.T)) @ a.T, want, rtol=0, atol=1e-5)


def force(monkeypatch: pytest.MonkeyPatch, **params: Any) -> None:
    """Let the schedule choose Winograd with these parameters for every convolution."""
    original = schedule_module.choose

    def choose(fusion: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(fusion.anchor, Conv2d):
            return original(fusion, *args, **options)
        template = next(t for t in templates_for(fusion.anchor) if t.name == "winograd")
        assert template.accepts(fusion, args[0])
        return schedule_module.Choice("winograd", params, "model")

    monkeypatch.setattr(schedule_module, "choose", choose)


SAME = (1, 1, 1, 1)
CASES: dict[str, tuple[Graph, dict[str, int]]] = {
    "one_chunk": (conv_graph(1, 32, 64, (8, 8), (3, 3), padding=SAME, residual=True), {"m": 2, "tiles": 16, "groups": 2, "vectors": 2}),
    "one_vector": (conv_graph(1, 40, 64, (14, 14), (3, 3), padding=SAME, residual=True), {"m": 4, "tiles": 16, "groups": 4, "vectors": 1}),
    "narrow_tiles": (conv_graph(2, 24, 64, (14, 13), (3, 3), padding=SAME, residual=True), {"m": 4, "tiles": 32, "groups": 2, "vectors": 2}),
    "lower_tiles": (conv_graph(1, 20, 32, (10, 12), (3, 3), padding=SAME), {"m": 6, "tiles": 4, "groups": 2, "vectors": 1}),
    "one_vector_last_chunk_short": (conv_graph(1, 16, 64, (16, 20), (3, 3), padding=SAME), {"m": 4, "tiles": 17, "groups": 4, "vectors": 1}),
    "last_chunk_short": (conv_graph(1, 19, 50, (13, 17), (3, 3), padding=SAME), {"m": 4, "tiles": 7, "groups": 2, "vectors": 2}),
    "images_share_chunks": (conv_graph(3, 16, 33, (7, 5), (3, 3), padding=SAME, residual=True), {"m": 4, "tiles": 5, "groups": 1, "vectors": 2}),
    "large_tile": (conv_graph(2, 24, 48, (12, 19), (3, 3), padding=SAME), {"m": 6, "tiles": 8, "groups": 2, "vectors": 2}),
    "stages_of_two_images": (conv_graph(2, 24, 48, (7, 6), (3, 3), padding=SAME, residual=True), {"m": 4, "tiles": 8, "groups": 2, "vectors": 2}),
    "stages_of_large_tiles": (conv_graph(1, 32, 48, (14, 9), (3, 3), padding=SAME), {"m": 6, "tiles": 6, "groups": 2, "vectors": 1}),
    "stages_dilated": (
        conv_graph(1, 24, 32, (13, 10), (3, 3), padding=(2,) * 4, dilation=(2, 2), residual=True),
        {"m": 4, "tiles": 16, "groups": 2, "vectors": 2},
    ),
    "no_padding": (conv_graph(1, 16, 16, (9, 10), (3, 3)), {"m": 2, "tiles": 28, "groups": 2, "vectors": 2}),
    "wide_padding": (conv_graph(1, 16, 20, (6, 5), (3, 3), padding=(2, 2, 0, 3), bias=False), {"m": 4, "tiles": 28, "groups": 2, "vectors": 2}),
    "map_below_a_tile": (conv_graph(1, 16, 16, (2, 1), (3, 3), padding=SAME), {"m": 6, "tiles": 1, "groups": 2, "vectors": 1}),
    "few_channels": (conv_graph(1, 5, 3, (11, 11), (3, 3), padding=SAME), {"m": 4, "tiles": 9, "groups": 2, "vectors": 2}),
    "dilated": (
        conv_graph(1, 32, 64, (28, 28), (3, 3), padding=(2,) * 4, dilation=(2, 2), residual=True),
        {"m": 4, "tiles": 64, "groups": 2, "vectors": 2},
    ),
    "dilated_odd": (conv_graph(2, 20, 40, (17, 13), (3, 3), padding=(4,) * 4, dilation=(4, 3)), {"m": 2, "tiles": 9, "groups": 2, "vectors": 2}),
    "dilated_narrow_tiles": (
        conv_graph(1, 24, 32, (27, 14), (3, 3), padding=(2, 2, 1, 1), dilation=(2, 1)),
        {"m": 4, "tiles": 64, "groups": 2, "vectors": 2},
    ),
    "dilated_beyond_the_map": (
        conv_graph(1, 16, 16, (5, 4), (3, 3), padding=(6,) * 4, dilation=(6, 6)),
        {"m": 4, "tiles": 36, "groups": 1, "vectors": 1},
    ),
}
#: Errors of the method in single precision, relative to the largest result: F(6) is the worst.
LIMITS = {2: 2e-6, 4: 5e-6, 6: 5e-5}


@pytest.mark.parametrize("name, threads", some(((name, threads) for name in CASES for threads in (1, 2, 3)), 2))
def test_kernels(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, params = CASES[name]
    force(monkeypatch, **params)
    compiled = check(graph, threads=threads, legal=False, tolerance=LIMITS[params["m"]])
    assert "winograd" in compiled.templates


@pytest.mark.parametrize("target", ALL_TARGETS[1:])
@pytest.mark.parametrize("name", ["one_chunk", "one_vector", "narrow_tiles", "last_chunk_short", "large_tile", "dilated"])
def test_narrow_vectors(name: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, params = CASES[name]
    force(monkeypatch, **params)
    check(graph, target=target, legal=False, tolerance=LIMITS[params["m"]])


def test_tail_with_exponentials(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    graph = Graph()
    x = graph.add_input(Tensor((1, 16, 10, 10)), "x")
    y = graph.add(Conv2d(x, Const(rng.standard_normal((32, 16, 3, 3)).astype(np.float32)), None, padding=SAME))  # type: ignore[arg-type]
    graph.set_outputs([graph.add(Mul(y, graph.add(Sigmoid(y))))])
    force(monkeypatch, m=4, tiles=9, groups=2, vectors=2)
    check(graph, legal=False, tolerance=LIMITS[4])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_result_that_holds_no_sums(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bools: a map of one chunk that goes through all phases at once."""
    rng = np.random.default_rng(0)

    def above(x: Value) -> Value:
        y = Conv2d(x, Const(rng.standard_normal((32, 16, 3, 3)).astype(np.float32)), None, padding=SAME).out
        return Greater(y, Const(np.float32(0.5))).out

    graph = graph_of(above, (1, 16, 12, 12))
    force(monkeypatch, m=4, tiles=9, groups=2, vectors=2)
    assert check(graph, threads=threads, legal=False).templates.count("winograd") == 1


def test_few_tiles_go_in_stages() -> None:
    """V and M hold a pair of rows then, and weights lie alike however many threads there are."""
    fusion = next(Fusion(op) for op in lowered(conv_graph(1, 64, 64, (14, 14), (3, 3), padding=SAME)).ops if isinstance(op, Fused) and op.macs())
    params = {"m": 4, "tiles": 16, "groups": 4, "vectors": 1}
    one, two = (make_plan(fusion, params, threads) for threads in (1, 2))
    assert (len(one.stages), len(two.stages)) == (3, 1)
    assert one.order == two.order
    assert 3 * one.sizes[0] == two.sizes[0]
    assert [plan.tiles_in(planes, 16) for plan in (one,) for planes in plan.planes if planes.pair == 0] == [16, 12]


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_geometry(data: st.DataObject) -> None:
    draw = data.draw
    m = draw(st.sampled_from([2, 4, 6]))
    dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    size = draw(st.integers(2 * dilation[0] + 1, 20)), draw(st.integers(2 * dilation[1] + 1, 20))
    channels = draw(st.integers(5, 70)), draw(st.integers(1, 70))  # fewer stay plain planes
    graph = conv_graph(draw(st.integers(1, 3)), *channels, size, (3, 3), padding=padding, dilation=dilation)
    params = {"m": m, "tiles": draw(st.integers(1, 30)), "groups": draw(st.integers(1, 4)), "vectors": draw(st.sampled_from([1, 2]))}
    with pytest.MonkeyPatch.context() as patch:
        force(patch, **params)
        check(graph, threads=draw(st.sampled_from([1, 2])), legal=False, tolerance=LIMITS[m])


@pytest.mark.parametrize(("winograd", "templates"), [(0, {"direct"}), (2, {"winograd"}), (4, {"winograd"})])
def test_compile_keeps_to_the_largest_tile(winograd: int, templates: set[str]) -> None:
    graph = conv_graph(1, 64, 64, (28, 28), (3, 3), padding=SAME)
    exe = tersor.compile(graph, winograd=winograd, tuned=False)
    steps = [s for s in exe.entry(1).steps if s.macs]
    assert {s.template for s in steps} <= templates | {"gemm"}
    assert all(s.params.get("m", 0) <= winograd for s in steps)


def test_compile_refuses_other_tiles() -> None:
    with pytest.raises(tersor.TersorError, match=r"unknown winograd=3; valid: 0 \(none\), 2, 4, 6"):
        tersor.compile(conv_graph(1, 16, 16, (8, 8), (3, 3)), winograd=3)
