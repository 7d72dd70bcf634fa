"""Quantization-aware training: against torch's own modules for it, and the integer network against the simulation that was trained."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from pass_cases import graph_of
from torch import nn

import tersor
from tersor.ir import Const, Value
from tersor.ir.ops import Fake, FakeConvNorm2d, Relu

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.ao.nn.intrinsic.qat import ConvBn2d
    from torch.ao.quantization import FakeQuantize, MovingAveragePerChannelMinMaxObserver, QConfig

    CONFIG = QConfig(
        activation=nn.Identity,
        weight=FakeQuantize.with_args(
            observer=MovingAveragePerChannelMinMaxObserver,
            quant_min=-127,
            quant_max=127,
            dtype=torch.qint8,
            qscheme=torch.per_channel_symmetric,
            averaging_constant=1.0,
            ch_axis=0,
        ),
    )


class Residual(nn.Module):
    """Norms, a residual sum, a depthwise convolution, a concat of what shares a type, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8))
        self.c = nn.Sequential(nn.Conv2d(16, 12, 1), nn.BatchNorm2d(12), nn.ReLU6())
        self.head = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        z = torch.relu(self.b(y) + y)
        return self.head(self.c(torch.cat([y, z], 1)).mean((2, 3)))


def constant(array: Any, name: str) -> Value:
    op = Const(np.asarray(array, np.float32))
    op.out.name = name
    return op.out


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_with_its_norm_trains_as_torchs(bias: bool) -> None:
    """Values, gradients and running statistics of three steps of SGD; then in evaluation mode."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        eager = ConvBn2d(3, 5, 3, padding=1, bias=bias, eps=1e-3, momentum=0.1, qconfig=CONFIG).train()
    with torch.no_grad():
        eager.bn.weight.copy_(torch.tensor([0.5, -1.0, 2.0, 1.0, 0.1]))
        eager.bn.bias.copy_(torch.linspace(-1, 1, 5))
    names = {"w": "weight", "gamma": "bn.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"} | (
        {"b": "bias"} if bias else {}
    )
    start = {ours: constant(eager.state_dict()[theirs].numpy().copy(), ours) for ours, theirs in names.items()}
    module = tersor.to_torch(graph_of(lambda x: FakeConvNorm2d(x, **start, padding=(1, 1, 1, 1), eps=1e-3), (4, 3, 6, 6))).train()
    trained = [n for n in names if n not in ("mean", "var")]
    assert sorted(n for n, _ in module.named_parameters()) == sorted(trained)
    for _ in range(3):
        x = torch.randn(4, 3, 6, 6)
        y, expected = module(x), eager(x)
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
        for z in (y, expected):
            (z.sin() * torch.linspace(0, 1, 5)[:, None, None]).sum().backward()
        for name in trained:
            ours, theirs = module.get_parameter(name), eager.get_parameter(names[name])
            assert ours.grad is not None and theirs.grad is not None
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)
            with torch.no_grad():
                for p in (ours, theirs):
                    p -= 0.01 * p.grad
                    p.grad = None
        for name in ("mean", "var"):
            torch.testing.assert_close(module.get_buffer(name), eager.get_buffer(names[name]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(module.eval()(x), eager.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def trained() -> tuple[tersor.Graph, tersor.Graph, torch.Tensor]:
    """The float network, the trained simulation, and images."""
    torch.manual_seed(0)
    module = Residual()
    images = torch.nn.functional.interpolate(torch.randn(64, 3, 4, 4), size=(12, 12), mode="bilinear")
    module.train()(images)
    graph = tersor.trace(module.eval(), (images[:1],))
    labels = images.mean((2, 3)).argmax(1)
    pipeline = "trainable,quantize{qat=true},finetune{epochs=2 batch=16 lr=0.01}"
    return graph, tersor.transform(graph, pipeline, calibration=[images], train=(images, labels)), images


def test_the_integer_network_is_the_simulation_that_was_trained(trained: Any) -> None:
    """Biases alone are rounded after training: no result is further off than they explain; the kernels give the interpreter's bits."""
    graph, simulation, images = trained
    assert len(simulation.find(FakeConvNorm2d)) == 3
    integer = tersor.transform(simulation, "to-integer,canonicalize")
    assert tersor.passes.Precision.of(integer).islands == []
    y, z = simulation(images), integer(images)
    assert (y - z).abs().max() < 0.02 * y.abs().max()
    assert (y - z).square().sum() < 1e-4 * y.square().sum()
    for target, threads in (("cpu", 1), ("cpu", 2), ("cpu:x86-64-v3", 1)):
        exe = tersor.compile(simulation, require="int8", batch=[2], target=target, threads=threads)
        assert np.array_equal(exe(images[:2].numpy()), integer(images[:2]).numpy())
    # training changed the network and the ranges that calibration gave
    assert not torch.allclose(graph(images), y, atol=0.01)
    before = tersor.transform(graph, "trainable,quantize{qat=true}", calibration=[images])
    ends = [[float(op.high.op.array) for op in g.find(Fake) if op.high is not None] for g in (before, simulation)]
    assert len(ends[0]) == len(ends[1]) and not np.allclose(*ends, rtol=1e-3)


def test_values_that_share_a_type_share_a_range(trained: Any) -> None:
    """concat(a, b): one low and one high, moved by both."""
    _, simulation, _ = trained
    behind = [f for f in simulation.find(Fake) if f.low is not None and isinstance(f.x.op, Relu)]
    assert len(behind) == 2 and behind[0].low is behind[1].low and behind[0].high is behind[1].high


def test_a_delayed_start_measures_and_rounds_nothing() -> None:
    torch.manual_seed(1)
    module = Residual().eval()
    images, labels = torch.randn(32, 3, 8, 8), torch.arange(32) % 4
    graph = tersor.trace(module, (images[:1],))
    # a pass stands in the place of `quantize`: what training draws depends on where it stands
    step = "finetune{epochs=1 batch=16 optimizer=sgd lr=0.1 quantize_after=%d}"
    pipelines = [f"trainable,{first},{step % 9}" for first in ("quantize{qat=true}", "trainable")]
    late, never = (tersor.transform(graph, p, calibration=[images], train=(images, labels)) for p in pipelines)
    weights = [{o.out.name: o.array for o in g.find("nn.constant")} for g in (late, never)]
    for name in ("head.weight", "a.0.weight", "b.1.running_mean", "c.1.weight"):
        assert np.allclose(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-5), name
    at_once = tersor.transform(graph, f"trainable,quantize{{qat=true}},{step % 0}", calibration=[images], train=(images, labels))
    assert not np.allclose(_weight(at_once), _weight(late), rtol=1e-3, atol=1e-5)


def _weight(graph: tersor.Graph) -> np.ndarray:
    return next(o.array for o in graph.find("nn.constant") if o.out.name == "head.weight")


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("quantize{qat=true weights=pairs}", "qat=true trains weights of 8 bits"),
        ("quantize{qat=true},quantize", "quantized already"),
        ("finetune{quantize_after=-1}", "quantize_after must be at least 0, got -1"),
    ],
)
def test_what_makes_no_sense(pipeline: str, message: str) -> None:
    images = torch.randn(8, 3, 8, 8)
    graph = tersor.trace(Residual().eval(), (images[:1],))
    with pytest.raises(tersor.TersorError, match=message):
        tersor.transform(graph, pipeline, calibration=[images], train=(images, torch.zeros(8).long()))
