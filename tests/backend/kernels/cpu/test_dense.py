"""Matrix kernels against numpy in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from backend_run import DISTINCT_TARGETS, TARGETS, Compiled, arrays_for, assert_close, graph_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.backend.kernels.cpu.dense import Geometry, Panels
from tersor.backend.target import resolve
from tersor.backend.tile.fusion import Fusion
from tersor.ir.op import Const, Op, Value
from tersor.ir.ops import Add, Gelu, Linear, Matmul, Mul, Relu, Sub
from tersor.ir.types import Tensor

RNG = np.random.default_rng(3)
Build = Callable[..., Op]


def weights(*shape: int, dtype: str = "f") -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def multiplies(
    build: Build, oracle: Callable[..., np.ndarray], *types: Tensor, target: str = "cpu", threads: int = 1, tolerance: float = 2e-6
) -> Compiled:
    """The compiled graph (not legalized) is one dense kernel, and right."""
    graph = graph_of(build, *types)
    compiled = Compiled(graph, target, threads, legal=False)
    inputs = arrays_for(graph)
    (got,) = compiled(*inputs)
    assert_close(got, oracle(*(a.astype(np.float64) for a in inputs)), tolerance)
    assert compiled.templates == ["dense"]
    return compiled


#: rows, K, N: matrix-vector; few rows; whole and partial blocks; a single partial block; several row tiles; several chunks
SHAPES = [(1, 64, 100), (1, 1, 1), (3, 27, 5), (2, 100, 1000), (7, 33, 48), (50, 64, 70), (130, 16, 33), (600, 20, 30), (24, 5, 256), (65, 3000, 40)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("m, k, n", SHAPES)
def test_linear(m: int, k: int, n: int, target: str) -> None:
    w, b = weights(n, k), weights(n)
    multiplies(lambda x: Linear(x, Const(w), Const(b)), lambda x: x @ w.T.astype(float) + b, Tensor((m, k)), target=target)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("m, k, n", SHAPES[::2])
def test_linear_without_bias_on_threads(m: int, k: int, n: int, threads: int) -> None:
    w = weights(n, k)
    multiplies(lambda x: Relu(Linear(x, Const(w))), lambda x: np.maximum(x @ w.T.astype(float), 0), Tensor((m, k)), threads=threads)


@pytest.mark.parametrize("shape", [(20,), (3, 20), (1, 3, 20), (3, 2, 5, 20)])
def test_linear_of_any_rank(shape: tuple[int, ...]) -> None:
    w, b = weights(21, 20), weights(21)
    multiplies(lambda x: Linear(x, Const(w), Const(b)), lambda x: x @ w.T.astype(float) + b, Tensor(shape))


@pytest.mark.parametrize("target", TARGETS)
def test_tails_reach_partial_blocks(target: str) -> None:
    w, b, scale = weights(37, 20), weights(37), weights(37)

    def build(x: Value, y: Value) -> Op:
        return Relu(Add(Mul(Sub(Linear(x, Const(w), Const(b)), Const(np.float32(0.5))), Const(scale)), y))

    def oracle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        result: np.ndarray = np.maximum((x @ w.T.astype(float) + b - 0.5) * scale + y, 0)
        return result

    multiplies(build, oracle, Tensor((3, 11, 20)), Tensor((3, 11, 37)), target=target)


def test_a_tail_of_rank_4_reads_channels_from_the_last_axis() -> None:
    w, scale = weights(7, 20), weights(7)
    multiplies(lambda x: Mul(Linear(x, Const(w)), Const(scale)), lambda x: x @ w.T.astype(float) * scale, Tensor((2, 7, 3, 20)))


def test_an_operand_per_row_does_not_join_the_tail() -> None:
    graph = graph_of(lambda x, y: Add(Linear(x, Const(np.eye(7, dtype=np.float32))), y), (3, 4, 4, 7), (3, 4, 1, 1))
    compiled = Compiled(graph)
    x, y = arrays_for(graph)
    np.testing.assert_allclose(compiled(x, y)[0], x + y, rtol=1e-6)
    assert len(compiled.steps) == 2


def test_nothing_is_written_past_a_row() -> None:
    # row r + 1 is finished before row r when panels are shared out: a store past the end of r would show
    w = weights(33, 8)
    multiplies(lambda x: Linear(x, Const(w)), lambda x: x @ w.T.astype(float), Tensor((40, 8)), threads=2)


BATCHES = [
    ((), ()),
    ((3,), (3,)),
    ((3, 4), (3, 4)),
    ((3, 1), (4,)),
    ((2, 3, 1), (3, 4)),
    ((), (2,)),
    ((2,), ()),
    ((1,), (3,)),
    ((2, 1, 3), (2, 2, 1)),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("a, b", BATCHES)
def test_matmul_broadcasts(a: tuple[int, ...], b: tuple[int, ...], target: str) -> None:
    multiplies(Matmul, np.matmul, Tensor((*a, 5, 6)), Tensor((*b, 6, 19)), target=target)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "a, b, packs", [((60, 30), (30, 300), True), ((2, 60, 30), (2, 30, 257), True), ((2, 60, 30), (30, 300), True), ((4, 30), (30, 300), False)]
)
def test_matmul_packs_where_rows_pay(a: tuple[int, ...], b: tuple[int, ...], packs: bool, threads: int) -> None:
    compiled = multiplies(lambda x, y: Relu(Matmul(x, y)), lambda x, y: np.maximum(x @ y, 0), Tensor(a), Tensor(b), threads=threads)
    (op,) = (op for op in compiled.graph.ops if op.name == "tile.fused")
    assert (op.scratch >= 0) == packs  # type: ignore[attr-defined]


@pytest.mark.parametrize("target", TARGETS)
def test_matmul_by_a_constant(target: str) -> None:
    right, left, one = weights(2, 30, 50), weights(2, 60, 30), weights(60, 30)
    multiplies(lambda a: Matmul(a, Const(right)), lambda a: a @ right.astype(float), Tensor((2, 9, 30)), target=target)
    multiplies(lambda b: Matmul(Const(left), b), lambda b: left.astype(float) @ b, Tensor((2, 30, 77)), target=target)
    multiplies(lambda b: Matmul(Const(one), b), lambda b: one.astype(float) @ b, Tensor((3, 30, 77)), target=target)


@pytest.mark.parametrize("target", TARGETS)
def test_doubles(target: str) -> None:
    w, b = weights(21, 20, dtype="d"), weights(21, dtype="d")
    multiplies(lambda x: Linear(x, Const(w), Const(b)), lambda x: x @ w.T + b, Tensor((13, 20), "f64"), target=target, tolerance=1e-14)
    multiplies(Matmul, np.matmul, Tensor((3, 50, 20), "f64"), Tensor((3, 20, 130), "f64"), target=target, tolerance=1e-14)


def test_activations_that_need_more_than_a_comparison() -> None:
    from math import erf

    w = weights(45, 20)
    gelu = np.vectorize(lambda v: v / 2 * (1 + erf(v / 2**0.5)))
    multiplies(lambda x: Gelu(Linear(x, Const(w))), lambda x: gelu(x @ w.T.astype(float)), Tensor((3, 20)), tolerance=5e-6)


def test_panels_are_even_and_a_partial_one_stands_alone() -> None:
    fusion = Fusion(Compiled(graph_of(lambda x: Linear(x, Const(weights(16 * 13 - 3, 4))), (2, 4)), "cpu:x86-64-v4", legal=False).graph.ops[-1])  # type: ignore[arg-type]
    g = Geometry(fusion, resolve("cpu:x86-64-v4"))
    assert g.panels(4) == [Panels(4, 0, 1, 16), Panels(3, 4, 2, 16), Panels(3, 10, 1, 13)]
    for vectors in range(1, 9):
        panels = g.panels(vectors)
        assert sum(p.vectors * p.count for p in panels) == 13
        assert max(p.vectors for p in panels) - min(p.vectors for p in panels) <= 1


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 70), st.integers(1, 60), st.integers(1, 90), st.sampled_from(DISTINCT_TARGETS), st.sampled_from([1, 2]))
def test_linear_of_random_shapes(m: int, k: int, n: int, target: str, threads: int) -> None:
    w, b = weights(n, k), weights(n)
    multiplies(
        lambda x: Linear(x, Const(w), Const(b)), lambda x: x @ w.T.astype(float) + b, Tensor((m, k)), target=target, threads=threads, tolerance=5e-6
    )
