"""Exchange of the sets that stay, against fits of every selection written out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from refit_cases import CHANNELS, left, problem

from tersor.ir.ops import Conv2d
from tersor.passes.prune.obs import Normal, normals
from tersor.passes.prune.swap import Selected, exchanged
from tersor.passes.reconstruct.moments import F64, Moments

MATTER = np.array([1.0, 5.0, 0.2, 2.0])
NONE = np.zeros(CHANNELS, bool)


def given(groups: int) -> tuple[Conv2d, list[np.ndarray], list[np.ndarray], list[Moments]]:
    conv, parts, ys = problem(groups)
    moments = [Moments(x.shape[1], y.shape[1]) for x, y in zip(parts, ys)]
    for m, x, y in zip(moments, parts, ys):
        m.add(x, y)
    return conv, parts, ys, moments


@pytest.mark.parametrize("groups", [1, 2])
def test_the_worst_selection_becomes_one_that_no_single_exchange_betters(groups: int) -> None:
    conv, parts, ys, moments = given(groups)

    def error(stay: tuple[int, ...]) -> float:
        return left(parts, ys, MATTER, np.isin(np.arange(CHANNELS), stay))

    worst = max(combinations(range(CHANNELS), 3), key=error)
    order = np.array([*worst, *(c for c in range(CHANNELS) if c not in worst)])
    (better,) = exchanged(conv, moments, MATTER, np.arange(CHANNELS), [(order, 3)], NONE, 1e-10)
    stay = tuple(int(c) for c in better[:3])
    assert sorted(better) == list(range(CHANNELS)) and error(stay) < 0.9 * error(worst)
    single = [tuple({*stay, new} - {old}) for new in range(CHANNELS) if new not in stay for old in stay]
    assert error(stay) <= min(map(error, single)) * 1.002


@pytest.mark.parametrize("groups", [1, 2])
def test_gains_and_costs_are_those_of_fits_written_out(groups: int) -> None:
    """Sets of two, one and three channels, some in both groups; what a set gains when it comes, it costs when it goes."""
    conv, parts, ys, moments = given(groups)
    labels = np.array([7, 8, 9, 9, 7, 9])
    state = [Selected.of(n, np.array([7, 8])) for n in normals(conv, moments, MATTER, labels, NONE, 1e-10)]
    before = left(parts, ys, MATTER, labels == 9)
    gained = [before - left(parts, ys, MATTER, (labels == 9) | (labels == s)) for s in (7, 8)]
    assert sum(s.gains(np.array([7, 8])) for s in state) == pytest.approx(gained, rel=1e-6)
    explained = sum(s.explained for s in state)
    for s in state:
        s.add(np.array([7]))
    assert sum(s.explained for s in state) - explained == pytest.approx(gained[0], rel=1e-6)
    assert sum(s.fit.costs(np.array([7])) for s in state) == pytest.approx(gained[:1], rel=1e-6)
    fresh = [s.normal.fit(np.sort(s.columns)) for s in state]
    for s, f in zip(state, fresh):
        order = np.argsort(s.columns)
        np.testing.assert_allclose(s.fit.w[order], f.w, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(s.fit.h[np.ix_(order, order)], f.h, rtol=1e-6, atol=1e-12)
        assert (s.fit.owner == s.normal.owner[s.columns]).all()
    for s in state:
        s.drop(np.array([7]))
    assert sum(s.explained for s in state) == pytest.approx(explained, rel=1e-9)


def test_each_space_keeps_its_number_and_what_is_lost_stays_lost() -> None:
    conv, parts, ys, moments = given(1)
    lost = np.array([False, True, False, False, False, False])
    spaces = [(np.array([0, 2]), 1), (np.array([5, 4, 3]), 2)]
    first, second = exchanged(conv, moments, MATTER, np.arange(CHANNELS), spaces, lost, 1e-10)
    assert sorted(first) == [0, 2] and sorted(second) == [3, 4, 5]

    def error(stay: list[int]) -> float:
        return left(parts, ys, MATTER, np.isin(np.arange(CHANNELS), stay))

    assert error([*first[:1], *second[:2]]) <= error([0, 5, 4])


def test_a_prior_that_decides_is_counted() -> None:
    """Where the ridge decides, fits stay at the old weights, and nothing is left of the error."""
    m = Moments(4, 2)
    rng = np.random.default_rng(0)
    x: F64 = rng.standard_normal((3, 4))
    w: F64 = rng.standard_normal((4, 2))
    m.add(x, x @ w)
    d = np.array([1.0, 2.0])
    normal = Normal.of(m, w, d, np.arange(4), np.arange(4), 100.0)
    total = float(m.variances @ d) + normal.prior
    assert Selected.of(normal, np.zeros(0, np.int64)).explained == pytest.approx(total, rel=1e-9)


def test_a_fit_that_rounding_has_lost_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the inverse, as many updates may leave it, neither shows in what is explained nor keeps the exchange going for ever."""
    conv, _, _, moments = given(1)
    (normal,) = normals(conv, moments, MATTER, np.arange(CHANNELS), NONE, 1e-10)
    state = Selected.of(normal, np.array([0, 1]))
    assert state.solved() is state
    wrong = state.copy()
    wrong.fit.w = wrong.fit.w * 3
    assert wrong.explained > 2 * state.explained
    assert wrong.solved().explained == pytest.approx(state.explained, rel=1e-9)

    plain, order = Selected.add, np.arange(CHANNELS)

    def amplified(self: Selected, sets: np.ndarray) -> None:
        plain(self, sets)
        self.fit.w = self.fit.w * 1.5

    (expected,) = exchanged(conv, moments, MATTER, order, [(order, 3)], NONE, 1e-10)
    monkeypatch.setattr(Selected, "add", amplified)
    (found,) = exchanged(conv, moments, MATTER, order, [(order, 3)], NONE, 1e-10)
    assert set(found[:3]) == set(expected[:3])
