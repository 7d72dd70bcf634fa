"""Which channels stay: LASSO against scikit-learn on the contributions written out, and the scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from prune_cases import trained
from sklearn.linear_model import Lasso
from torch import nn

import tersor
from tersor.ir import Graph
from tersor.ir.ops import Conv2d, Linear
from tersor.passes.coupling import Coupling, source
from tersor.passes.prune.select import by_score, channel_products, lasso_order
from tersor.passes.prune.spaces import Choice, Space, spaces_of
from tersor.passes.reconstruct.moments import Moments
from tersor.passes.reconstruct.rows import patches, sample, weights_of

RNG = np.random.default_rng(0)


def traced(module: nn.Module) -> Graph:
    return tersor.trace(trained(module, (4, 3, 8, 8)), (torch.zeros(2, 3, 8, 8),))


def problem(groups: int = 1, channels: int = 6) -> tuple[Conv2d, list[Moments], list[np.ndarray], np.ndarray]:
    """A convolution, its moments, and its contributions Z_i (rows, O) with its response, written out."""
    module, generator = trained(nn.Conv2d(channels, 4, 3, groups=groups), (4, channels, 8, 8)), torch.Generator().manual_seed(1)
    with torch.no_grad():
        # filters of unlike size, so that it shows whether their norms are divided out
        size = torch.tensor([0.3, 3.0, 1.0, 0.5, 2.0, 0.2]).reshape(groups, 1, -1).expand(groups, 4 // groups, -1)
        module.weight *= size.reshape(4, -1, 1, 1)  # type: ignore[operator]
    graph = tersor.trace(module, (torch.zeros(2, channels, 8, 8),))
    (conv,) = graph.find(Conv2d)
    assert isinstance(conv, Conv2d)
    x = torch.randn(12, channels, 8, 8, generator=generator) * torch.linspace(0.2, 2, channels).reshape(1, -1, 1, 1) + 1
    x[:, 1] = 0.7 * x[:, 0] + 0.3 * x[:, 1]
    image, pixel = sample(RNG, 12, 36, 15)
    with torch.no_grad():
        y = conv.evaluate(x, *(torch.from_numpy(np.array(v.op.array)) for v in (conv.w, conv.b))).flatten(2).numpy()[image, :, pixel]  # type: ignore[union-attr]
    y = y + RNG.standard_normal(y.shape) * 0.3
    parts, moments, z = patches(conv, x, image, pixel), [], []
    for g, (p, w) in enumerate(zip(parts, weights_of(conv, conv.w.op.array))):  # type: ignore[union-attr]
        outs = slice(g * w.shape[1], (g + 1) * w.shape[1])
        m = Moments(p.shape[1], w.shape[1])
        m.add(p, y[:, outs])
        moments.append(m)
        for c in range(channels // groups):
            one = np.zeros(y.shape)
            one[:, outs] = p[:, 9 * c : 9 * c + 9] @ w[9 * c : 9 * c + 9]
            z.append(one)
    return conv, moments, z, y


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("sensitivity", [np.ones(4), np.array([0.0, 1.0, 2.0, 5.0])])
def test_products_of_contributions(groups: int, sensitivity: np.ndarray) -> None:
    conv, moments, z, y = problem(groups)
    zz, zy = channel_products(conv, moments, weights_of(conv, conv.w.op.array), sensitivity)  # type: ignore[union-attr]
    flat = np.array([((one - one.mean(0)) * np.sqrt(sensitivity)).ravel() for one in z])
    np.testing.assert_allclose(zz, flat @ flat.T, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(zy, flat @ ((y - y.mean(0)) * np.sqrt(sensitivity)).ravel(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("keep", [1, 2, 3, 4, 5])
def test_lasso_keeps_what_scikit_learn_keeps(keep: int) -> None:
    conv, moments, z, y = problem()
    w = conv.w.op.array  # type: ignore[union-attr]
    norms = np.sqrt((w.astype(np.float64) ** 2).sum((0, 2, 3)))
    flat = np.array([(one - one.mean(0)).ravel() / n for one, n in zip(z, norms)]).T
    target = (y - y.mean(0)).ravel()
    high, low = np.abs(flat.T @ target).max() / len(target), 0.0
    for _ in range(60):
        middle = (high + low) / 2
        count = (Lasso(alpha=middle, fit_intercept=False, tol=1e-10, max_iter=100000).fit(flat, target).coef_ != 0).sum()
        if count == keep:
            break
        high, low = (middle, low) if count < keep else (high, middle)
    assert count == keep
    expected = np.flatnonzero(Lasso(alpha=middle, fit_intercept=False, tol=1e-10, max_iter=100000).fit(flat, target).coef_)
    order = lasso_order(conv, moments, np.ones(4), np.arange(6), np.arange(6), np.zeros(6, bool), keep)
    assert sorted(order[:keep]) == expected.tolist()
    assert sorted(order) == list(range(6))


def test_sets_share_a_weight_and_the_rest_is_fixed() -> None:
    """Channels 0 and 1 are one set, 2 and 3 another; 4 stays whatever happens, 5 is gone."""
    conv, moments, z, y = problem()
    labels, lost = np.array([7, 7, 3, 3, 9, 9]), np.array([False] * 5 + [True])
    order = lasso_order(conv, moments, np.ones(4), labels, np.array([3, 7]), lost, 1)
    w = conv.w.op.array.astype(np.float64)  # type: ignore[union-attr]
    left = y - z[4]
    left = left - left.mean(0)
    gain = {}
    for s in (3, 7):
        both = sum(z[i] for i in np.flatnonzero(labels == s))
        gain[s] = abs(((both - both.mean(0)) * left).sum()) / np.sqrt((w[:, labels == s] ** 2).sum())
    assert order[0] == max(gain, key=gain.__getitem__)


def space_of(module: nn.Module) -> tuple[Coupling, Space]:
    coupling = Coupling(traced(module))
    return coupling, spaces_of(coupling, Choice())[0]


def test_scores() -> None:
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 2, 3))
    coupling, space = space_of(module)
    labels = coupling.sets(*source(coupling.graph.find(Conv2d)[1]))  # type: ignore[arg-type]
    place = {int(s): i for i, s in enumerate(labels)}
    norms = module[0].weight.detach().abs().sum((1, 2, 3)).numpy()
    gammas = module[1].weight.detach().abs().numpy()
    assert [place[s] for s in by_score("l1", coupling, space, RNG).tolist()] == np.argsort(-norms).tolist()
    assert [place[s] for s in by_score("bn-gamma", coupling, space, RNG).tolist()] == np.argsort(-gammas).tolist()
    assert [place[s] for s in by_score("first-k", coupling, space, RNG).tolist()] == [0, 1, 2, 3, 4]
    draws = {tuple(by_score("random", coupling, space, np.random.default_rng(i))) for i in range(20)}
    assert len(draws) > 10 and all(sorted(d) == sorted(space.sets) for d in draws)


def test_bn_gamma_needs_a_batch_norm() -> None:
    coupling, space = space_of(nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 3)))
    with pytest.raises(tersor.TersorError, match="prune before fold-bn"):
        by_score("bn-gamma", coupling, space, RNG)


def test_the_squeeze_of_a_gate_does_not_judge() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.fc1, self.fc2, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8, 2), nn.Linear(2, 8), nn.Conv2d(8, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x).relu()
            z: torch.Tensor = self.last(y * self.fc2(self.fc1(y.mean((2, 3))).relu()).sigmoid()[:, :, None, None])
            return z

    coupling = Coupling(traced(Gated()))
    spaces = {s.producers[0].loc.path: s for s in spaces_of(coupling, Choice())}
    wide = spaces["a"]
    assert [p.loc.path for p in wide.producers] == ["a", "fc2"] and [r.loc.path for r in wide.readers] == ["fc1", "last"]
    assert wide.scoring_layer is wide.readers[1]
    assert isinstance(spaces["fc1"].scoring_layer, Linear)
