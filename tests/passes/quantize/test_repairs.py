"""equalize keeps the network, correct-bias keeps its means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from quant_networks import Net, conv, images, networks, traced
from torch import nn

import tersor
from tersor.ir import Graph, TersorError, Uniform
from tersor.ir import ops as o
from tersor.passes.quantize.adaround import descend
from tersor.passes.quantize.correct_bias import significant
from tersor.passes.quantize.spaces import spaces_of
from tersor.passes.reconstruct.moments import Moments


def uneven(act: nn.Module) -> nn.Module:
    """conv, act, depthwise, act, conv whose channels reach 100:1."""
    torch.manual_seed(3)
    net = nn.Sequential(conv(4, 8, 1), act, conv(8, 8, groups=8), act, conv(8, 3, 1))
    with torch.no_grad():
        factor = torch.logspace(-1, 1, 8)
        net[0].weight *= factor.reshape(-1, 1, 1, 1)
        net[0].bias *= factor
        net[2].weight /= factor.flip(0).reshape(-1, 1, 1, 1)
    return net


def noise(graph: Graph, pipeline: str) -> float:
    small = tersor.transform(graph, pipeline, calibration=[images(16)])
    y = graph(images(16, 4))
    return float((small(images(16, 4)) - y).square().mean() / y.square().mean())


@pytest.mark.parametrize("by", ["activations", "weights"])
@pytest.mark.parametrize("act", [nn.ReLU(), nn.Identity(), nn.ReLU6()])
def test_equalize_keeps_the_network(act: nn.Module, by: str) -> None:
    graph = traced(uneven(act))
    after = tersor.transform(graph, f"default,equalize{{by={by} clip_share=0}}", calibration=[images(16)])
    # a clip is no scale's business
    assert (after.report["equalize"].rewrites == {}) == isinstance(act, nn.ReLU6)
    x = images(16)
    torch.testing.assert_close(after(x), graph(x), rtol=1e-4, atol=1e-4)


def test_equalize_makes_int8_better() -> None:
    graph = traced(uneven(nn.ReLU()))
    plain, equal = (noise(graph, f"default,{p}quantize,to-integer") for p in ("", "equalize,"))
    assert equal < 0.8 * plain


def test_equalize_by_weights_makes_one_scale_per_tensor_work() -> None:
    graph = traced(uneven(nn.ReLU()))
    pipeline = "quantize{granularity=tensor},to-integer"
    assert noise(graph, f"default,equalize{{by=weights}},{pipeline}") < 0.8 * noise(graph, f"default,{pipeline}")


def test_equalize_by_weights_makes_ranges_of_channels_equal() -> None:
    graph = tersor.transform(traced(uneven(nn.ReLU())), "default,equalize{by=weights}")
    spaces = spaces_of(graph)
    assert [(len(s.producers), len(s.readers)) for s in spaces] == [(1, 1), (1, 1)]
    for (first,), (second,) in ((s.producers, s.readers) for s in spaces):
        w1, w2 = (np.abs(np.asarray(op.w.op.array)) for op in (first, second))  # type: ignore[union-attr]
        r2 = w2.reshape(len(w2), -1).max(1) if second.depthwise else w2.max((0, 2, 3))
        np.testing.assert_allclose(w1.reshape(len(w1), -1).max(1), r2, rtol=0.02)


def test_a_residual_stream_is_one_space() -> None:
    """Two convolutions make it, three read it; its uneven channels become even, and the network stays what it is."""
    net = Net(
        lambda s, x: s.e((y := s.a(x)) + (z := s.c(torch.relu(s.b(y)))) + s.d(y + z)),
        a=conv(4, 6), b=conv(6, 6), c=conv(6, 6), d=conv(6, 6), e=conv(6, 2),
    )  # fmt: skip
    with torch.no_grad():
        factor = torch.tensor([1.0, 50, 1, 1, 0.1, 1])
        for layer in (net.a, net.c, net.d):
            layer.weight *= factor.reshape(-1, 1, 1, 1)
            layer.bias *= factor
        for layer in (net.b, net.d, net.e):
            layer.weight /= factor.reshape(1, -1, 1, 1)
    graph = traced(net)
    (stream, _) = sorted(spaces_of(graph), key=lambda s: -len(s.producers))
    assert (len(stream.producers), len(stream.readers)) == (3, 3)
    after = tersor.transform(graph, "default,equalize", calibration=[images(16)])
    torch.testing.assert_close(after(images(16)), graph(images(16)), rtol=1e-4, atol=1e-4)
    plain, equal = (noise(graph, f"default,{p}quantize,to-integer") for p in ("", "equalize,"))
    assert equal < 0.1 * plain


def test_equalize_by_weights_removes_a_clip_only_where_it_cuts_little() -> None:
    loose, tight = traced(uneven(nn.Hardtanh(0.0, 1e6))), traced(uneven(nn.Hardtanh(0.0, 0.5)))
    for graph, clips in ((loose, 0), (tight, 2)):
        after = tersor.transform(graph, "default,equalize{by=weights}", calibration=[images(16)])
        assert len(after.find(o.Clip)) == clips


def test_a_clip_needs_data() -> None:
    with pytest.raises(TersorError, match=r"pass 'equalize' .* needs calibration batches"):
        tersor.transform(traced(uneven(nn.ReLU6())), "default,equalize{by=weights}")


@pytest.mark.parametrize("name", ["residual", "two branches", "concat", "excite"])
def test_what_others_read_is_not_scaled(name: str) -> None:
    graph = tersor.transform(traced(networks()[name]), "default")
    x = images(8)
    after = tersor.transform(graph, "equalize", calibration=[x])
    torch.testing.assert_close(after(x), graph(x), rtol=1e-4, atol=1e-4)


# -- correct-bias ------------------------------------------------------------------------------


def shifted() -> Any:
    """Weights whose rounding errors all point one way."""
    torch.manual_seed(0)
    net = Net(lambda s, x: s.c(torch.relu(s.b(torch.relu(s.a(x))))), a=conv(4, 8), b=conv(8, 8), c=conv(8, 4, bias=False))
    with torch.no_grad():
        for layer in (net.a, net.b, net.c):
            scale = layer.weight.abs().amax((1, 2, 3), keepdim=True) / 63
            layer.weight.copy_((torch.floor(layer.weight / scale) + 0.4) * scale)
    return net


def test_correct_bias_restores_the_means() -> None:
    graph = traced(shifted())
    x = [images(32)]
    plain = tersor.transform(graph, "default,quantize{weights=s7},to-integer", calibration=x)
    fixed = tersor.transform(graph, "default,quantize{weights=s7},correct-bias,to-integer", calibration=x)
    fresh = images(32, 11)
    errors = [(g(fresh) - graph(fresh)).mean((0, 2, 3)).abs().max() for g in (plain, fixed)]
    assert errors[1] < 0.3 * errors[0]
    noises = [(g(fresh) - graph(fresh)).square().mean() for g in (plain, fixed)]
    assert noises[1] < noises[0]
    assert fixed.report["correct-bias"].rewrites == {"corrected": 3}


def test_means_that_chance_explains_stay() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((20, 1000))
    assert np.abs(significant(noise)).mean() < 0.5 * np.abs(noise.mean(0)).mean()
    np.testing.assert_allclose(significant(noise + 10), 10, atol=1)
    np.testing.assert_array_equal(significant(np.full((3, 2), 5.0)), 5.0)
    np.testing.assert_array_equal(significant(np.zeros((3, 2))), 0.0)
    np.testing.assert_array_equal(significant(np.full((1, 2), 5.0)), 5.0)


# -- adaround ----------------------------------------------------------------------------------


def test_adaround_is_at_least_as_good_as_every_single_flip() -> None:
    """No one weight flipped to its other neighbour lowers the error on the data; every weight stays next to what it was."""
    rng = np.random.default_rng(0)
    k, m = 12, 5
    x = rng.standard_normal((400, k)) @ rng.standard_normal((k, k))
    w, s = rng.standard_normal((k, m)), np.full(m, 0.25)
    moments = Moments(k, m)
    moments.add(x, x @ w + 3)
    q, flipped = descend(w / s, s, moments, Uniform("i8", (0.25,), (0,), qmin=-127, qmax=127), 1e-9)
    assert flipped > 0
    assert (np.abs(q - w / s) < 1).all()

    def error(q: np.ndarray) -> np.ndarray:
        difference = x @ (w - q * s)
        return np.square(difference - difference.mean(0)).sum(0)  # type: ignore[no-any-return]

    assert (error(q) <= error(np.rint(w / s)) + 1e-6).all()
    for j in range(k):
        other = q.copy()
        other[j] = np.floor(w[j] / s) + np.ceil(w[j] / s) - q[j]
        assert (error(other) >= error(q) - 1e-6).all()


def test_adaround_makes_int8_better() -> None:
    """On images it has not seen, in a network with depthwise and grouped layers; integers stay in range."""
    torch.manual_seed(5)
    net = nn.Sequential(conv(4, 16), nn.ReLU(), conv(16, 16, groups=16), nn.ReLU(), conv(16, 8, 1, groups=2), nn.ReLU(), conv(8, 4))
    graph, x = traced(net), [images(64)]
    found = {}
    for name in ("correct-bias", "adaround"):
        small = tersor.transform(graph, f"default,quantize{{weights=s7}},{name},to-integer", calibration=x)
        y = graph(images(32, 77))
        found[name] = float((small(images(32, 77)) - y).square().mean())
    assert found["adaround"] < 0.9 * found["correct-bias"]
    assert small.report["adaround"].rewrites["rounded"] == 4 and small.report["adaround"].rewrites["flipped"] > 100
    assert all(np.abs(op.w.op.array).max() <= 63 for op in small if op.name == "quant.conv2d")


def test_adaround_needs_pairs() -> None:
    with pytest.raises(TersorError, match="run adaround after quantize and before to-integer"):
        tersor.transform(traced(networks()["chain"]), "adaround", calibration=[images()])
