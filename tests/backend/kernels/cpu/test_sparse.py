"""The sparse pointwise kernel against the interpreter in float64, on every target; and which layers get it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from backend_run import DISTINCT_TARGETS, Compiled, arrays_for, graph_of, lowered

import tersor
from tersor.backend.kernels.cpu.sparse.integer import SparseIntPointwise, largest
from tersor.backend.kernels.cpu.sparse.pointwise import SparsePointwise, pack_rows
from tersor.backend.target import resolve
from tersor.backend.tile.fusion import Fusion
from tersor.backend.tile.integer import IntConv2d
from tersor.backend.tile.ops import Fused
from tersor.ir.evaluate import evaluate, to_torch
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Op, Value
from tersor.ir.ops import Add, Conv2d, Relu, Silu
from tersor.ir.types import Tensor


def conv(x: Value, out: int, share: float, seed: int, bias: bool = True, **geometry: tuple[int, ...]) -> Value:
    """A 1x1 convolution whose weights are zero at the share."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((out, x.shape[1], 1, 1)).astype(np.float32)
    w[rng.random(w.shape) < share] = 0
    return Conv2d(x, Const(w), Const(rng.standard_normal(out).astype(np.float32)) if bias else None, **geometry).out


def network(x: Value) -> Op:
    """Odd channels, a residual sum, an epilogue with an exponential, a layer of zeros alone, pixels that no vector divides."""
    y = Relu(conv(x, 70, 0.97, 0)).out
    y = Add(Relu(conv(y, 70, 0.97, 1, bias=False)), y).out
    return Relu(conv(Silu(conv(y, 45, 0.98, 2)).out, 50, 1.0, 3))


def templates(graph: Graph, target: str, threads: int = 1) -> list[str]:
    ops = lowered(graph, target, threads).ops
    return [op.template for op in ops if isinstance(op, Fused) and op.macs()]


@pytest.mark.parametrize(("target", "threads", "batch"), [*((t, 1, 1) for t in DISTINCT_TARGETS), ("cpu", 2, 2)])
def test_kernel(target: str, threads: int, batch: int) -> None:
    graph = graph_of(network, (batch, 50, 13, 11))
    assert templates(graph, target, threads) == ["sparse_pointwise"] * 4
    inputs = arrays_for(graph)
    with torch.no_grad():
        (expected,) = evaluate(graph, [to_torch(a).double() for a in inputs], dtype=torch.float64)
    (got,) = Compiled(graph, target, threads)(*inputs)
    np.testing.assert_allclose(got.reshape(expected.shape), expected.numpy(), atol=1e-4, rtol=1e-4)


def test_packed_rows_hold_each_weight_once() -> None:
    w = np.array([[0, 2, 0], [0, 0, 0], [3, 0, -1]], np.float32)
    packed = pack_rows(w, 4, 10)
    assert packed[:5].tolist() == [0, 1, 1, 3, 3]
    pairs = packed[5:].reshape(-1, 2)
    assert pairs[:, 0].tolist() == [10, 0, 20] and pairs[:, 1].copy().view(np.float32).tolist() == [2, 3, -1]


def test_a_layer_is_sparse_where_that_is_cheaper_and_the_report_says_why(tmp_path: Path) -> None:
    def layers(x: Value) -> list[Op | Value]:
        strided = conv(x, 64, 0.9, 4, stride=(2, 2))
        return [conv(x, 64, 0.9, 0), conv(x, 16, 0.6, 1), conv(x, 64, 0.3, 2), strided]

    exe = tersor.compile(graph_of(layers, (1, 64, 14, 14)))
    exe.save(tmp_path / "m.tso")
    for model in (exe, tersor.load_compiled(tmp_path / "m.tso")):
        notes = [step.note for step in model.entries[-1].steps if step.macs]
        assert notes[0] == "90 % zeros: sparse kernel"
        assert "% zeros: dense kernel (gemm), for the sparse one would take" in notes[1]
        assert notes[2] == ""
        assert "for it is not an ungrouped 1x1 convolution of stride 1" in notes[3]
        assert "90 % zeros" in str(model.report)


def test_cost_falls_with_the_weights() -> None:
    def costs(share: float) -> float:
        graph = lowered(graph_of(lambda x: conv(x, 128, share, 0), (1, 128, 14, 14)), "cpu")
        fusion = next(Fusion(op) for op in graph.ops if isinstance(op, Fused) and op.macs())
        template, target = SparsePointwise(), resolve("cpu")
        return min(template.cost(fusion, target, p) for p in template.candidates(fusion, target, 1))

    assert costs(0.95) < costs(0.9) < costs(0.6)


def test_sums_that_floats_may_not_hold_are_refused() -> None:
    """2^24 / (127 * 255) weights of 127 are exact in float32, whatever the activations are."""
    for count, exact in ((518, True), (519, False)):
        graph = Graph()
        x = graph.add_input(Tensor((1, 1200, 2, 2), "u8"), "x")
        w = np.zeros((1, 1200, 1, 1), np.int8)
        w[:, :count] = 127
        graph.set_outputs([graph.add(IntConv2d(x, Const(w), None, zero=Const(np.uint8(0))))])
        (op,) = [op for op in lowered(graph, "cpu").ops if isinstance(op, Fused) and op.macs()]
        assert largest(Fusion(op)) == count * 127 * 255
        assert SparseIntPointwise().accepts(Fusion(op), resolve("cpu")) == exact
