"""recalibrate-bn against torch's own cumulative statistics."""

from __future__ import annotations

import pytest
import torch
from prune_cases import trained
from torch import nn

import tersor
from tersor.ir import Const
from tersor.ir.ops import BatchNorm


def module() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4))


def test_statistics_are_those_of_torch() -> None:
    net = trained(module(), (4, 3, 8, 8))
    graph = tersor.trace(net, (torch.randn(1, 3, 8, 8),))
    x = torch.randn(40, 3, 8, 8) * 3 + 5
    small = tersor.transform(graph, "recalibrate-bn", calibration=list(x.split(8)))
    assert small.report["recalibrate-bn"].rewrites == {"recalibrated": 2}
    # one norm after another: the second sees what the first gives with its new statistics
    with torch.no_grad():
        for layer in (net[1], net[4]):
            y = net[: 1 if layer is net[1] else 4](x)
            layer.running_mean.copy_(y.mean((0, 2, 3)))
            layer.running_var.copy_(y.var((0, 2, 3)))
    for norm, layer in zip(small.find(BatchNorm), (net[1], net[4])):
        assert isinstance(norm, BatchNorm) and isinstance(norm.mean.op, Const) and isinstance(norm.var.op, Const)
        torch.testing.assert_close(torch.from_numpy(norm.mean.op.array.copy()), layer.running_mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.from_numpy(norm.var.op.array.copy()), layer.running_var, rtol=1e-4, atol=1e-5)


def test_after_pruning_without_repair_it_helps() -> None:
    net = nn.Sequential(
        *(layer for i in range(4) for layer in (nn.Conv2d(3 if i == 0 else 12, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())), nn.Conv2d(12, 5, 1)
    )
    graph = tersor.trace(trained(net, (64, 3, 8, 8)), (torch.randn(1, 3, 8, 8),))
    x = torch.randn(64, 3, 8, 8)
    plain = "prune-channels{ratio=0.25 method=l1 reconstruct=false per_layer=uniform}"
    y = graph(x)
    errors = [float((tersor.transform(graph, p, calibration=[x])(x) - y).norm() / y.norm()) for p in (plain, f"{plain},recalibrate-bn")]
    assert errors[1] < errors[0]


def test_refusals() -> None:
    graph = tersor.trace(trained(module(), (4, 3, 8, 8)), (torch.randn(1, 3, 8, 8),))
    x = torch.randn(4, 3, 8, 8)
    for pipeline, given, message in (
        ("fold-bn,recalibrate-bn", [x], "run recalibrate-bn before fold-bn"),
        ("recalibrate-bn", None, "needs calibration batches"),
        ("recalibrate-bn{samples=0}", [x], "samples must be at least 1, got 0"),
        ("recalibrate-bn", [torch.randn(4, 3, 9, 9)], r"got shape \[4, 3, 9, 9\]"),
    ):
        with pytest.raises(tersor.TersorError, match=message):
            tersor.transform(graph, pipeline, calibration=given)


def test_one_value_per_channel_has_no_variance() -> None:
    graph = tersor.trace(trained(module(), (4, 3, 5, 5)), (torch.randn(1, 3, 5, 5),))
    with pytest.warns(UserWarning, match=r"1 norm sees one value per channel.*: nn.batch_norm \[4\]"):
        tersor.transform(graph, "recalibrate-bn", calibration=[torch.randn(1, 3, 5, 5)])
