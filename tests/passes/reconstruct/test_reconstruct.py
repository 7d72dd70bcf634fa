"""Least squares on calibration data, against numpy on patches written out here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from prune_cases import trained
from torch import nn

import tersor
from tersor.ir import Const
from tersor.ir.ops import Add, BatchNorm, Conv2d
from tersor.passes.core.context import Context
from tersor.passes.reconstruct import Moments, Replay, gather, refit
from tersor.passes.reconstruct.replay import residual_order
from tersor.passes.reconstruct.rows import array_of_weights, patches, sample, weights_of

RNG = np.random.default_rng(0)


def test_moments_give_what_lstsq_gives() -> None:
    x, y = RNG.standard_normal((60, 7)) + 2, RNG.standard_normal((60, 3))
    moments = Moments(7, 3)
    for rows in (slice(0, 10), slice(10, 11), slice(11, 60)):
        moments.add(x[rows], y[rows])
    keep = np.array([0, 2, 3, 6])
    a = np.hstack([x[:, keep], np.ones((60, 1))])
    expected = np.linalg.lstsq(a, y, rcond=None)[0]
    fit = moments.solve(keep, ridge=0)
    np.testing.assert_allclose(fit.w, expected[:-1], atol=1e-10)
    np.testing.assert_allclose(fit.b, expected[-1], atol=1e-10)
    left = y - a @ expected
    assert fit.error == pytest.approx((left**2).sum() / ((y - y.mean(0)) ** 2).sum())


def test_ridge_pulls_towards_the_prior_at_any_scale() -> None:
    x, y, prior = RNG.standard_normal((5, 8)), RNG.standard_normal((5, 2)), RNG.standard_normal((8, 2))
    moments, scaled = Moments(8, 2), Moments(8, 2)
    moments.add(x, y)
    scaled.add(x * 1e3, y)
    ridge = 0.1
    fit = moments.solve(prior=prior, ridge=ridge)
    c = x - x.mean(0)
    penalty = ridge * ((c**2).sum(0) + (c**2).sum(0).mean() * 1e-3)
    a = np.vstack([c, np.diag(np.sqrt(penalty))])
    b = np.vstack([y - y.mean(0), np.sqrt(penalty)[:, None] * prior])
    np.testing.assert_allclose(fit.w, np.linalg.lstsq(a, b, rcond=None)[0], atol=1e-10)
    np.testing.assert_allclose(scaled.solve(prior=prior / 1e3, ridge=ridge).w * 1e3, fit.w, atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [{"kernel_size": 3, "padding": 1}, {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 1)}, {"kernel_size": 3, "dilation": 2, "groups": 2}],
)
def test_patches_times_weights_are_the_response(options: dict[str, object]) -> None:
    module = nn.Conv2d(4, 6, **options)  # type: ignore[arg-type]
    graph = tersor.trace(module.eval(), (torch.randn(2, 4, 9, 8),))
    (conv,) = graph.find(Conv2d)
    assert isinstance(conv, Conv2d) and isinstance(conv.w.op, Const)
    x = torch.randn(3, 4, 9, 8)
    y = module(x).detach()
    image, pixel = sample(RNG, 3, y[0, 0].numel(), 5)
    assert len(image) == 15 and all(len(set(pixel[image == i])) == 5 for i in range(3))
    got = np.hstack([a @ w for a, w in zip(patches(conv, x, image, pixel), weights_of(conv, conv.w.op.array))])
    expected = y.flatten(2)[image, :, pixel].numpy() - module.bias.detach().numpy()  # type: ignore[union-attr]
    np.testing.assert_allclose(got, expected, atol=1e-5)
    parts = weights_of(conv, conv.w.op.array)
    np.testing.assert_array_equal(array_of_weights(conv, parts, conv.w.shape), conv.w.op.array)


class Block(nn.Module):
    """The shortcut's projection comes after the branch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.short, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(3, 5, 1), nn.Conv2d(5, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.b(F.relu(self.a(x)))
        z: torch.Tensor = self.last(F.relu(y + self.short(x)))
        return z


def replayed() -> tuple[Replay, torch.Tensor]:
    graph = tersor.trace(trained(Block(), (2, 3, 6, 6)), (torch.randn(2, 3, 6, 6),))
    x = torch.randn(7, 3, 6, 6)
    return Replay(graph, [x[:3], x[3:]], Context(), "test", chunk=2), x


def test_both_runs_agree_until_something_is_put_in() -> None:
    replay, _ = replayed()
    seen = []
    for op in replay:
        seen.append(op.loc.path)
        assert all(replay.same(v) for v in (op.x,))  # type: ignore[attr-defined]
    assert seen == ["a", "short", "b", "last"]
    assert (replay.chunks, replay.images) == (4, 7)
    assert not replay._old and not replay._new


def test_the_runs_are_those_of_the_graph_before_and_after() -> None:
    replay, x = replayed()
    rows = []
    for op in replay:
        assert isinstance(op, Conv2d) and isinstance(op.w.op, Const)
        if op.loc.path == "short":
            replay.replace_layer(op, Conv2d(Conv2d(op.x, Const(np.eye(3, dtype=np.float32)[:, :, None, None])), Const(op.w.op.array * 2), op.b))
        if op.loc.path == "b":
            rows.append(torch.cat([replay.missing(op, i) for i in range(replay.chunks)]))  # type: ignore[misc]
        if op.loc.path == "last":
            rows += [torch.cat([run(op.x, i) for i in range(replay.chunks)]) for run in (replay.original, replay.current)]
    module = trained(Block(), (2, 3, 6, 6))
    with torch.no_grad():
        y, s = module.b(F.relu(module.a(x))), F.conv2d(x, module.short.weight)  # type: ignore[operator, arg-type]
        bias = module.short.bias.reshape(-1, 1, 1)  # type: ignore[union-attr, operator]
        torch.testing.assert_close(rows[0], -s)
        torch.testing.assert_close(rows[1], F.relu(y + s + bias))
        torch.testing.assert_close(rows[2], F.relu(y + 2 * s + bias))


def test_the_missing_part_of_a_sum_is_put_back() -> None:
    """With the corrected target the sum is as before, although one term is not."""
    replay, _ = replayed()
    sums = []
    for op in replay:
        assert isinstance(op, Conv2d) and isinstance(op.w.op, Const)
        if op.loc.path == "short":
            replay.replace_layer(op, op.rebuilt(b=Const(np.full(5, 3, np.float32))))
        if op.loc.path == "b":
            solved = refit(op, gather(replay, op, op, np.random.default_rng(0), 36), op.w.op.array, ridge=1e-9)
            replay.replace_layer(op, op.rebuilt(w=Const(solved.w.astype(np.float32)), b=Const(solved.b.astype(np.float32))))
        if op.loc.path == "last":
            sums += [(replay.original(op.x, i), replay.current(op.x, i)) for i in range(replay.chunks)]
    for then, now in sums:
        torch.testing.assert_close(now, then, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2", "unet", "densenet121", "efficientnet_b0"])
def test_order_is_valid(name: str) -> None:
    """Every operand before its reader, the other term of a sum before the last layer of a branch; some of the sums have projections."""
    from zoo import traced

    graph = traced(name)
    order = residual_order(graph)
    assert set(order) == set(graph.ops) and len(order) == len(graph)
    seen = set(graph.inputs)
    for op in order:
        assert all(v in seen for v in op.operands)
        seen |= set(op.outs)
    place = {op: i for i, op in enumerate(order)}
    sums = [add for add in graph.find(Add) if all(isinstance(v.op, BatchNorm) for v in add.operands)]
    for add in sums:
        norms = [place[v.op] for v in add.operands]  # type: ignore[index]
        last = max(place[v.op.x.op] for v in add.operands)  # type: ignore[union-attr, index]
        assert last > min(norms)
    assert sums or name not in ("resnet18", "mobilenetv2")
