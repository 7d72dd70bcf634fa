"""Refits to what a ReLU lets through, against scipy's minimizer of the objective."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import nn

import tersor
from tersor.ir.ops import Conv2d
from tersor.passes.reconstruct.clamp import Clamp, clamp_after, refit_clamped
from tersor.passes.reconstruct.rows import Rows, moments_of, refit

RNG = np.random.default_rng(0)


def conv(channels: int = 4, groups: int = 1) -> Conv2d:
    graph = tersor.trace(nn.Conv2d(channels, 2, 1, groups=groups).eval(), (torch.randn(1, channels, 5, 5),))
    (op,) = graph.find(Conv2d)
    assert isinstance(op, Conv2d)
    return op


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("clamp, summed", [((0.0, math.inf), False), ((0.0, math.inf), True), ((-0.5, 0.5), True)])
def test_sweeps_minimize_what_is_let_through(groups: int, clamp: tuple[float, float], summed: bool) -> None:
    layer = conv(4, groups)
    k, m = 4 // groups, 2 // groups
    # the wanted responses are not linear in the patches, so that there is an error to shift to where it is cut off
    x = [np.maximum(RNG.standard_normal((600, k)), 0) for _ in range(groups)]
    y = [p @ RNG.standard_normal((k, m)) + np.abs(RNG.standard_normal((600, m))) - 0.8 for p in x]
    other = [RNG.standard_normal((600, m)) for _ in range(groups)] if summed else None
    parts, none = [slice(i, i + 200) for i in (0, 200, 400)], np.zeros(200, np.bool_)
    drawn = [Rows([p[i] for p in x], [q[i] for q in y], none, other and [q[i] for q in other]) for i in parts]
    moments, prior, kept = moments_of(drawn), layer.w.op.array, np.arange(4) != 1  # type: ignore[union-attr]
    start = refit(layer, moments, prior, kept, ridge=1e-12)

    def f(t: np.ndarray) -> np.ndarray:
        return np.clip(t, *clamp)

    def objective(w: np.ndarray, b: np.ndarray) -> float:
        total = 0.0
        for g in range(groups):
            s = other[g] if other else 0.0
            now = x[g] @ w.reshape(2, k)[g * m : (g + 1) * m].T + b[g * m : (g + 1) * m]
            total += float(((f(s + y[g]) - f(s + now)) ** 2).sum())
        return total

    fits = [refit_clamped(layer, drawn, moments, Clamp(*clamp, summed), prior, start, kept, 1e-12, n) for n in (0, 1, 2, 4, 8, 300)]
    losses = [objective(fit.w, fit.b) for fit in fits]
    assert losses[0] == objective(start.w, start.b)
    assert all(b <= a for a, b in pairwise(losses)) and losses[-1] < losses[0]
    kept_of_group = kept.reshape(groups, 1, k).repeat(m, 1).reshape(-1)
    assert all((fit.w.reshape(-1)[~kept_of_group] == 0).all() for fit in fits)

    def at(v: np.ndarray) -> float:
        w = np.zeros(2 * k)
        w[kept_of_group] = v[:-2]
        return objective(w, v[-2:])

    v = np.concatenate([start.w.reshape(-1)[kept_of_group], start.b])
    least = minimize(at, v, method="Powell", options={"maxiter": 400}).fun
    # neither is sure to find the least there is: more than half of what a general minimizer gains
    assert losses[0] - losses[-1] > 0.5 * (losses[0] - least)


class Shapes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d, self.e, self.f = (nn.Conv2d(3, 3, 1) for _ in range(6))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = F.relu(self.b(F.relu6(self.a(x))) + x)
        read_twice = self.c(y)
        total = self.e(y) + y
        return F.relu(read_twice), read_twice, F.silu(self.d(y)), F.relu(total), total.sum(), F.relu(self.f(y) + 1)


def test_which_layers_have_a_clamp_behind_them() -> None:
    graph = tersor.trace(Shapes().eval(), (torch.randn(1, 3, 5, 5),))
    found = {op.loc.path: clamp_after(op) for op in graph.find(Conv2d)}
    assert found == {"a": Clamp(0, 6, False), "b": Clamp(0, math.inf, True), "c": None, "d": None, "e": None, "f": None}
