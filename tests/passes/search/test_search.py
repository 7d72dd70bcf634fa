"""search: budgets, rewards, resuming, and what it refuses. The agents run on a network of three layers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from train_cases import graph, shapes

import tersor
from tersor.ir import Graph
from tersor.ir.errors import TersorError
from tersor.passes.core.check import sqnr
from tersor.passes.search.environment import Environment
from tersor.passes.search.knobs import Channels, Weights


def calibration() -> list[torch.Tensor]:
    return [shapes(16)[0]]


def multiplied(g: Graph) -> int:
    """Multiply-accumulates with weights that are not zero."""
    frozen = tersor.transform(g, "freeze-sparsity")
    layers = [*frozen.find("nn.conv2d"), *frozen.find("nn.linear")]
    return sum(round(op.macs() * float((op.w.op.array != 0).mean())) for op in layers)


def test_costs_are_those_of_the_network_that_results() -> None:
    for knobs, ratios in ((Weights(graph(), ""), [0.5, 0.25, 0.75]), (Channels(graph(), ""), [0.5, 0.25])):
        small = tersor.transform(graph(), knobs.pipeline(ratios), calibration=calibration())
        macs = multiplied(small) if isinstance(knobs, Weights) else small.macs()
        assert knobs.cost(ratios) == pytest.approx(macs / graph().macs(), rel=0.01)


def environment(budget: float = 0.4) -> Environment:
    return Environment(Weights(graph(), ""), budget, 0.8, lambda ratios: (0.0, None))


def test_an_action_is_raised_only_where_the_rest_could_not_meet_the_budget() -> None:
    env = environment()
    macs = np.array([k.macs for k in env.knobs.knobs]) / graph().macs()
    # the least ratio of the second layer when the others go as far as they may: the equation solved by hand
    first, action = 0.1, 0.05
    needed = (1 - 0.4 - first * macs[0] - 0.8 * macs[2]) / macs[1]
    assert env.limited([first], action) == pytest.approx(max(action, needed), abs=2e-3)
    assert env.limited([0.8], 0.79) == 0.79
    assert env.knobs.cost(env.ratios([0, 0, 0])) <= 0.4
    state = env.state([0.3])
    assert state[0] == 0.5 and state[-1] == np.float32(0.3) and state[-3] == pytest.approx(0.3 * macs[0], rel=1e-5)


@pytest.mark.parametrize("agent", ["random", "greedy", "ddpg"])
def test_agents_find_the_best_of_what_they_try(agent: str, tmp_path: Path) -> None:
    pipeline = f'search{{what=sparsify agent={agent} macs=0.4 evaluations=8 state="{tmp_path}/s"}}'
    small = tersor.transform(graph(), pipeline, calibration=calibration())
    (found,) = small.report["search"].layers
    assert multiplied(small) <= 0.405 * graph().macs() and found.evaluations == 8
    tried = [json.loads(line) for line in (tmp_path / "s").read_text().splitlines()[1:]]
    assert found.reward == max(t["reward"] for t in tried)
    assert found.reward == pytest.approx(sqnr(graph(), small, calibration()) / 100, rel=1e-5)
    again = tersor.transform(graph(), found.pipeline, calibration=calibration())
    assert all(np.array_equal(a.array, b.array) for a, b in zip(small.find("nn.constant"), again.find("nn.constant")))


@pytest.mark.parametrize("agent", ["greedy", "ddpg"])
def test_a_killed_search_goes_on(agent: str, tmp_path: Path) -> None:
    calls = 0

    def judged(g: Graph) -> float:
        nonlocal calls
        calls += 1
        if calls == 6 and killing:
            raise KeyboardInterrupt
        return -float((g(shapes(16)[0]) - graph()(shapes(16)[0])).norm())

    def run(state: str) -> Graph:
        nonlocal calls
        calls = 0
        return tersor.transform(graph(), f"search{{what=sparsify agent={agent} macs=0.4 evaluations=7{state}}}", evaluate=judged)

    killing = False
    whole = run("").report["search"].layers
    killing = True
    state = f' state="{tmp_path}/s"'
    with pytest.raises(KeyboardInterrupt):
        run(state)
    with (tmp_path / "s").open("a") as file:
        file.write('{"ratios": [0.')
    killing = False
    again = run(state).report["search"].layers
    # once before, once for the ledger; four were known
    assert again == whole and calls <= 2 + 7 - 4


def test_a_latency_budget_is_kept_as_measured() -> None:
    def latency(g: Graph) -> float:
        return 5.0 + multiplied(g) / 1e4

    small = tersor.transform(graph(), "search{what=sparsify agent=random latency=0.7 evaluations=8}", calibration=calibration(), latency=latency)
    (found,) = small.report["search"].layers
    assert found.latency == pytest.approx(latency(small) / latency(graph())) and found.latency <= 0.7 * 1.03


def test_stable_baselines_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(TersorError, match=r"pip install tersor\[search\]"):
        tersor.transform(graph(), "search{what=sparsify macs=0.4}", calibration=calibration())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "expected one of macs= and latency="),
        ("macs=0.5 latency=0.5", "got macs and latency"),
        ("macs=1.5", "above 0 and below 1; got 1.5"),
        ("macs=0.5 most=1.0", "most is the largest share"),
        ("macs=0.5 evaluations=0", "evaluations must be at least 1"),
        ("macs=0.1 agent=random most=0.5", "a budget of 0.1 cannot be met"),
        ('macs=0.5 then="nothing"', "unknown pass 'nothing'"),
        ('macs=0.5 agent=random what=sparsify options="sparse=1"', "no option 'sparse'"),
        ("macs=0.5 what=quantize", "expected one of"),
    ],
)
def test_bad_options(options: str, message: str) -> None:
    with pytest.raises(TersorError, match=message):
        tersor.transform(graph(), f"search{{{options}}}", calibration=calibration())


def test_a_state_of_another_search_is_refused(tmp_path: Path) -> None:
    def run(options: str) -> None:
        tersor.transform(graph(), f'search{{what=sparsify agent=random evaluations=1 {options} state="{tmp_path}/s"}}', calibration=calibration())

    run("macs=0.5")
    with pytest.raises(TersorError, match="is of another search"):
        run("macs=0.6")
    (tmp_path / "s").write_text("no state")
    with pytest.raises(TersorError, match="is not the state of a search"):
        run("macs=0.5")
    with pytest.raises(TersorError, match="needs calibration"):
        tersor.transform(graph(), "search{what=sparsify agent=random macs=0.5}")
