"""Discrimination-aware pruning: its gradients against torch, its stages, its budget, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from train_cases import accuracy, graph, shapes

import tersor
from tersor.ir.errors import TersorError
from tersor.passes.core.context import Context
from tersor.passes.coupling import Coupling
from tersor.passes.prune import dcp
from tersor.passes.prune.spaces import Choice, spaces_of


def test_the_first_channel_is_that_of_the_largest_gradient() -> None:
    """conv 1 -> relu -> pool -> conv 2 -> head, by hand: with no inputs, |dL/dW_k| of conv 2."""
    plain, (x, y) = graph(norm=False), shapes(32)
    (at,) = dcp.places(plain, 1)
    at = plain.find("nn.conv2d")[1].out
    tuned = dcp.with_head(plain, at, np.random.default_rng(0))
    stripped, of = dcp.without_head(tuned)
    assert stripped.find("nn.linear")[0].out in stripped.outputs and len(tuned.outputs) == 2
    coupling = Coupling(stripped)
    (space,) = [s for s in spaces_of(coupling, Choice()) if s.readers[0] is stripped.find("nn.conv2d")[1]]
    options = dcp.Options(stages=1, epochs=1, lr=1e-3, batch=32, balance=0.7, eps=0.0)
    chooser = dcp.Chooser(tuned, coupling, of, options, Context(train=(x, y), calibration=[x]), stage=0)
    order, taken = chooser.order(space, 1)

    constants = {op.out.name: torch.from_numpy(op.array.copy()) for op in tuned.find("nn.constant")}
    w1, b1, w2, b2 = (constants[v.name] for op in tuned.find("nn.conv2d") for v in (op.w, op.b))
    total = torch.zeros_like(w2)
    for batch in chooser.batches[: dcp.BATCHES]:
        (images,), labels = batch.inputs, batch.labels
        features = F.max_pool2d(F.relu(F.conv2d(images, w1, b1, padding=1)), 2)
        wanted = F.conv2d(features, w2, b2, padding=1)
        w = torch.zeros_like(w2, requires_grad=True)
        got = F.conv2d(features, w, b2, padding=1)
        mean, var, gamma, beta, weight, bias = (constants[f"dcp.head.{n}"] for n in ("mean", "var", "gamma", "beta", "weight", "bias"))
        logits = F.linear(F.relu(F.batch_norm(got, mean, var, gamma, beta)).mean((2, 3)), weight, bias)
        loss = (wanted - got).square().mean() / (2 * wanted.var()) + 0.7 * F.cross_entropy(logits, labels)
        total += torch.autograd.grad(loss, w)[0]
    best = int(total.square().sum((0, 2, 3)).argmax())
    channel = list(coupling.sets(stripped.find("nn.conv2d")[1].w, 1)).index(order[0])
    assert (taken, channel) == (1, best)


@pytest.mark.parametrize("options", ["stages=1", "stages=2 per_layer=uniform reconstruct=false", "eps=0.02"])
def test_stages_meet_the_budget_and_learn(options: str) -> None:
    x, y = shapes(256)
    small = tersor.transform(graph(), f"prune-channels{{macs=0.5 method=dcp {options}}}", train=(x, y), calibration=[x[:64]])
    assert 0 < small.macs() / graph().macs() <= 0.5
    assert accuracy(small) > accuracy(graph())
    assert not [op for op in small.find("nn.constant") if op.out.name.startswith(dcp.HEAD)]
    again = tersor.transform(graph(), f"prune-channels{{macs=0.5 method=dcp {options}}}", train=(x, y), calibration=[x[:64]])
    assert str(again) == str(small)


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ("", {}, "needs training data"),
        ("stages=0", {}, "stages must be at least 1"),
        ("eps=-1", {}, "balance and eps must not be negative"),
        ("", {"train": shapes(64)[0]}, "the training data has none"),
    ],
)
def test_what_it_needs(options: str, data: dict[str, object], message: str) -> None:
    with pytest.raises(TersorError, match=message):
        tersor.transform(graph(), f"prune-channels{{macs=0.5 method=dcp {options}}}", calibration=[shapes(32)[0]], **data)
