"""Dot products for the last outputs of a pointwise convolution: where they are used, and their numbers against the interpreter in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from backend_run import TARGETS, Compiled, arrays_for, assert_close, check, reference
from conv_graphs import conv_graph

from tersor.backend.kernels.cpu.conv.dot import dot_outputs, pack_dots
from tersor.backend.kernels.cpu.conv.gemm import Gemm, output_groups
from tersor.backend.kernels.cpu.window import Window
from tersor.backend.kernels.template import templates_for
from tersor.backend.lowering import select_kernels as schedule_module
from tersor.backend.target import resolve
from tersor.backend.tile.ops import Fused
from tersor.ir.graph import Graph
from tersor.ir.op import Const
from tersor.ir.ops import Conv2d, Div, Silu
from tersor.ir.types import Tensor


@pytest.fixture(autouse=True)
def gemm_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the schedule see only this convolution template."""
    monkeypatch.setattr(schedule_module, "templates_for", lambda op: (t for t in templates_for(op) if t.name not in ("direct", "winograd")))


def window(c: int, o: int, lanes: int = 16) -> Window:
    return Window(1, c, 28, 28, o, 28, 28, 1, 1, 1, 1, 0, 0, block_in=lanes, lanes=lanes)


# -- where they are used -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("c", "o", "dots"),
    [
        (116, 116, 4),
        (64, 65, 1),
        (232, 232, 8),
        (96, 24, 8),
        (64, 4, 4),
        # whole blocks
        (116, 128, 0),
        # nearly a whole vector of outputs
        (116, 124, 0),
        (116, 127, 0),
        # the sums at the end cost as much as they save
        (16, 116, 0),
        (24, 72, 0),
        # one block of 63
        (512, 1000, 0),
    ],
)
def test_a_few_outputs_of_many_channels(c: int, o: int, dots: int) -> None:
    assert dot_outputs(window(c, o)) == dots


def test_pointwise_convolutions_only() -> None:
    g = window(116, 116)
    assert dot_outputs(g)
    for other in (replace(g, kh=3, kw=3, top=1, left=1), replace(g, sh=2, sw=2, oh=14, ow=14), replace(g, groups=4)):
        assert not dot_outputs(other)


@pytest.mark.parametrize(
    ("o", "groups"),
    [
        (116, [(2, 0, 2, 0), (3, 4, 1, 4)]),
        (68, [(2, 0, 2, 4)]),
        (4, [(0, 0, 1, 4)]),
        (128, [(2, 0, 4, 0)]),
    ],
)
def test_they_follow_the_last_group_of_whole_vectors(o: int, groups: list[tuple[int, int, int, int]]) -> None:
    assert output_groups(window(116, o)) == groups


def test_weights_are_packed_by_input_block() -> None:
    w = np.arange(1, 11, dtype=np.float32).reshape(2, 5)
    assert pack_dots(w, 4).tolist() == [1, 2, 3, 4, 6, 7, 8, 9, 5, 0, 0, 0, 10, 0, 0, 0]


@pytest.mark.parametrize(("c", "o"), [(116, 116), (64, 1), (144, 24)])
def test_the_model_knows_that_they_are_cheaper(c: int, o: int) -> None:
    def cost(o: int) -> float:
        lowered = Compiled(conv_graph(1, c, o, (14, 14), (1, 1)), target="cpu:x86-64-v4", legal=False).graph
        (op,) = [op for op in lowered.find(Fused) if op.template == "gemm"]
        return Gemm().cost(schedule_module.Fusion(op), resolve("cpu:x86-64-v4"), {"chunk": 14})

    assert cost(o) < cost(-(-o // 16) * 16)


# -- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["cpu", "cpu:znver3", pytest.param("cpu:x86-64-v2", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("bias", "residual"), [(True, True), (True, False), (False, False), pytest.param(False, True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("n", "c", "o", "size"), [(1, 116, 116, (5, 7)), (3, 64, 35, (3, 11)), (1, 130, 66, (14, 14))])
def test_tails(n: int, c: int, o: int, size: tuple[int, int], bias: bool, residual: bool, target: str) -> None:
    """With and without a bias, behind a relu or a residual sum."""
    assert "gemm" in check(conv_graph(n, c, o, size, (1, 1), bias=bias, residual=residual), target=target, legal=False).templates


@pytest.mark.parametrize("rest", range(1, 9))
@pytest.mark.parametrize("whole", [0, 2, 7, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))])
def test_every_number_of_outputs(whole: int, rest: int) -> None:
    c, o = 181, 16 * whole + rest
    if resolve("cpu").lanes == 16:
        assert dot_outputs(window(c, o)) == rest
    check(conv_graph(2, c, o, (3, 5), (1, 1)), legal=False)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 3), (13, 13), (28, 28)])
@pytest.mark.parametrize("c", [64, 71, 80, 95, 1024])
def test_channels_and_pixels(c: int, size: tuple[int, int]) -> None:
    check(conv_graph(1, c, 20, size, (1, 1), residual=True), legal=False)


@pytest.mark.parametrize("o", [9, 25, 27, 120, 128])
def test_other_layers_beside_them(o: int) -> None:
    check(conv_graph(1, 64, o, (7, 5), (1, 1)), legal=False)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("n", "o", "size"), [(1, 116, (9, 7)), (3, 68, (5, 5)), (1, 3, (11, 3)), (1, 36, (1, 1))])
def test_threads(n: int, o: int, size: tuple[int, int], threads: int) -> None:
    check(conv_graph(n, 116, o, size, (1, 1), residual=True), threads=threads, legal=False)


@pytest.mark.parametrize("chunk", [1, 14, 63, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 21, 100))])
@pytest.mark.parametrize("o", [2, 68, pytest.param(36, marks=pytest.mark.slow)])
def test_any_chunk(o: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one parameter, as it stands in databases tuned before there were dot products."""
    monkeypatch.setattr(Gemm, "candidates", lambda *_: [{"chunk": chunk}])
    for threads in (1, 2):
        check(conv_graph(2, 100, o, (7, 9), (1, 1)), threads=threads, legal=False)


@pytest.mark.parametrize("target", TARGETS)
def test_a_tail_that_runs_in_a_loop(target: str) -> None:
    graph = Graph()
    x = graph.add_input(Tensor((1, 70, 5, 7)), "x", True)
    w = np.random.default_rng(0).standard_normal((34, 70, 1, 1)).astype(np.float32)
    graph.set_outputs([graph.add(Silu(graph.add(Conv2d(x, Const(w), Const(w[:, 0, 0, 0])))))])
    check(graph, target=target, legal=False)


# -- dead lanes ----------------------------------------------------------------------------------


def test_dead_lanes_of_the_input_may_be_anything() -> None:
    """0 / 0 of dead lanes is NaN, which no weight of zero hides."""
    rng = np.random.default_rng(0)
    graph = Graph()
    y = graph.add_input(Tensor((1, 67, 6, 6)), "x", True)
    for _ in range(2):
        y = graph.add(Conv2d(y, Const(rng.standard_normal((67, 67, 1, 1)).astype(np.float32)), None))
        y = graph.add(Div(y, Const(np.full((1, 67, 1, 1), 9, np.float32))))
    graph.set_outputs([y])
    inputs = arrays_for(graph)
    assert_close(Compiled(graph, legal=False)(*inputs)[0], reference(graph, inputs)[0], 1e-5)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("o", [3, 21, 68, 70])
def test_dead_lanes_of_the_result_are_the_tail_of_zero(o: int, bias: bool) -> None:
    graph = conv_graph(2, 116, o, (5, 5), (1, 1), bias=bias)
    compiled = Compiled(graph, legal=False)
    compiled(*arrays_for(graph))
    (op,) = [op for op in compiled.graph.find(Fused) if op.template == "gemm"]
    blocks = compiled.arena.numpy()[op.offset :][: op.out.type.nbytes].view(np.float32).reshape(op.out.shape)
    assert op.out.shape[-1] * op.out.shape[1] > o
    assert (blocks[:, -1, ..., o % op.out.shape[-1] :] == 0).all() and (blocks != 0).any()
