"""auto: fronts against brute force, budgets, resuming, and points that their pipelines reproduce. Latency is a function of the graph here."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_cases import accuracy, graph, same, shapes

import tersor
from tersor.explore.front import Budget, Front, Point, pareto
from tersor.explore.space import Space
from tersor.ir import Graph
from tersor.ir.errors import TersorError


def latency(g: Graph) -> float:
    return 1.0 + g.macs() / 1e4


def run(trials: int, **options: Any) -> Front:
    given = {"calibration": [shapes(24)[0]], "ways": ["prune", "sparsify", "int8"], "latency": latency} | options
    return tersor.auto(graph(), trials=trials, **given)


def test_the_front_holds_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    points = [Point(str(i), *map(float, rng.integers(0, 4, 2)), int(rng.integers(0, 4))) for i in range(30)]

    def beats(a: Point, b: Point) -> bool:
        x, y = (-a.quality, a.latency, a.nbytes), (-b.quality, b.latency, b.nbytes)
        return x != y and all(i <= j for i, j in zip(x, y))

    front = pareto(points)
    assert not any(beats(a, b) for a, b in itertools.product(points, front))
    left = {(p.quality, p.latency, p.nbytes) for p in points if not any(beats(q, p) for q in points)}
    assert {(p.quality, p.latency, p.nbytes) for p in front} == left and len(front) == len(left)


def test_budgets() -> None:
    budget, first = Budget.parse("5 ms, 2 kB, -1 %"), Point("", 0.9, 9.0, 9000)
    assert (budget.latency, budget.nbytes, budget.loss) == (5, 2000, 0.01)
    assert budget.allows(Point("", 0.89, 5, 2000), first)
    for point in (Point("", 0.889, 5, 2000), Point("", 0.9, 5.1, 2000), Point("", 0.9, 5, 2001)):
        assert not budget.allows(point, first)
    assert Budget.parse(None).allows(first, first)


@pytest.mark.parametrize("text", ["5", "5 s", "ms", "-5 ms", "1 %", "5 ms,6 ms", "fast"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(TersorError, match=r"expected a budget such as|twice"):
        run(1, budget=text)


def test_points_reproduce_and_a_search_goes_on(tmp_path: Path) -> None:
    calls = 0

    def judged(g: Graph) -> float:
        nonlocal calls
        calls += 1
        return -float((g(shapes(24)[0]) - graph()(shapes(24)[0])).norm())

    storage = {"storage": tmp_path / "auto.db", "evaluate": judged, "budget": "50 ms"}
    front = run(4, **storage)
    assert front.tried[0].pipeline == "default" and front.first.quality == pytest.approx(0, abs=1e-4)
    assert front.budget.allows(front.best, front.first) and front.best.quality == max(p.quality for p in front.tried)
    for point in front:
        small = tersor.transform(graph(), point.pipeline, calibration=[shapes(24)[0]])
        assert same(small, front.graph(point)) and judged(small) == point.quality and latency(small) == point.latency
    before = calls
    more = run(5, **storage)
    assert more.tried[: len(front.tried)] == front.tried and calls <= before + 1
    front.draw(tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 1000 and '"front"' in front.to_json()
    assert all(p.pipeline in str(front) for p in front)
    with pytest.raises(TersorError, match="is of another search"):
        run(5, **storage | {"ways": ["int8"]})


def test_without_an_evaluation_quality_is_agreement_on_data_held_out() -> None:
    front = run(2)
    assert front.measure == "agreement" and front.first.quality == 1
    with pytest.raises(TersorError, match="none of 2 networks keeps to the budget"):
        _ = run(2, budget="0.001 ms").best


def test_a_pipeline_with_training(tmp_path: Path) -> None:
    class Fixed:
        """A trial that says yes to everything, and takes the least."""

        def suggest_categorical(self, name: str, choices: Any) -> Any:
            return choices[-1]

        def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None) -> float:
            return low

    def text_of(*ways: str) -> str:
        return Space.of(graph(), ways, train=True, epochs=1).pipeline(Fixed())

    assert text_of("prune", "factorize", "sparsify", "int8") == (
        "default,prune-channels{macs=0.30},low-rank{max_error=0.05},sparsify{sparsity=0.50 scope=global repair=least-squares},finetune{epochs=1},"
        "freeze-sparsity,int8"
    )
    assert text_of("sparsify", "ternary", "int8") == "default,ternarize,finetune{epochs=1},freeze-bits"
    x = shapes(96)[0]
    for text in (text_of("prune", "sparsify", "int8"), text_of("ternary")):
        small = tersor.transform(graph(), text, train=shapes(96), calibration=[x[:48]])
        assert small(x).shape == (96, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": []}, "needs calibration batches"),
        ({"calibration": [shapes(1)[0]]}, "holds out a part of the calibration data"),
        ({"ways": ["magic"]}, "unknown way 'magic'; valid: prune"),
        ({"ways": ["ternary"]}, "ternary weights need training data"),
        ({"epochs": 0}, "trials and epochs must be at least 1"),
        ({"storage": "/nowhere/at/all.db"}, "cannot open the storage"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TersorError, match=message):
        run(1, **options)


def test_optuna_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(TersorError, match=r"pip install tersor\[search\]"):
        run(1)


def test_a_pipeline_that_fails_is_told_and_not_made_again() -> None:
    def judged(g: Graph) -> float:
        if g.macs() < graph().macs():
            raise TersorError("too small")
        return accuracy(g) + 0 * float(torch.zeros(1))

    front = run(6, ways=["prune"], evaluate=judged)
    assert [p.pipeline for p in front.tried] == ["default"]
    assert front.failed and all(e.endswith("too small") for e in front.failed.values())
