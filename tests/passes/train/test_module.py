"""to_torch and from_torch against the eager module: values, gradients, batch norm in training, names, and back."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pass_cases import c, graph_of
from torch import nn
from zoo import built, traced, with_batch

import tersor
from tersor.ir import Const
from tersor.ir import ops as irops


class Net(nn.Module):
    """What parameters come in: shared, scalar, scaled, normalized images, weights that are computed, a grouped and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.PReLU())
        self.grouped = nn.Conv2d(8, 8, 3, groups=4)
        self.norm = nn.GroupNorm(2, 8)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2, bias=False)
        self.normed = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 5)
        self.scale = nn.Parameter(torch.rand(8, 1, 1) + 0.5)
        self.v = nn.Parameter(torch.randn(5, 5))
        self.register_buffer("mean", torch.randn(3, 1, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        y = self.stem(x - self.mean)
        y = F.silu(self.norm(self.grouped(self.grouped(y) * self.scale)))
        y = F.relu(self.normed(self.up(y))).mean((2, 3))
        z = self.head(y)
        return z, {"norm": z @ (self.v / self.v.square().sum(1, keepdim=True).sqrt()).t()}


#: Constants that the module holds as buffers.
BUFFERS = {"mean", "stem.1.running_mean", "stem.1.running_var", "normed.running_mean", "normed.running_var"}


def network() -> tuple[nn.Module, tersor.Graph]:
    module = Net().eval()
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.uniform_(m.bias, -1, 1)
    return module, tersor.trace(module, (torch.randn(2, 3, 8, 8),))


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.dtype == b.dtype
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6 * float(b.detach().abs().max()))


@pytest.mark.parametrize("training", [False, True])
def test_values_gradients_and_statistics_are_those_of_torch(training: bool) -> None:
    eager, graph = network()
    module = tersor.to_torch(graph).double().train(training)
    eager.double().train(training)
    for seed in range(2):
        x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for net in (eager, module):
            net.zero_grad()
            z, more = net(x)
            (z.square().sum() + more["norm"].sin().sum()).backward()
        expected, found = eager(x), module(x)
        close(found[0], expected[0])
        close(found[1]["norm"], expected[1]["norm"])
        gradients = {name: p.grad for name, p in module.named_parameters()}
        assert gradients.keys() == {name for name, _ in eager.named_parameters()}
        for name, p in eager.named_parameters():
            assert p.grad is not None and float(p.grad.abs().max()) > 0
            close(gradients[name], p.grad)
        for name in BUFFERS:
            close(module.state_dict()[name], eager.state_dict()[name])


@pytest.mark.parametrize("name", ["efficientnet_b0", "attention", "text"])
def test_networks_of_the_zoo(name: str) -> None:
    """Blocks that are gated and attended, embeddings: the same parameters, with the same gradients."""
    eager, inputs = built(name)
    eager = copy.deepcopy(eager).double()
    module = tersor.to_torch(traced(name)).double()
    given = [x.double() if x.is_floating_point() else x for x in with_batch(inputs, 2)]
    found, expected = module(*given), eager(*given)
    close(found, expected)
    for y in (found, expected):
        y.sin().sum().backward()
    known = dict(eager.named_parameters())
    # a class token that the batch expands is like a constant that normalizes the image
    known.pop("token", None)
    assert {n for n, _ in module.named_parameters()} == known.keys()
    for n, p in known.items():
        assert p.grad is not None
        # a bias in front of a norm has a gradient of rounding alone
        torch.testing.assert_close(module.get_parameter(n).grad, p.grad, rtol=1e-6, atol=1e-6 * max(1e-3, float(p.grad.abs().max())))


def test_names_are_those_of_the_state_dict() -> None:
    eager, graph = network()
    module = tersor.to_torch(graph)
    assert not module.training
    known = {name: value for name, value in eager.state_dict().items() if "num_batches" not in name}
    named = module.state_dict()
    assert all(torch.equal(named[name], value) for name, value in known.items())
    assert {n for n, _ in module.named_buffers()} & known.keys() == BUFFERS
    assert {n for n, _ in module.named_parameters()} == {n for n, _ in eager.named_parameters()}


def test_a_loop_of_ones_own_trains_and_from_torch_writes_back() -> None:
    _, graph = network()
    before = {op.out.name: op.array.copy() for op in graph if isinstance(op, Const)}
    module = tersor.to_torch(graph).train()
    optimizer = torch.optim.SGD(module.parameters(), 0.05)
    x = torch.randn(6, 3, 8, 8)
    for _ in range(2):
        optimizer.zero_grad()
        module(x)[0].square().mean().backward()
        optimizer.step()
    trained = tersor.from_torch(module)
    module.eval()
    torch.testing.assert_close(trained(x)[0], module(x)[0].detach(), rtol=0, atol=0)
    after = {op.out.name: op.array.copy() for op in trained if isinstance(op, Const)}
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {n for n, _ in module.named_parameters()} - {"v"} | BUFFERS - {"mean"}
    assert all(np.array_equal(op.array, before[op.out.name]) for op in graph if isinstance(op, Const)), "the graph itself never changes"
    with torch.no_grad():
        module.get_parameter("head.bias").zero_()
    assert trained.find("nn.linear")[0].b.op.array.any(), "a graph shares no memory with a module that trains on"  # type: ignore[attr-defined]


def test_copies_and_precisions() -> None:
    _, graph = network()
    module = tersor.to_torch(graph)
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.get_parameter("head.bias").add_(1)
    x = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(other(x)[0], module(x)[0] + 1)
    torch.testing.assert_close(module.double()(x)[0].float(), graph(x)[0])
    torch.testing.assert_close(module.bfloat16()(x.bfloat16())[0].float(), graph(x)[0], rtol=0.1, atol=0.1)


def test_names_that_torch_cannot_hold_are_changed() -> None:
    weights = {"a": (4, 4, 1, 1), "a.forward": (4,), "forward": (4, 4, 1, 1), "": (4,)}
    consts = {name: Const(np.random.rand(*shape).astype(np.float32)) for name, shape in weights.items()}
    for name, op in consts.items():
        op.out.name = name
    w, b, v, u = consts.values()
    graph = graph_of(lambda x: irops.Conv2d(irops.Conv2d(x, w, b), v, u), (1, 4, 3, 3))
    module = tersor.to_torch(graph)
    assert len(dict(module.named_parameters())) == 4
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(module(x), graph(x))


def test_bad_input_is_said() -> None:
    _, graph = network()
    module = tersor.to_torch(graph)
    with pytest.raises(tersor.TersorError, match=r"input 'x' of main must be f32\[batch, 3, 8, 8\], got shape \[2, 3, 9, 8\]"):
        module(torch.randn(2, 3, 9, 8))
    with pytest.raises(tersor.TersorError, match="takes 1 inputs"):
        module(torch.randn(2, 3, 8, 8), torch.randn(1))
    with pytest.raises(tersor.TersorError, match="to_torch takes a graph, got Linear; trace"):
        tersor.to_torch(nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(tersor.TersorError, match="from_torch takes a module that to_torch made, got Linear; trace"):
        tersor.from_torch(nn.Linear(2, 2))
    norm = graph_of(lambda x: irops.BatchNorm(x, c(1, 1), c(0, 0), c(0, 0), c(1, 1)), (1, 2, 1, 1))
    with pytest.raises(tersor.VerifyError, match="one value per channel, which has no variance: train with more images"):
        tersor.to_torch(norm).train()(torch.randn(1, 2, 1, 1))
    computed = graph_of(lambda x, m: irops.BatchNorm(x, c(1, 1), c(0, 0), m, c(1, 1)), (4, 2, 1, 1), (2,), batched=False)
    with pytest.raises(tersor.TersorError, match=r"nn.batch_norm .* running statistics that are not constants"):
        tersor.to_torch(computed).train()(torch.randn(4, 2, 1, 1), torch.zeros(2))
