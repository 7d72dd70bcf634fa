"""What is factorized and to what size: budgets, limits, exclusions, layers that cannot be; and what the ledger says of each."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest
import torch
from pass_cases import graph_of

import tersor
from tersor.ir import Const, Graph, Loc
from tersor.ir import ops as nn
from tersor.ir.rewrite import Trace
from tersor.passes.factorize.choose import Layer, Option, within_budget
from tersor.passes.factorize.design import Cost
from tersor.passes.factorize.separable import SeparableDesign

RNG = np.random.default_rng(3)
RANKS = "rank=[1, 2, 3, 4]"


def conv(x: object, path: str, o: int, c: int, k: int = 3, rank: int = 9, **more: object) -> nn.Conv2d:
    w = (
        RNG.standard_normal((o, c, k, k))
        if rank == 9
        else np.einsum("nma,mat->nmt", RNG.standard_normal((o, c, rank)), RNG.standard_normal((c, rank, 9)))
    )
    b = Const(RNG.standard_normal(o).astype(np.float32))
    return nn.Conv2d(x, Const(w.reshape(o, c, k, k).astype(np.float32)), b, padding=(k // 2,) * 4, **more, loc=Loc(path, "net.py", 1))  # type: ignore[arg-type]


@pytest.fixture
def graph() -> Graph:
    """`easy` is of rank 1, `middle` of rank 2 in each channel, `hard` of full rank."""

    def build(x: object) -> nn.Conv2d:
        y = nn.Relu(conv(x, "net.easy", 8, 6, rank=1))
        y = nn.Relu(conv(y, "net.middle", 8, 8, rank=2))
        return conv(nn.Relu(conv(y, "net.hard", 8, 8)), "net.last", 5, 8, k=1)

    return graph_of(build, (2, 6, 8, 8))


def done(small: Graph, name: str = "to-depthwise-separable") -> dict[str, str]:
    return {r.layer: r.done for r in small.report[name].layers}


@pytest.fixture(params=[None, 40], ids=["weights", "data"])
def calibration(request: pytest.FixtureRequest) -> list[torch.Tensor] | None:
    return None if request.param is None else [torch.randn(request.param, 6, 8, 8, generator=torch.Generator().manual_seed(0))]


def test_a_limit_of_the_error_gives_each_layer_the_cheapest_size_within_it(graph: Graph, calibration: list[torch.Tensor] | None) -> None:
    small = tersor.transform(graph, f"to-depthwise-separable{{{RANKS} max_error=0.01}}", calibration=calibration)
    assert done(small) == {"net.easy": "rank=1", "net.middle": "rank=2", "net.hard": "", "net.last": ""}
    reasons = {r.layer: r.reason for r in small.report[-1].layers}
    assert "rank=4 has error 0." in reasons["net.hard"] and "above max_error=0.01" in reasons["net.hard"]
    assert reasons["net.last"] == "its kernel is 1x1"
    x = torch.randn(3, 6, 8, 8)
    assert float((small(x) - graph(x)).abs().max() / graph(x).abs().max()) < 1e-4


def test_a_budget_is_met_where_it_costs_the_least(graph: Graph, calibration: list[torch.Tensor] | None) -> None:
    total = graph.macs()
    for budget in (0.9, 0.6, 0.45, 0.3):
        small = tersor.transform(graph, f"to-depthwise-separable{{{RANKS} macs={budget}}}", calibration=calibration)
        assert small.macs() <= budget * total
        assert sum(r.macs[1] for r in small.report[-1].layers) == small.macs()
    # the first two are free of error and leave 0.61
    small = tersor.transform(graph, f"to-depthwise-separable{{{RANKS} macs=0.62}}", calibration=calibration)
    assert done(small)["net.hard"] == ""
    assert small.report[-1].layers[2].reason.endswith("not needed for the budget")


def test_a_budget_and_a_limit_together(graph: Graph) -> None:
    small = tersor.transform(graph, f"to-depthwise-separable{{{RANKS} macs=0.62 max_error=0.01}}")
    assert done(small)["net.hard"] == "" and small.macs() <= 0.62 * graph.macs()
    with pytest.raises(
        tersor.TersorError,
        match=r"macs=0.3 with max_error=0.01 cannot be met: the least that is left here is 0.6096 of the MACs \(126720 of 207872\)",
    ):
        tersor.transform(graph, f"to-depthwise-separable{{{RANKS} macs=0.3 max_error=0.01}}")


@pytest.mark.parametrize("budget", [0.05, 0.1])
def test_a_budget_that_cannot_be_met_changes_nothing(graph: Graph, budget: float) -> None:
    text = str(graph)
    with pytest.raises(
        tersor.TersorError, match=rf"to-depthwise-separable.*macs={budget} cannot be met: the least that is left here is 0\.\d+ of"
    ) as error:
        tersor.transform(graph, f"to-depthwise-separable{{macs={budget}}}")
    assert "\n" not in str(error.value)
    assert str(graph) == text


def test_budgets_against_all_combinations() -> None:
    """The choice of many small problems is near the best of all combinations, and within the budget."""
    dice = random.Random(0)
    near = 0
    for _ in range(60):
        layers = []
        for _ in range(4):
            macs = dice.randint(50, 200)
            sizes = sorted(dice.sample(range(10, macs), 3))
            errors = sorted((dice.random() for _ in sizes), reverse=True)
            layer = conv(graph_of(lambda x: nn.Relu(x), (1, 1, 1, macs)).inputs[0], "", 1, 1, k=1)
            options = [Option(SeparableDesign(1, 0), e, Cost(m, 0)) for e, m in zip(errors, sizes)]
            layers.append(Layer(layer, options))
        total = sum(x.conv.macs() for x in layers)
        ways = list(itertools.product(*[[(0.0, x.conv.macs()), *((o.error**2, o.cost.macs) for o in x.options)] for x in layers]))
        budget = dice.uniform(min(sum(m for _, m in way) for way in ways) / total, 1)
        best = min(sum(e for e, _ in way) for way in ways if sum(m for _, m in way) <= budget * total)
        chosen = within_budget(layers, total, budget, "macs")
        assert sum(x.conv.macs() if o is None else o.cost.macs for x, o in zip(layers, chosen)) <= budget * total
        got = sum(0 if o is None else o.error**2 for o in chosen)
        assert got >= best - 1e-12
        near += got <= 1.25 * best + 0.02
    assert near >= 45


def test_excluded_layers_and_layers_with_their_own_size(graph: Graph) -> None:
    small = tersor.transform(graph, 'to-depthwise-separable{exclude=["*.easy"] layers={"net.hard": {rank=4}}}')
    assert done(small) == {"net.easy": "", "net.middle": "rank=1", "net.hard": "rank=4", "net.last": ""}
    assert small.report[-1].layers[0].reason == "excluded"
    assert [op.loc.path for op in small.find("nn.conv2d")] == [
        *("net.easy", "net.middle.depthwise", "net.middle.pointwise", "net.hard.depthwise", "net.hard.pointwise", "net.last")
    ]


def test_a_limit_for_some_layers_only(graph: Graph) -> None:
    small = tersor.transform(graph, 'to-depthwise-separable{rank=1 layers={"net.[mh]*": {max_error=0.01}}}')
    assert done(small) == {"net.easy": "rank=1", "net.middle": "", "net.hard": "", "net.last": ""}


@pytest.mark.parametrize(
    ("name", "alone", "choice"),
    [
        ("to-depthwise-separable", "rank=1", "rank=[1, 2, 3, 4]"),
        ("low-rank", "rank=0.25", "rank=[0.125, 0.25, 0.5, 0.75]"),
        ("low-rank{method=tucker}", "rank=0.25", "rank=[0.125, 0.25, 0.5, 0.75]"),
        ("to-fire", "squeeze_ratio=0.25 pct_3x3=0.5", "squeeze_ratio=[0.125, 0.25, 0.5, 0.75] pct_3x3=[0.5]"),
        ("to-inverted-residual", "expansion=2", "expansion=[0.5, 1, 2, 3]"),
    ],
)
def test_sizes_that_are_not_given(graph: Graph, name: str, alone: str, choice: str) -> None:
    """One alone; several where a limit or a budget chooses."""

    def small(options: str) -> Graph:
        return tersor.transform(graph, name.replace("}", f" {options}}}") if "{" in name else f"{name}{{{options}}}")

    def sizes(graph: Graph) -> list[str]:
        return [r.done for r in graph.report[-1].layers]

    assert sizes(small("macs=0.7")) == sizes(small(f"{choice} macs=0.7"))
    assert sizes(small("max_error=0.5")) == sizes(small(f"{choice} max_error=0.5"))
    assert sizes(small("reconstruct=false")) == sizes(small(f"{alone} reconstruct=false"))


def test_what_cannot_be_factorized_says_why() -> None:
    def build(x: object) -> nn.Conv2d:
        y = conv(x, "grouped", 6, 3, groups=2)
        y = conv(y, "depthwise", 6, 1, groups=6)
        y = conv(y, "pointwise", 6, 6, k=1)
        y = conv(y, "thin", 1, 6)
        infinite = Const(np.full((6, 1, 3, 3), np.inf, np.float32))
        y = nn.Conv2d(y, infinite, padding=(1, 1, 1, 1), loc=Loc("infinite", "net.py", 2))
        computed = nn.Relu(Const(np.ones((6, 6, 3, 3), np.float32)))
        return nn.Conv2d(y, computed, padding=(1, 1, 1, 1), loc=Loc("computed", "net.py", 3))

    graph = graph_of(build, (2, 6, 8, 8))
    why = Trace()
    small = tersor.transform(graph, "to-depthwise-separable{rank=2}", why=why)
    reasons = {r.layer: r.reason for r in small.report[-1].layers}
    assert reasons == {
        "grouped": "grouped (2 groups)",
        "depthwise": "depthwise",
        "pointwise": "its kernel is 1x1",
        "thin": f"rank=2 would cost {2 * 64 * 6 * (9 + 1)} MACs, it costs {2 * 64 * 6 * 9}",
        "infinite": "its weights are not finite",
        "computed": "its weights are not constant",
    }
    assert str(small) == str(graph)
    assert len(why.refused) == 6 and "to-depthwise-separable refused nn.conv2d" in str(why)
    reason = {r.layer: r.reason for r in tersor.transform(graph_of(lambda x: unpadded(x), (2, 6, 8, 8)), "to-fire").report[-1].layers}
    assert reason == {"unpadded": "its padding is less than half its kernel, so the 1x1 expansion would not fit"}
    graph = graph_of(lambda x: nn.Conv2d(x, Const(RNG.standard_normal((6, 6, 3, 1)).astype(np.float32)), loc=Loc("tall")), (2, 6, 8, 8))
    assert tersor.transform(graph, "low-rank").report[-1].layers[0].reason == "its kernel has one row or one column"


def unpadded(x: object) -> nn.Conv2d:
    return conv(x, "unpadded", 6, 6).rebuilt(padding=(0, 0, 0, 0))  # type: ignore[return-value]


def test_the_ledger_tells_repaired_from_unrepaired_and_keeps_the_table(graph: Graph) -> None:
    x = torch.randn(40, 6, 8, 8)
    bare, fitted = tersor.transform(graph, "to-depthwise-separable"), tersor.transform(graph, "to-depthwise-separable", calibration=[x])
    asked = tersor.transform(graph, "to-depthwise-separable{reconstruct=false}", calibration=[x])
    assert bare.report[-1].rewrites == asked.report[-1].rewrites == {"factorized by weights alone, no repair": 3}
    assert fitted.report[-1].rewrites == {"factorized and repaired": 3}
    table = str(bare.report[-1].layers).splitlines()
    assert table[0].split() == ["layer", "weights", "became", "before", "after", "MACs", "parameters"]
    assert table[3].split()[:3] == ["net.hard", "8x8x3x3", "rank=1"] and "(weights)" in table[3] and "73728 -> " in table[3]
    assert "(weights)" not in str(fitted.report[-1].layers)
    rows = json.loads(fitted.report.to_json())
    assert rows[1]["layers"][2]["layer"] == "net.hard" and rows[1]["layers"][2]["after"] < rows[1]["layers"][2]["before"]
    # without repair on data, the errors are still those of the responses
    hard = asked.report[-1].layers[2]
    assert hard.measured and hard.before == hard.after


def test_parameters_and_macs_of_the_report_are_those_of_the_graph(graph: Graph) -> None:
    for text in ("to-depthwise-separable{rank=2}", "low-rank", "low-rank{method=tucker}", "to-fire", "to-inverted-residual{expansion=1}"):
        small = tersor.transform(graph, text)
        rows = small.report[-1].layers
        assert sum(r.macs[1] for r in rows) == small.macs() and sum(r.macs[0] for r in rows) == graph.macs()
        assert sum(r.parameters[1] for r in rows) == sum(op.array.size for op in small.find(Const) if op.array.dtype.kind == "f")
        assert all(not r.done or r.macs[1] < r.macs[0] for r in rows)
