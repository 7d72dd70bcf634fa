"""Models as PT2E leaves them, with quantize and dequantize beside the layers, and simulated quantization: torch's integers, on integer kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators
from frontend_checks import agrees
from torch import nn

import tersor

Q = torch.ops.quantized_decomposed
U8, I8, I32 = (0, 255, torch.uint8), (-128, 127, torch.int8), (-(2**31), 2**31 - 1, torch.int32)


class Quantized(nn.Module):
    """Two layers: weights of one scale for each filter, activations of one for the tensor."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.register_buffer("w", torch.from_numpy(rng.integers(-127, 128, (8, 4, 3, 3)).astype(np.int8)))
        self.register_buffer("scales", torch.from_numpy(rng.uniform(0.001, 0.003, 8)))
        self.register_buffer("zeros", torch.zeros(8, dtype=torch.int64))
        self.register_buffer("dense", torch.from_numpy(rng.integers(-127, 128, (5, 8)).astype(np.int8)))
        self.bias, self.tail = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(5))

    def forward(self, x: torch.Tensor) -> Any:
        x = pair(x, 0.02, 121)
        w = Q.dequantize_per_channel(self.w, self.scales, self.zeros, 0, -127, 127, torch.int8)
        y = pair(torch.relu(torch.conv2d(x, w, self.bias, padding=1)), 0.015, 0)
        # a flatten has the scale of what it reads on both sides
        y = pair(pair(torch.nn.functional.adaptive_avg_pool2d(y, 1), 0.01, 0).flatten(1), 0.01, 0)
        dense = Q.dequantize_per_tensor(self.dense, 0.004, 0, -127, 127, torch.int8)
        return pair(torch.nn.functional.linear(y, dense, self.tail), 0.03, 128)


def pair(x: torch.Tensor, scale: float, zero: int) -> torch.Tensor:
    return Q.dequantize_per_tensor(Q.quantize_per_tensor(x, scale, zero, *U8), scale, zero, *U8)


def image(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 4, 9, 9, generator=torch.Generator().manual_seed(1))


def test_a_model_runs_on_integers() -> None:
    """Within one step of torch's floats, which round ties of other sums; by integer kernels alone."""
    torch.manual_seed(0)
    net = Quantized().eval()
    graph = tersor.trace(net, (image(),))
    wanted = net(image())
    assert len(graph.find("quant.quantize")) == 5 and len(graph.find("quant.dequantize")) == 7
    torch.testing.assert_close(graph(image()), wanted, rtol=0, atol=1e-6)
    got = tersor.compile(graph, require="int8")(image())
    steps = ((got - wanted) / 0.03).round()
    assert steps.abs().max() <= 1 and (steps != 0).float().mean() < 0.1


def halves() -> torch.Tensor:
    """Ties, the ends of the range, and what is beyond."""
    return torch.tensor([[-1e9, -64.5, -3.5, -2.5, -0.5, 0.0, 0.5, 1.5, 2.5, 63.5, 64.0, 200.0, 1e9]])


@pytest.mark.parametrize("zero", [0, 3, -128])
def test_integers_are_torchs(zero: int) -> None:
    """Quantized tensors that leave the model: integers, equal in every tie."""

    def both(x: torch.Tensor) -> Any:
        q = Q.quantize_per_tensor(x, 0.5, zero, *I8)
        narrow = Q.quantize_per_tensor(x, 0.5, zero, -7, 7, torch.int8) if zero != -128 else q
        return q, narrow, Q.dequantize_per_tensor(q, 0.5, zero, *I8), Q.quantize_per_tensor(x.clamp(-1e6, 1e6), 0.25, zero, *I32)

    graph = tersor.trace(Calls(both), (halves(),))
    for got in (graph(halves()), tersor.compile(graph)(halves())):
        for g, w in zip(got, both(halves()), strict=True):
            torch.testing.assert_close(g, w, rtol=0, atol=0)


class Calls(nn.Module):
    def __init__(self, function: Any):
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, *xs: torch.Tensor) -> Any:
        return self.function(*xs)


def test_scales_that_are_computed_are_written_out() -> None:
    """Dynamic quantization, and zero points along an axis, which no quantized type has."""

    def dynamic(x: torch.Tensor) -> Any:
        scale = x.abs().amax() / 127
        q = torch.clamp(torch.round(x / scale), -128, 127).to(torch.int8)
        each = Q.quantize_per_channel(x, torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1, 0, -3]), 1, *I8)
        return Q.dequantize_per_tensor.tensor(q, scale, torch.tensor(0), *I8), Q.dequantize_per_channel(
            each, torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1, 0, -3]), 1, *I8
        )

    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    graph = tersor.trace(Calls(dynamic), (x,))
    for got in (graph(x), tersor.compile(graph)(x)):
        for g, w in zip(got, dynamic(x), strict=True):
            torch.testing.assert_close(g, w, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("zero", [0, 3, 128])
def test_fake_quantization(zero: int) -> None:
    """In every tie as torch rounds it."""

    def fake(x: torch.Tensor) -> Any:
        each = torch.fake_quantize_per_channel_affine(x, torch.full((13,), 0.5), torch.full((13,), zero, dtype=torch.int32), 1, 0, 255)
        return torch.fake_quantize_per_tensor_affine(x, 0.5, zero, 0, 255), each

    graph = tersor.trace(Calls(fake), (halves(),))
    for got in (graph(halves()), tersor.compile(graph)(halves())):
        for g, w in zip(got, fake(halves()), strict=True):
            torch.testing.assert_close(g, w, rtol=0, atol=0)


def test_products_of_integers_are_exact() -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-128, 128, s, dtype=torch.int8, generator=rng) for s in ((32, 24), (24, 16)))
    wide = [torch.randint(-(2**62), 2**62, s, generator=rng) for s in ((3, 5), (5, 4))]

    def products(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor) -> Any:
        return torch._int_mm(a, b), a.short() @ b.short(), c @ d, c.int() @ d.int()

    graph = tersor.trace(Calls(products), (a, b, *wide))
    for got in (graph(a, b, *wide), tersor.compile(graph)(a, b, *wide)):
        for g, w in zip(got, products(a, b, *wide), strict=True):
            assert torch.equal(g, w)


def test_grouped_query_attention() -> None:
    def attend(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, k, enable_gqa=True)

    q, k = (torch.randn(1, heads, 5, 8, generator=torch.Generator().manual_seed(heads)) for heads in (6, 2))
    agrees(attend, [q, k])
