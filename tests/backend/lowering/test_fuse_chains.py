"""The chain stage and its kernels: inverted residuals and their halves in one kernel, against the interpreter in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from backend_run import ALL_TARGETS, check, lowered, resumes
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tersor.backend.kernels.template import chain_templates, templates_for
from tersor.backend.lowering import fuse_chains as chain_module
from tersor.backend.lowering.fuse_chains import SEPARATE
from tersor.backend.lowering.select_kernels import candidates
from tersor.backend.pipelines import lower
from tersor.backend.target import resolve
from tersor.backend.tile.fusion import Fusion
from tersor.backend.tile.ops import Fused
from tersor.backend.tuned.database import Database, Entry, Timing
from tersor.backend.tuned.key import shape_key
from tersor.ir.evaluate import evaluate
from tersor.ir.graph import Graph
from tersor.ir.op import Const, Value
from tersor.ir.ops import Add, Clip, Conv2d, Mul, Silu
from tersor.ir.types import Tensor


def relu6(y: Value) -> Any:
    return Clip(y, 0.0, 6.0)


def block(
    n: int = 1, c: int = 17, e: int = 33, o: int = 18, size: tuple[int, int] = (11, 10), kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1), padding: tuple[int, ...] = (1, 1, 1, 1), dilation: tuple[int, int] = (1, 1),
    expand: bool = True, project: bool = True, residual: bool = False, act: Callable[[Value], Any] = relu6, bias: bool = True,
) -> Graph:  # fmt: skip
    """An inverted residual, or half of one."""
    rng = np.random.default_rng(0)
    graph = Graph()
    x = y = graph.add_input(Tensor((n, c, *size)), "x", True)

    def conv(x: Value, out: int, kernel: tuple[int, int], **how: Any) -> Value:
        w = rng.standard_normal((out, x.shape[1] // how.get("groups", 1), *kernel)).astype(np.float32)
        b = Const(rng.standard_normal(out).astype(np.float32)) if bias else None
        return graph.add(Conv2d(x, Const(w), b, **how))  # type: ignore[arg-type]

    if expand:
        y = graph.add(act(conv(y, e, (1, 1))))
    y = graph.add(act(conv(y, y.shape[1], kernel, stride=stride, padding=padding, dilation=dilation, groups=y.shape[1])))
    if project:
        y = conv(y, o, (1, 1))
    if residual:
        y = graph.add(Add(y, x))
    graph.set_outputs([y])
    return graph


CASES = {
    "residual": block(c=24, e=144, o=24, size=(14, 14), residual=True),
    "three_images_stride2": block(n=3, c=19, e=50, o=21, size=(13, 17), stride=(2, 2)),
    "5x5": block(n=2, c=20, e=40, o=36, size=(15, 9), kernel=(5, 5), padding=(2, 2, 2, 2)),
    "7x7": block(c=16, e=48, o=16, size=(9, 8), kernel=(7, 7), stride=(2, 1), padding=(3, 3, 3, 3)),
    "asymmetric": block(padding=(0, 2, 1, 0), stride=(2, 2)),
    "dilated": block(padding=(2, 2, 2, 2), dilation=(2, 2)),
    "stride_beyond_kernel": block(kernel=(1, 1), stride=(3, 3), padding=(0, 0, 0, 0)),
    "padding_beyond_kernel": block(size=(5, 4), padding=(4, 4, 4, 4)),
    "two_pixels": block(n=3, size=(2, 1)),
    "exponentials": block(act=Silu, bias=False),
    "depthwise_pointwise": block(n=3, c=20, o=40, expand=False),
    "pointwise_depthwise": block(n=3, e=40, project=False, stride=(2, 2)),
}
NAMES = {(True, True): "inverted_residual", (False, True): "depthwise_pointwise", (True, False): "pointwise_depthwise"}


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever can be chained is, the longest first."""
    monkeypatch.setattr(chain_module, "separate_cost", lambda ops, *_: 1e15 * len(ops))


def rows(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Every template for chains makes so many rows a step."""
    for template in chain_templates():
        monkeypatch.setattr(type(template), "candidates", lambda *_: [{"rows": number}])


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_kernels(name: str, threads: int) -> None:
    wanted = name if name in NAMES.values() else "inverted_residual"
    assert check(CASES[name], threads=threads).templates == ["repack", wanted, "repack"]


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("target", ALL_TARGETS[1:])
@pytest.mark.parametrize("name", ["residual", "three_images_stride2", "asymmetric", "exponentials", "pointwise_depthwise"])
def test_narrow_vectors(name: str, target: str) -> None:
    assert len(check(CASES[name], target=target).templates) == 3


@pytest.mark.usefixtures("always")
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_geometry(data: st.DataObject) -> None:
    draw = data.draw
    kernel, stride = (draw(st.integers(1, 5)), draw(st.integers(1, 5))), (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, 3)) for _ in range(4))
    # that depthwise convolution is a scale, and no link of a chain
    assume(not kernel == stride == (1, 1) or any(padding))
    graph = block(
        draw(st.integers(1, 3)), draw(st.integers(5, 40)), draw(st.integers(5, 70)), draw(st.integers(1, 40)),
        (draw(st.integers(5, 20)), draw(st.integers(5, 20))), kernel, stride, padding,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        rows(patch, draw(st.integers(1, 6)))
        assert "inverted_residual" in check(graph, threads=draw(st.sampled_from([1, 2, 3]))).templates


def chained(graph: Graph) -> list[str]:
    """Templates of the chains of a graph."""
    names = {t.name for t in chain_templates()}
    return [op.template for op in lowered(graph).ops if isinstance(op, Fused) and op.template in names]


@pytest.mark.usefixtures("always")
def test_blocks_in_a_row_are_chained_each() -> None:
    rng = np.random.default_rng(0)
    graph = Graph()
    y = graph.add_input(Tensor((1, 16, 9, 9)), "x", True)
    for _ in range(3):
        x = y
        for o, c, k, groups in ((40, 16, 1, 1), (40, 1, 3, 40), (16, 40, 1, 1)):
            w = (rng.standard_normal((o, c, k, k)) / np.sqrt(c * k * k)).astype(np.float32)
            y = graph.add(Conv2d(y, Const(w), None, padding=(k // 2,) * 4, groups=groups))  # type: ignore[arg-type]
        y = graph.add(Add(y, x))
    graph.set_outputs([y])
    assert check(graph).templates == ["repack", *["inverted_residual"] * 3, "repack"]


@pytest.mark.usefixtures("always")
def test_refused() -> None:
    second_reader = block()
    second_reader.set_outputs([*second_reader.outputs, [op.out for op in second_reader.ops if isinstance(op, Clip)][-1]])
    assert chained(second_reader) == ["pointwise_depthwise"]
    rng = np.random.default_rng(0)
    # an epilogue that reads a whole map inside the chain, and a convolution that is neither pointwise nor depthwise
    reads_map = block(expand=False, project=False, c=16)
    y = reads_map.add(Mul(reads_map.outputs[0], reads_map.inputs[0]))
    w = rng.standard_normal((8, 16, 1, 1)).astype(np.float32)
    reads_map.set_outputs([reads_map.add(Conv2d(y, Const(w), None))])
    assert chained(reads_map) == []
    wide = block(expand=False, project=False, c=16)
    w = rng.standard_normal((8, 16, 3, 3)).astype(np.float32)
    wide.set_outputs([wide.add(Conv2d(wide.outputs[0], Const(w), None))])
    assert chained(wide) == []


def test_the_model_chains_maps_beyond_l2_and_no_small_ones() -> None:
    large = block(c=16, e=96, o=24, size=(112, 112), stride=(2, 2))
    small = block(c=160, e=960, o=160, size=(7, 7))
    for threads in (1, 2):
        wide, narrow = (lower(g, replace(resolve("cpu"), l2=512 << 10), threads, tuned=False) for g in (large, small))
        assert "inverted_residual" in str(wide)
        assert not any(t.name in str(narrow) for t in chain_templates())


@pytest.mark.usefixtures("always")
def test_stage_means_the_same_and_resumes() -> None:
    graph = CASES["residual"]
    seen = resumes(graph, "fuse-chains")
    x = [torch.randn(graph.inputs[0].shape, dtype=torch.float64)]
    for a, b in zip(evaluate(seen["select-kernels"], x, dtype=torch.float64), evaluate(seen["fuse-chains"], x, dtype=torch.float64), strict=True):
        assert torch.equal(a, b)
    assert "inverted_residual" in str(seen["fuse-chains"])


@pytest.mark.usefixtures("always")
def test_regions_of_chains() -> None:
    (op,) = [op for op in lowered(CASES["residual"]).ops if isinstance(op, Fused) and op.template == "inverted_residual"]
    stages = Fusion(op).segments
    assert [len(s.epilogue) for s in stages] == [1, 1, 1]
    assert [s.out.shape[1] * resolve("cpu").lanes >= c for s, c in zip(stages, (144, 144, 24))] == [True] * 3
    assert stages[-1].result is op.body.outputs[0] and Fusion(op).anchor is stages[0].anchor
    # templates of one anchor are never asked about a chain, and the other way round
    offered = {t.name for t, _ in candidates(Fusion(op), resolve("cpu"), 1)}
    assert offered == {"inverted_residual"}
    assert not {t.name for t in templates_for(Fusion(op).anchor)} & {t.name for t in chain_templates()}


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    ("size", "l2", "steps"), [(112, 1 << 20, {1, 2, 4, 7}), (28, 1 << 20, {1, 2, 4, 7, 14}), (26, 1 << 20, {1, 2, 4, 7, 13}), (112, 1 << 10, {2})]
)
def test_steps_make_what_l2_holds(size: int, l2: int, steps: set[int]) -> None:
    """All rows of a small map, but not those of a large one; where L2 holds not even one step, there is one candidate still."""
    (op,) = [op for op in lowered(block(c=16, e=96, size=(size, size), stride=(2, 2), project=False)).ops if isinstance(op, Fused) and op.macs()]
    offered = candidates(Fusion(op), replace(resolve("cpu:znver4"), l2=l2), 1)
    assert [t.name for t, _ in offered] == ["pointwise_depthwise"] * len(steps) and {p["rows"] for _, p in offered} == steps


@pytest.mark.parametrize("template", ["inverted_residual", SEPARATE])
def test_the_database_decides(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, graph = resolve("cpu"), CASES["residual"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain_module, "separate_cost", lambda ops, *_: 1e15 * len(ops))
        (op,) = [op for op in lowered(graph).ops if isinstance(op, Fused) and op.template == "inverted_residual"]
    params = {} if template == SEPARATE else {"rows": 7}
    database = Database()
    database.add(target, 1, shape_key(op), Entry(template, params, {}, (Timing(template, params, 1.0, 1, 0.0),)))
    # the model would say the contrary
    monkeypatch.setattr(chain_module, "separate_cost", lambda ops, *_: (len(ops) == 3) * 1e15 if template == SEPARATE else 0.0)
    fusions = [op for op in lower(graph, target, tuned=database).ops if isinstance(op, Fused)]
    found = [(op.params, op.chosen) for op in fusions if op.template == "inverted_residual"]
    assert found == ([] if template == SEPARATE else [({"rows": 7}, "tuned")])
