"""Integer models on OpenCL, bit for bit: kernels and published networks against numpy loops over int64, small networks against the interpreter."""

from __future__ import annotations

import integer_cases as cases
import integer_oracle as oracle
import integer_zoo
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from opencl_run import compiled, needs_opencl
from quant_networks import Net, conv
from torch import nn

import tersor
from tersor.backend.tile.integer import IntLinear
from tersor.ir.graph import Graph
from tersor.ir.op import Const
from tersor.ir.ops import MaxPool2d
from tersor.ir.types import NUMPY, Tensor

pytestmark = needs_opencl


@pytest.mark.parametrize(("seed", "count"), [(0, 3), *(pytest.param(seed, 8, marks=pytest.mark.slow) for seed in (1, 2))])
def test_convolutions(seed: int, count: int) -> None:
    """Random ones: accumulators of some, others rounded in the same kernel."""
    rng = np.random.default_rng(seed)
    made, graph, expected, outputs = [cases.random_case(rng) for _ in range(count)], Graph(), [], []
    values = [graph.add_input(Tensor(c["x"].shape, "u8" if c["x"].dtype == np.uint8 else "i8"), f"x{i}") for i, c in enumerate(made)]
    for i, (x, case) in enumerate(zip(values, made)):
        acc, wanted = cases.add_conv(graph, x, case), cases.accumulators(case)
        if i % 3:
            scale = rng.uniform(0.5, 1.5, len(case["w"])) * 200 / max(1, np.abs(wanted).max())
            zero, low, high = int(rng.integers(0, 256)), int(rng.integers(0, 100)), int(rng.integers(100, 256))
            acc = graph.add(cases.rescale(acc, scale, zero, low, high))
            wanted = np.stack([oracle.rescale_f32(wanted[:, c], float(np.float32(m)), zero, low, high) for c, m in enumerate(scale)], 1)
        outputs.append(acc)
        expected.append(wanted)
    graph.set_outputs(outputs)
    results = compiled(graph)(*(c["x"] for c in made))
    for got, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("elem", ["u8", "i8"])
def test_pools_and_layers(elem: str) -> None:
    rng, dtype = np.random.default_rng(3), NUMPY[elem]
    limits, graph = np.iinfo(dtype), Graph()
    x, rows = (rng.integers(limits.min, limits.max + 1, shape).astype(dtype) for shape in ((2, 5, 6, 7), (5, 2, 67)))
    image, lines = graph.add_input(Tensor(x.shape, elem), "x"), graph.add_input(Tensor(rows.shape, elem), "rows")
    zero = int(rng.integers(limits.min, limits.max))
    made = [(op, g) for op, g in cases.pools(image, cases.scalar(zero, dtype)) if not isinstance(op, MaxPool2d)]
    outputs = [graph.add(op) for op, _ in made]
    expected = [oracle.sum_pool(x.astype(np.int64), zero, *geometry) for _, geometry in made]
    # a product in tiles, and one of a block of threads for each result
    for n in (21, 90):
        w, b = rng.integers(-127, 128, (n, 67)).astype(np.int8), rng.integers(-999, 999, n)
        acc = graph.add(IntLinear(lines, Const(w), Const(b.astype(np.int32)), zero=cases.scalar(zero, dtype)))
        multiplier = rng.uniform(0.001, 0.01, n).astype(np.float32)
        outputs.append(graph.add(cases.rescale(acc, multiplier, 3, 3, 200)))
        sums = oracle.linear(rows.astype(np.int64), zero, w.astype(np.int64), b)
        expected.append(np.stack([oracle.rescale_f32(sums[..., c], float(m), 3, 3, 200) for c, m in enumerate(multiplier)], -1))
    graph.set_outputs(outputs)
    for got, wanted in zip(compiled(graph)(x, rows), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 14, 11, generator=torch.Generator().manual_seed(count))


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ["f32", "fixed"])
def test_small_network(rounding: str) -> None:
    """A residual, a concat, a depthwise and a transposed convolution, pools and a linear layer."""
    torch.manual_seed(0)
    module = Net(
        lambda s, x: s.fc(s.up(torch.cat([s.c(s.b(s.a(x))) + s.a(x), F.max_pool2d(s.a(x), 3, 1, 1)], 1)).mean((2, 3))),
        a=nn.Sequential(conv(3, 12, stride=2), nn.ReLU()), b=nn.Sequential(conv(12, 12, groups=12), nn.ReLU6()), c=conv(12, 12, 1),
        up=nn.Sequential(nn.ConvTranspose2d(24, 8, 3, 2), nn.ReLU()), fc=nn.Linear(8, 5),
    )  # fmt: skip
    graph = tersor.trace(module.eval(), (images(1),))
    graph = tersor.transform(graph, f"default,quantize,to-integer{{rounding={rounding}}},canonicalize", calibration=[images(4)])
    model = tersor.compile(graph, target="opencl", batch=[3], require="int8")
    assert set(model.report.macs) == {"int8"}
    np.testing.assert_array_equal(model(images(3).numpy()), graph(images(3)).numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name", integer_zoo.NETWORKS)
def test_published_networks(name: str) -> None:
    x, y = integer_zoo.expected(name)
    np.testing.assert_array_equal(tersor.compile(integer_zoo.integer(name), target="opencl", batch=[3], require="int8")(x), y)
