"""What a pass is given: calibration, seeds, progress, options of layers; and what it says when something is missing."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from pass_cases import c, graph_of, names
from transform_cases import conv_bn_relu, network

from tersor.ir import Const, Graph, Loc, Op, Tensor, TersorError, Value
from tersor.ir import ops as nn
from tersor.ir.rewrite import Result, Trace, refuse, rewrite
from tersor.passes import Context, Pass, register_pass, transform


@pytest.mark.parametrize(
    ("what", "given", "message"),
    [
        ("calibration", {"calibration": []}, r"needs calibration batches: transform\(graph, pipeline, calibration=\[batch, ...\]\)"),
        ("train", {}, r"needs training data: transform\(graph, pipeline, train=data\)"),
        ("evaluate", {}, r"needs an accuracy function: transform\(graph, pipeline, evaluate=f\)"),
    ],
)
def test_what_is_missing_says_how_to_give_it(what: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(TersorError, match=rf"^pass 'test-needs' \(1 of 1\): {message}"):
        transform(network(), f"test-needs{{what={what}}}", **given)


def test_without_a_compiler_latency_has_to_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tersor.passes.core.context.DEFAULT_LATENCY", "no_such_module:latency")
    with pytest.raises(
        TersorError, match=r"'test-needs' \(1 of 1\): needs to measure latency, and No module.*: transform\(graph, pipeline, latency=f\)"
    ):
        transform(network(), "test-needs{what=latency}")


def test_what_is_given_arrives() -> None:
    batch = torch.randn(2, 3, 6, 6)
    given = {"calibration": [batch], "train": [(batch, 0)], "evaluate": lambda g: 1.0, "teacher": network()}
    for what in given:
        transform(network(), f"test-needs{{what={what}}}", **given)


def generator() -> Iterator[torch.Tensor]:
    yield torch.zeros(1, 3, 6, 6)
    yield torch.ones(2, 3, 6, 6)


@pytest.mark.parametrize(
    ("calibration", "count"),
    [
        (torch.zeros(2, 3, 6, 6), 1),
        (np.zeros((2, 3, 6, 6), np.float32), 1),
        ({"x": torch.zeros(2, 3, 6, 6)}, 1),
        (generator(), 2),
        ([(torch.zeros(1, 3, 6, 6),)], 1),
    ],
)
def test_calibration_in_any_form(calibration: Any, count: int) -> None:
    seen: list[Sequence[Any]] = []

    @register_pass
    @dataclass(frozen=True)
    class Look(Pass):
        """Look at the batches twice."""

        name = "test-look"
        keeps = "lossy"

        def run(self, graph: Graph, ctx: Context) -> None:
            seen.extend([list(ctx.need_calibration(self)), list(ctx.need_calibration(self))])

    ledger = transform(network(), "test-look", calibration=calibration).report
    assert [len(s) for s in seen] == [count, count]
    assert ledger[1].sqnr > 100


def test_calibration_of_another_kind_is_an_error() -> None:
    with pytest.raises(TersorError, match="calibration must be a list of batches, got int"):
        transform(network(), "", calibration=3)


def test_random_numbers_follow_the_seed_and_the_place() -> None:
    drawn: list[float] = []

    @register_pass
    @dataclass(frozen=True)
    class Draw(Pass):
        """Draw a number."""

        name = "test-draw"
        keeps = "exact"

        def run(self, graph: Graph, ctx: Context) -> None:
            drawn.append(float(ctx.rng.random()))

    for seed in (0, 0, 1):
        transform(network(), "test-draw,test-draw", seed=seed)
    assert drawn[:2] == drawn[2:4]
    assert len(set(drawn)) == 4


def test_progress_is_reported() -> None:
    calls: list[tuple[str, int, int]] = []

    @register_pass
    @dataclass(frozen=True)
    class Long(Pass):
        """Take three steps."""

        name = "test-long"
        keeps = "exact"

        def run(self, graph: Graph, ctx: Context) -> None:
            assert list(ctx.track(range(3), "steps")) == [0, 1, 2]

    transform(network(), "test-long,test-long", progress=lambda *call: calls.append(call))
    assert calls == [("steps", 1, 3), ("steps", 2, 3), ("steps", 3, 3), ("passes", 1, 2)] + [("steps", i, 3) for i in (1, 2, 3)] + [("passes", 2, 2)]
    transform(network(), "test-long", progress=True)


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stderr", err := Terminal())
    transform(network(), "canonicalize,fold-bn", progress=True)
    assert "passes" in err.getvalue()


def test_why_reaches_the_patterns() -> None:
    def build(x: Value) -> list[Any]:
        y = conv_bn_relu(x)
        return [y, y.operands[0].op.operands[0]]  # type: ignore[union-attr]

    why = Trace()
    transform(graph_of(build, (1, 3, 6, 6)), "fold-bn", why=why)
    assert [(pattern, op.loc.path) for pattern, op, _ in why.refused] == [("fold_bn", "features.1")]


# -- options of layers -------------------------------------------------------------------------


def test_options_of_layers_hold_for_their_layers() -> None:
    def build(x: Value) -> Op:
        w = Const(np.ones((3, 3, 1, 1), np.float32))
        for i in range(3):
            x = nn.Conv2d(x, w, loc=Loc(f"features.{i}.conv"))
        return x  # type: ignore[return-value]

    after = transform(
        graph_of(build, (1, 3, 2, 2)), 'test-scale{by=2.0 layers={"features.0.*": {by=1.0} "features.[01].*": {by=5.0} "*.1.*": {by=3.0}}}'
    )
    assert [float(op.operands[1].op.array.flat[0]) for op in after.find(nn.Conv2d)] == [5.0, 3.0, 2.0]  # type: ignore[union-attr]


def test_a_layer_pattern_without_layers_is_an_error() -> None:
    with pytest.raises(
        TersorError,
        match=r"'test-scale' \(1 of 1\): layer pattern 'feature.0' matches no op; module paths: features.0, features.1",
    ):
        transform(network(), 'test-scale{layers={"feature.0": {by=1.0}}}')


def test_a_rewrite_that_refuses_changes_nothing() -> None:
    @register_pass(name="test-refuses")
    @rewrite
    def refuses(op: nn.Relu) -> Result:
        """relu(x) stays"""
        return refuse("of course")

    why = Trace()
    after = transform(network(), "test-refuses", why=why, check=True)
    assert names(after) == names(network())
    assert [reason for _, _, reason in why.refused] == ["of course"]
    assert c(1).type == Tensor(())
