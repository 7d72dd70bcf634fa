"""Small integer networks, compiled: equal to the interpreter bit for bit, from a file, in batches, on threads, and nothing is float inside."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from quant_networks import Net, conv
from torch import nn

import tersor
from tersor import TersorError
from tersor.backend.runtime.model import CompiledModel
from tersor.ir.graph import Graph

SIZE = (3, 18, 15)


def layer(c: int, o: int, k: int = 3, act: type[nn.Module] = nn.ReLU, **options: Any) -> nn.Sequential:
    return nn.Sequential(conv(c, o, k, **options), act())


def residual() -> nn.Module:
    """ResNet: stem, pool, a plain block and one with stride and projection, mean, classifier."""
    return Net(
        lambda s, x: s.fc(s.down(s.block(F.max_pool2d(s.stem(x), 3, 2, 1))).mean((2, 3))),
        stem=layer(3, 20, 7, stride=2),
        block=Net(lambda s, x: F.relu(s.b(s.a(x)) + x), a=layer(20, 20), b=conv(20, 20)),
        down=Net(lambda s, x: F.relu(s.b(s.a(x)) + s.c(x)), a=layer(20, 36, stride=2), b=conv(36, 36), c=conv(20, 36, 1, stride=2)),
        fc=nn.Linear(36, 10),
    )


def inverted() -> nn.Module:
    """MobileNetV2: inverted residuals without and with a residual."""

    def block(c: int, o: int, stride: int) -> nn.Module:
        return nn.Sequential(layer(c, 3 * c, 1, nn.ReLU6), layer(3 * c, 3 * c, 3, nn.ReLU6, groups=3 * c, stride=stride), conv(3 * c, o, 1))

    return Net(
        lambda s, x: s.fc(s.head(s.b(s.a(s.stem(x)) + s.b(s.a(s.stem(x))))).mean((2, 3))),
        stem=layer(3, 12, 3, nn.ReLU6, stride=2), a=block(12, 20, 2), b=block(20, 20, 1), head=layer(20, 40, 1, nn.ReLU6), fc=nn.Linear(40, 7),
    )  # fmt: skip


def fire() -> nn.Module:
    """SqueezeNet: two fire modules, whose concats begin and do not begin blocks; a convolution as the classifier."""

    def module(c: int, squeeze: int, o: int) -> nn.Module:
        return Net(lambda s, x: torch.cat([s.b(s.a(x)), s.c(s.a(x))], 1), a=layer(c, squeeze, 1), b=layer(squeeze, o, 1), c=layer(squeeze, o))

    return nn.Sequential(
        layer(3, 24, 3, stride=2), module(24, 10, 16), nn.MaxPool2d(3, 2, ceil_mode=True), module(32, 8, 20), layer(40, 6, 1), nn.AvgPool2d(2)
    )


def shuffle() -> nn.Module:
    """ShuffleNetV2: split, one half through a branch, concat, shuffle."""

    def unit(c: int) -> nn.Module:
        return Net(
            lambda s, x: F.channel_shuffle(torch.cat([x[:, : c // 2], s.b(x[:, c // 2 :])], 1), 2),
            b=nn.Sequential(layer(c // 2, c // 2, 1), conv(c // 2, c // 2, groups=c // 2), layer(c // 2, c // 2, 1)),
        )

    return nn.Sequential(layer(3, 44, 3, stride=2), unit(44), unit(44), layer(44, 8, 1))


def excite() -> nn.Module:
    """MobileNetV3: hard-swish and a squeeze-excite."""
    return Net(
        lambda s, x: s.out(s.deep(s.stem(x)) * F.hardsigmoid(s.up(F.relu(s.down(s.deep(s.stem(x)).mean((2, 3), keepdim=True)))))),
        stem=layer(3, 20, 3, nn.Hardswish, stride=2), deep=layer(20, 20, 5, nn.Hardswish, groups=20), down=conv(20, 8, 1), up=conv(8, 20, 1),
        out=layer(20, 9, 1, nn.Hardswish),
    )  # fmt: skip


def unet() -> nn.Module:
    """U-Net: down, up by a transposed convolution and by nearest neighbours, concat with what was before."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        before = s.a(x)
        low = s.b(F.max_pool2d(before, 2))
        return s.c(torch.cat([F.pad(s.up(low), (0, 1)), before, F.interpolate(low, (18, 15))], 1))  # type: ignore[no-any-return]

    return Net(
        forward,
        a=layer(3, 20), b=layer(20, 24), up=nn.ConvTranspose2d(24, 20, 2, 2), c=conv(64, 4, 1),
    )  # fmt: skip


def grouped() -> nn.Module:
    """ResNeXt: grouped and dilated convolutions, of groups that end within blocks."""
    return nn.Sequential(layer(3, 24), layer(24, 40, groups=8), layer(40, 30, 3, dilation=2, groups=2), nn.Conv2d(30, 5, (1, 3)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {f.__name__: f for f in (residual, inverted, fire, shuffle, excite, unet, grouped)}


def images(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, *SIZE, generator=torch.Generator().manual_seed(seed)) + 0.2


@functools.cache
def integer(name: str) -> Graph:
    torch.manual_seed(len(name))
    graph = tersor.trace(NETWORKS[name]().eval(), (images(1, 0),))
    return tersor.transform(graph, "int8", calibration=[images(4, 1)])


def equal(model: CompiledModel, graph: Graph, count: int) -> None:
    x = images(count, 2)
    np.testing.assert_array_equal(model(x.numpy()), graph(x).numpy())


@pytest.mark.parametrize("name", NETWORKS)
def test_equals_the_interpreter(name: str) -> None:
    """One and three images by one thread; nothing computes in floats but the first quantize, the last dequantize and what follows it."""
    graph = integer(name)
    model = tersor.compile(graph, batch=[1, 3], require="int8")
    equal(model, graph, 1)
    equal(model, graph, 3)
    assert set(model.report.macs) == {"int8"}
    floats = model.report.precision["f32"]
    assert floats["tile.rescale"] == floats["tile.to_float"] == 1
    if name == "residual":
        assert model.entry(1).steps[0].template == "rounded_pack", "images are rounded and packed by one kernel"
        convs = [s.op for s in model.entry(1).steps if "int_conv2d" in s.op]
        assert len(convs) == 6 and all("resc" in op for op in convs), "rounding, residual and clamp are the convolution's epilogue"


@pytest.mark.parametrize(
    ("name", "target", "threads"),
    [("inverted", "cpu", 2), ("fire", "cpu", 2), ("unet", "cpu:x86-64-v2", 2), ("grouped", "cpu:x86-64-v2", 1), ("excite", "cpu:x86-64-v3", 1)],
)
def test_other_targets_and_threads(name: str, target: str, threads: int) -> None:
    equal(tersor.compile(integer(name), target=target, threads=threads, batch=[3], require="int8"), integer(name), 3)


def test_fixed_rounding() -> None:
    torch.manual_seed(0)
    graph = tersor.trace(NETWORKS["excite"]().eval(), (images(1, 0),))
    graph = tersor.transform(graph, "default,quantize{weights=pairs},to-integer{rounding=fixed},canonicalize", calibration=[images(4, 1)])
    model = tersor.compile(graph, target="cpu:x86-64-v3", require="int8")
    equal(model, graph, 1)
    used = {s.params["arithmetic"] for s in model.entry().steps if "arithmetic" in s.params}
    assert used == {"maddubs"}, "weights of pairs never saturate"
    profile = model.profile(rounds=1)
    assert {*profile.integer_peaks} == used and profile.integer_peaks["maddubs"] > 0 and ", maddubs " in profile.summary
    for row in profile.rows:
        peak = profile.integer_peaks["maddubs"] if "arithmetic" in row.params else profile.peak_gflops
        assert row.peak == pytest.approx(row.gflops / peak)


def test_from_a_file_without_torch_and_tvm(tmp_path: Path) -> None:
    graph = integer("residual")
    model = tersor.compile(graph)
    model.save(tmp_path / "net.tso")
    x = images(1, 3).numpy()
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, numpy as np, tersor; m = tersor.load_compiled('net.tso'); np.save('y.npy', m(np.load('x.npy')));"
        "assert 'torch' not in sys.modules and 'tvm' not in sys.modules; print(m.report); m.benchmark(repeat=2); m.profile(rounds=1)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), graph(x))
    assert "int8: 15 ops, " in done.stdout and "MACs (6 tile.int_conv2d" in done.stdout


def test_integers_as_inputs_and_outputs() -> None:
    """A quantized graph without its first quantize and last dequantize takes and gives stored integers."""
    import tersor.ir.ops as o
    from tersor.ir import Const, Tensor, Uniform

    u8, acc = Uniform("u8", (0.5,), (7,)), Uniform("i32", (0.125,), (0,))
    graph = tersor.Graph()
    x = graph.add_input(Tensor((1, 5, 6, 6), u8), "x")
    w = np.random.default_rng(0).integers(-127, 128, (4, 5, 3, 3)).astype(np.int8)
    y = o.QuantConv2d(x, Const(w, Uniform("i8", (0.25,), (0,), qmin=-127)), Const(np.arange(4, dtype=np.int32), acc), padding=(1, 1, 1, 1))
    graph.set_outputs([graph.add(o.Requantize(y, Uniform("u8", (99.0,), (128,))))])
    model = tersor.compile(graph, require="int8")
    data = np.random.default_rng(1).integers(0, 256, (1, 5, 6, 6)).astype(np.uint8)
    got = model(data)
    assert got.dtype == np.uint8 and model.inputs["x"].elem == "u8"
    np.testing.assert_array_equal(got, graph(data))


def test_what_is_float_is_named() -> None:
    """A softmax between convolutions; a layer that was skipped; a network that was not quantized."""
    net = Net(lambda s, x: s.b(F.softmax(s.a(x), 1)), a=conv(3, 20), b=conv(20, 4))
    graph = tersor.trace(net.eval(), (images(1, 0),))
    small = tersor.transform(graph, "int8", calibration=[images(4, 1)])
    with pytest.raises(TersorError, match=r"require='int8': nn.softmax \[.*\] is float: it reads .*quant.dequantize"):
        tersor.compile(small, require="int8")
    with pytest.raises(TersorError, match=r"require='int8': nn.conv2d \[a.*\] \(and 1 more\) is float: it reads .* of the input 'x'"):
        tersor.compile(graph, require="int8")
    model = tersor.compile(small)
    assert model.report.macs == {"int8": small.macs()}
    x = images(1, 2)
    # one step of the last quantize, where the softmax rounds otherwise
    assert float((model(x) - small(x)).abs().max()) <= 0.05 * float(small(x).abs().max())
