"""How many channels stay: shares, rounding, sensitivities, budgets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from prune_cases import trained
from torch import nn

import tersor
from tersor.passes.coupling import Coupling
from tersor.passes.prune.plan import BySensitivity, uniform, within
from tersor.passes.prune.remove import remove_channels
from tersor.passes.prune.spaces import WEIGHT, Choice, Cost, Space, spaces_of


def setting(round_to: int = 1) -> tuple[Coupling, list[Space], Cost]:
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16), nn.ReLU(), nn.Conv2d(16, 12, 1), nn.ReLU(), nn.Conv2d(12, 5, 3)
    )
    coupling = Coupling(tersor.trace(trained(module, (2, 3, 12, 12)), (torch.randn(1, 3, 12, 12),)))
    spaces = spaces_of(coupling, Choice(round_to=round_to))
    return coupling, spaces, Cost(coupling, spaces)


def test_the_cost_is_that_of_the_pruned_graph() -> None:
    coupling, spaces, cost = setting()
    assert [len(s.sets) for s in spaces] == [16, 12]
    for keep in ([16, 12], [5, 12], [3, 7]):
        gone = np.concatenate([s.sets[k:] for s, k in zip(spaces, keep)])
        assert cost(np.array(keep)) == remove_channels(coupling.graph, coupling, gone).macs()


def test_in_memory_a_linear_layer_costs_its_weights() -> None:
    """What reads them weighs little in products, and most in time: there it shrinks first."""
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(256, 60), nn.ReLU(), nn.Linear(60, 5))
    coupling = Coupling(tersor.trace(trained(module, (2, 3, 12, 12)), (torch.randn(1, 3, 12, 12),)))
    spaces = spaces_of(coupling, Choice())
    assert [len(s.sets) for s in spaces] == [8, 4, 60]
    products = np.array([8 * 3 * 9 * 100, 4 * 8 * 9 * 64, 256 * 60, 60 * 5])
    macs, time = Cost(coupling, spaces), Cost(coupling, spaces, memory=True)
    assert macs(np.array([8, 4, 60])) == products.sum()
    assert time(np.array([8, 4, 60])) == products[:2].sum() + WEIGHT * products[2:].sum()
    assert time(np.array([8, 1, 30])) == products[0] + products[1] / 4 + WEIGHT * (products[2] / 8 + products[3] / 2)
    shares, errors = [0.0, 0.5], [np.array([1.0, 0.1])] * 3
    first = [BySensitivity(spaces, cost, shares, errors, np.array([-1, 4, -1])).steps[1].tolist() for cost in (macs, time)]
    assert first == [[7, 4, 60], [8, 4, 57]]


def test_counts_are_multiples() -> None:
    _, spaces, _ = setting(round_to=8)
    plan = uniform(spaces)
    assert [plan(s).tolist() for s in (0, 0.3, 0.6, 1)] == [[16, 12], [8, 8], [8, 8], [8, 8]]
    assert uniform(setting()[1])(1.0).tolist() == [1, 1]


def test_what_is_fixed_stays() -> None:
    _, spaces, cost = setting()
    fixed = np.array([-1, 9])
    assert uniform(spaces, fixed)(0.5).tolist() == [8, 9]
    flat = [np.array([1, 0.1])] * 2
    assert BySensitivity(spaces, cost, [0.0, 0.5], flat, fixed)(1.0)[1] == 9


def test_the_insensitive_space_shrinks_first() -> None:
    _, spaces, cost = setting()
    shares = [0, 0.25, 0.5, 0.75]
    sturdy, frail = np.array([1, 0.01, 0.005, 0.002]), np.array([1, 0.9, 0.6, 0.3])
    budget = cost(np.array([16, 12])) * 0.85
    for errors, index in (((sturdy, frail), 0), ((frail, sturdy), 1)):
        keep = within(BySensitivity(spaces, cost, shares, errors), cost, budget, "macs=0.85")
        sizes = np.array([16, 12])
        assert cost(keep) <= budget
        assert keep[index] < sizes[index] and keep[1 - index] == sizes[1 - index]


def test_what_is_left_of_a_budget_is_given_back() -> None:
    """By the unit, where it helps most; what is fixed stays."""
    _, spaces, cost = setting()
    shares, errors = [0.0, 0.5], [np.array([1.0, 0.5]), np.array([10.0, 1.0])]
    plan = BySensitivity(spaces, cost, shares, errors)
    start, budget = np.array([8, 4]), cost(np.array([9, 7]))
    keep = plan.filled(start, lambda k: cost(k) <= budget)
    assert cost(keep) <= budget and keep[1] > start[1] and (keep >= start).all()
    for j in (0, 1):
        more = keep.copy()
        more[j] += 1
        assert cost(more) > budget
    held = BySensitivity(spaces, cost, shares, errors, np.array([-1, 4]))
    assert held.filled(start, lambda k: cost(k) <= budget)[1] == 4
    assert plan.filled(start, lambda k: True).tolist() == [16, 12]


def test_a_budget_is_met_with_as_little_as_needed() -> None:
    _, spaces, cost = setting()
    whole = cost(np.array([16, 12]))
    keep = within(uniform(spaces), cost, 0.5 * whole, "macs=0.5")
    assert 0.4 * whole < cost(keep) <= 0.5 * whole
    with pytest.raises(tersor.TersorError, match=r"macs=0.001 cannot be reached: .* is wanted, the least .* is .*; .*explain\(graph\)"):
        within(uniform(spaces), cost, 0.001 * whole, "macs=0.001")
