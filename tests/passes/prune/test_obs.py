"""Backward elimination, against refits of every candidate written out."""

from __future__ import annotations

import numpy as np
import pytest
from refit_cases import CHANNELS, left, problem

from tersor.passes.prune.obs import elimination_order
from tersor.passes.reconstruct.moments import Moments


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4, 5], [7, 8, 9, 7, 8, 9], [5, 5, 6, 6, 7, 8]])
def test_each_step_costs_the_least(groups: int, labels: list[int]) -> None:
    conv, parts, ys = problem(groups)
    moments = []
    for x, y in zip(parts, ys):
        moments.append(Moments(x.shape[1], y.shape[1]))
        moments[-1].add(x, y)
    sensitivity = np.array([1.0, 5.0, 0.2, 2.0])
    of, sets = np.array(labels), np.unique(labels)
    order = elimination_order(conv, moments, sensitivity, of, sets, np.zeros(CHANNELS, bool), 1e-10)
    kept = np.ones(CHANNELS, bool)
    for went in order[:0:-1]:
        cost = {int(s): left(parts, ys, sensitivity, kept & (of != s)) for s in np.unique(of[kept])}
        assert went == min(cost, key=cost.__getitem__)
        kept &= of != went
    assert sorted(order) == sets.tolist()


def test_channels_that_are_gone_and_those_that_stay() -> None:
    """Channel 0 is gone, so its double, channel 1, is worth keeping; channels of no set stay whatever happens."""
    conv, parts, ys = problem(1)
    moments = [Moments(9 * CHANNELS, 4)]
    moments[0].add(parts[0], ys[0])
    labels = np.array([3, 4, 5, 6, 99, 99])
    gone = np.array([True] + [False] * 5)
    order = elimination_order(conv, moments, np.ones(4), labels, np.array([4, 5, 6]), gone, 1e-3)
    kept = ~gone
    for went in order[:0:-1]:
        cost = {int(s): left(parts, ys, np.ones(4), kept & (labels != s)) for s in np.unique(labels[kept]) if s != 99}
        assert went == min(cost, key=cost.__getitem__)
        kept &= labels != went
