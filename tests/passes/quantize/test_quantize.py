"""quantize and to-integer: where pairs stand, which types they have, what is refused, and what odd data gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pass_cases import c, graph_of
from quant_networks import Net, conv, images, networks, traced
from torch import nn

import tersor
from tersor.ir import Const, Graph, TersorError, Uniform
from tersor.ir import ops as o
from tersor.passes import Precision
from tersor.passes.quantize.histogram import Histogram, activation_type, choose_range, squared_error
from tersor.passes.quantize.roles import grid

NETWORKS = networks()


def quantized(module: nn.Module, pipeline: str = "default,quantize", calibration: Any = None) -> Graph:
    return tersor.transform(traced(module), pipeline, calibration=[images()] if calibration is None else calibration)


def types_of(graph: Graph) -> list[Uniform]:
    """Types of activations, in order."""
    return [op.to for op in graph.find(o.Quantize) if isinstance(op, o.Quantize) and not isinstance(op.x.op, Const)]


def sqnr(expected: torch.Tensor, got: torch.Tensor) -> float:
    return 10 * math.log10(float(expected.square().sum() / (got - expected).square().sum()))


# -- where pairs stand -------------------------------------------------------------------------


def small_residual() -> Graph:
    """conv -> relu6 -> conv, plus its input, relu, mean, linear."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return c(*rng.standard_normal(math.prod(shape)).round(1), shape=(math.prod(shape),)).op.array.reshape(shape)

    def build(x: Any) -> Any:
        y = o.Clip(o.Conv2d(x, Const(weights(3, 2, 1, 1)), Const(weights(3))), 0.0, 6.0)
        y = o.Relu(o.Add(x, o.Conv2d(y, Const(weights(2, 3, 3, 3)), None, padding=(1, 1, 1, 1))))
        return o.Linear(o.Mean(y, (2, 3)), Const(weights(2, 2)), Const(weights(2)))

    return graph_of(build, (1, 2, 4, 4))


def test_text(golden: Callable[[str, str], None]) -> None:
    """Before, with pairs, and in integers."""
    graph = small_residual()
    x = np.linspace(-3, 5, 32, dtype=np.float32).reshape(1, 2, 4, 4)
    pairs = tersor.transform(graph, "quantize{range=minmax}", calibration=[x])
    golden("passes/quantize.mlir", f"// before\n{graph}\n// quantize\n{pairs}\n// to-integer\n{tersor.transform(pairs, 'to-integer')}")


def test_the_sum_is_rounded_once() -> None:
    """No pair between a convolution and the add behind it, nor between the add and its relu; of two convolutions the later one is summed."""
    graph = quantized(NETWORKS["residual"])
    (add,) = graph.find(o.Add)
    assert isinstance(add, o.Add)
    assert [isinstance(v.op, o.Conv2d) for v in (add.a, add.b)] == [False, True]
    graph = quantized(NETWORKS["two branches"])
    (add,) = graph.find(o.Add)
    assert isinstance(add, o.Add)
    assert [isinstance(v.op, o.Conv2d) for v in (add.a, add.b)] == [False, True]
    assert isinstance(add.out.users[0], o.Relu)


def test_what_meets_in_a_concat_shares_a_type() -> None:
    graph = quantized(NETWORKS["concat"])
    (cat,) = graph.find(o.Concat)
    assert isinstance(cat, o.Concat)
    elems = {grid(v) for v in cat.xs}
    assert len(cat.xs) == 3 and len(elems) == 1 and None not in elems
    integer = tersor.transform(graph, "to-integer")
    assert not integer.find(o.Requantize) or len(integer.find(o.Concat)) == 1


def test_zero_is_among_the_numbers_of_every_type() -> None:
    for name in ("residual", "tables", "excite"):
        for elem in types_of(quantized(NETWORKS[name])):
            assert elem.range[0] <= elem.zero_points[0] <= elem.range[1]
            assert float(np.float32(elem.scales[0])) == elem.scales[0]


def test_skip_keeps_layers_float_and_says_so() -> None:
    graph = quantized(NETWORKS["classifier"], 'default,quantize{skip=["4"]},to-integer')
    precision = Precision.of(graph)
    (island,) = [r for r in precision.islands if r.macs]
    assert (island.op, island.layer, island.macs) == ("nn.linear", "4", 128 * 16)
    assert "quant.dequantize" in island.reason
    assert "nn.linear [4" in str(precision)
    rows = graph.report["quantize"].layers
    assert [(r.layer, r.precision, r.reason) for r in rows if r.precision == "float"] == [("4", "float", "skip=4")]
    assert all(r.alone > 25 and r.so_far > 25 for r in rows if r.precision == "int8")
    assert "skip=4" in str(rows)


def test_softmax_between_layers_stays_float() -> None:
    net = Net(lambda s, x: s.b(F.softmax(s.a(x), 1)), a=conv(4, 4), b=conv(4, 2))
    small = quantized(net, "int8")
    (island,) = Precision.of(small).islands
    assert island.op == "nn.softmax" and island.between and "quant.dequantize" in island.reason
    assert sqnr(traced(net)(images(4)), small(images(4))) > 25


def test_attention_like_products() -> None:
    def attend(s: Any, x: torch.Tensor) -> torch.Tensor:
        q, k = (layer(x).flatten(2) for layer in (s.a, s.b))
        return s.c((q.transpose(1, 2) @ k).reshape(-1, 1, 64, 64))

    net = Net(attend, a=conv(4, 3, 1), b=conv(4, 3, 1), c=conv(1, 2, 3, stride=4))
    small = quantized(net, "int8")
    assert len(small.find(o.QuantMatmul)) == 1 and Precision.of(small).islands == []
    assert sqnr(traced(net)(images(4)), small(images(4))) > 20


def test_averages_whose_windows_differ_stay_float() -> None:
    net = nn.Sequential(conv(4, 4), nn.AvgPool2d(3, 2, 1, count_include_pad=False), conv(4, 2))
    small = quantized(net, "int8")
    assert [r.op for r in Precision.of(small).islands] == ["nn.avg_pool2d"]


@pytest.mark.parametrize(
    ("middle", "name"),
    [(lambda y: y.mean(0, keepdim=True).expand(y.shape), "nn.mean"), (lambda y: F.pad(y, (1, 1, 1, 1), value=9.0), "nn.pad")],
)
def test_what_a_type_or_a_batch_could_spoil_stays_float(middle: Any, name: str) -> None:
    """A mean over the batch divides by a size that is free; a border of 9 may lie beyond every value seen."""
    net = Net(lambda s, x: s.b(middle(s.a(x))), a=conv(4, 4), b=conv(4, 2))
    small = quantized(net, "int8", [images(1)])
    assert name in [r.op for r in Precision.of(small).islands]
    x = images(1, 3)
    assert sqnr(traced(net)(x), small(x)) > 25


def test_clamps_behind_one_another() -> None:
    """relu, clip and clip at other bounds are one clamp of stored integers."""
    bounds = Net(lambda s, x: s.b(F.hardtanh(F.relu(F.hardtanh(s.a(x), -0.2, 0.4)), -1.0, 0.3)), a=conv(4, 4), b=conv(4, 2))
    pairs = tersor.transform(traced(bounds), "quantize{range=minmax}", calibration=[images()])
    assert len(pairs.find(o.Clip)) == 2 and len(pairs.find(o.Relu)) == 1
    small = tersor.transform(pairs, "to-integer")
    (clamp,) = small.find(o.Requantize)
    assert isinstance(clamp, o.Requantize)
    assert clamp.clamp == (clamp.to.zero_points[0], 255)
    x = images(4, 3)
    assert sqnr(traced(bounds)(x), small(x)) > 30


def test_names_of_weights_stay() -> None:
    small = quantized(NETWORKS["chain"], "int8")
    assert {"0.weight", "0.bias", "2.weight", "2.bias", "4.weight"} <= {op.out.name for op in small if isinstance(op, Const)}


# -- ranges ------------------------------------------------------------------------------------


def test_range_methods() -> None:
    """One outlier in 6,400: minmax covers it, the others do not."""
    x = torch.rand(100, 4, 4, 4)
    x[0, 0, 0, 0] = 100.0
    net = nn.Sequential(conv(4, 2, 1, bias=False), conv(2, 2, 1))
    graph = tersor.trace(net.eval(), (x[:1],))
    scale = {}
    for method in ("minmax", "percentile", "mse"):
        small = tersor.transform(graph, f"default,quantize{{range={method} percentile=99.9}}", calibration=list(x.split(25)))
        scale[method] = types_of(small)[0].scales[0]
    assert scale["minmax"] == pytest.approx(100 / 255, rel=1e-3)
    assert scale["percentile"] == pytest.approx(1 / 255, rel=0.1)
    assert scale["mse"] == pytest.approx(1 / 255, rel=0.1)


@pytest.mark.parametrize("draw", ["laplace", "normal", "exponential", "uniform"])
def test_mse_has_the_least_error_of_the_samples(draw: str) -> None:
    """Judged on the numbers themselves, not on the histogram."""
    x = getattr(np.random.default_rng(0), draw)(size=50_000).astype(np.float32) * 7
    histogram = Histogram()
    for part in np.array_split(x, 7):
        histogram.add(torch.from_numpy(part.copy()))
    assert histogram.counts.sum() == len(x) and (histogram.low, histogram.high) == (x.min(), x.max())
    error = {}
    for method, percentile in (("mse", 100.0), ("minmax", 100.0), ("percentile", 99.9)):
        elem = activation_type(*choose_range(histogram, method, percentile))
        error[method] = squared_error(x.astype(np.float64), np.ones(len(x)), elem)
    assert error["mse"] <= 1.01 * min(error.values())


def test_ranges_do_not_depend_on_how_batches_are_cut() -> None:
    x = images(12)
    a, b = (types_of(quantized(NETWORKS["residual"], calibration=list(x.split(n)))) for n in (12, 5))
    for one, other in zip(a, b, strict=True):
        assert one.zero_points == other.zero_points
        assert one.scales[0] == pytest.approx(other.scales[0], rel=1e-3)


def test_options_by_layer() -> None:
    graph = quantized(NETWORKS["chain"], 'default,quantize{layers={"2": {weights=s7}}}')
    limits = [op.to.range for op in graph.find(o.Quantize) if isinstance(op, o.Quantize) and isinstance(op.x.op, Const)]
    assert limits == [(-127, 127), (-63, 63), (-127, 127)]


def test_one_scale_for_a_tensor() -> None:
    small = quantized(NETWORKS["transposed"], "default,quantize{granularity=tensor},to-integer")
    assert all(op.w.type.elem.axis is None for op in small if hasattr(op, "w"))


# -- odd data ----------------------------------------------------------------------------------


def test_a_channel_of_zeros_gives_its_bias() -> None:
    net = nn.Sequential(conv(4, 3), nn.ReLU(), conv(3, 2))
    with torch.no_grad():
        net[0].weight[1] = 0
        net[0].bias[1] = 0.777
        net[2].weight[0] = 0
        net[2].bias[0] = -1.2345
    small = quantized(net, "int8")
    y = small(images(2))
    torch.testing.assert_close(y[:, 0], torch.full_like(y[:, 0], -1.2345), rtol=1e-5, atol=0)
    assert sqnr(traced(net)(images(2)), y) > 30


def test_tiny_weights_beside_a_large_bias() -> None:
    net = nn.Sequential(conv(4, 3), nn.ReLU(), conv(3, 2))
    with torch.no_grad():
        net[0].weight[1] *= 1e-12
        net[0].bias[1] = 5.0
    assert sqnr(traced(net)(images(2)), quantized(net, "int8")(images(2))) > 30


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-30])
def test_constant_activations(value: float) -> None:
    x = torch.full((2, 4, 8, 8), value)
    net = nn.Sequential(conv(4, 3), conv(3, 2))
    small = quantized(net, "int8", [x])
    torch.testing.assert_close(small(x), traced(net)(x), rtol=0.02, atol=0.02)


def test_one_image() -> None:
    x = images(1)
    assert sqnr(traced(NETWORKS["residual"])(x), quantized(NETWORKS["residual"], "int8", [x])(x)) > 25


def test_large_and_small_channels_of_a_depthwise_layer() -> None:
    """Scales 1000:1 cost nothing, for each channel has its own."""
    net = nn.Sequential(conv(4, 8, 1), nn.ReLU(), conv(8, 8, groups=8), conv(8, 2))
    with torch.no_grad():
        factor = torch.logspace(-1.5, 1.5, 8)
        net[2].weight *= factor.reshape(-1, 1, 1, 1)
        net[2].bias *= factor
        net[3].weight /= factor.reshape(1, -1, 1, 1)
    layers = quantized(net, "default,quantize").report["quantize"].layers
    assert next(r for r in layers if r.layer == "2").alone > 30


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pipeline", "calibration", "message"),
    [
        ("quantize", [], "pass 'quantize' .* needs calibration batches"),
        ("quantize{percentile=12}", None, "percentile must be above 50 and at most 100, got 12"),
        ("quantize{samples=0}", None, "samples must be at least 1, got 0"),
        ('quantize{skip=["9"]}', None, "skip: '9' matches no layer; module paths: 0, 1, 2, 3, 4"),
        ("quantize,quantize", None, "the graph is quantized already"),
        ("to-integer", None, "the graph has no quantize/dequantize pairs: run quantize first"),
        ("correct-bias", None, "run correct-bias after quantize and before to-integer"),
        ('quantize{skip=["*"]}', None, "no operator can run on integers: .*skip=\\*"),
        ("quantize{range=median}", None, "expected one of .*minmax.*, got .median"),
    ],
)
def test_refusals(pipeline: str, calibration: Any, message: str) -> None:
    with pytest.raises(TersorError, match=message):
        quantized(NETWORKS["chain"], pipeline, calibration)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_activations_that_are_no_numbers(value: float) -> None:
    x = images(2)
    x[1, 2, 3, 4] = value
    with pytest.raises(TersorError, match=r"input 'input' holds values from .* on the calibration data; activations must be finite"):
        quantized(NETWORKS["chain"], calibration=[x])
    net = Net(lambda s, x: s.b(torch.log(s.a(x))), a=conv(4, 4), b=conv(4, 4))
    with pytest.raises(TersorError, match=r"nn.log .* holds values from nan to nan on the calibration data"):
        quantized(net)


def test_an_unfolded_norm() -> None:
    net = nn.Sequential(conv(4, 4), nn.BatchNorm2d(4))
    with pytest.raises(TersorError, match=r"nn.batch_norm \[1.*\] is not folded: run fold-bn first"):
        quantized(net, "quantize")
    with pytest.raises(TersorError, match="is not folded: run fold-bn first"):
        quantized(net, "equalize")


def test_an_accumulator_that_could_overflow() -> None:
    net = nn.Linear(80_000, 2, bias=False)
    with torch.no_grad():
        net.weight.fill_(1.0)
    graph = tersor.trace(net.eval(), (torch.ones(1, 80_000),))
    with pytest.raises(TersorError, match=r"nn.linear.*: its accumulator may reach \d+, but i32 ends at 2147483647"):
        tersor.transform(graph, "quantize,to-integer", calibration=[torch.ones(1, 80_000)])
    small = tersor.transform(graph, "quantize{weights=s7},to-integer", calibration=[torch.ones(1, 80_000)])
    assert float(small(torch.ones(1, 80_000))[0, 0]) == pytest.approx(80_000, rel=0.01)
