"""Whole small networks through the preset: every topology runs on integers, bit for bit as plain numpy loops say, and near the float network."""

from __future__ import annotations

import math
from pathlib import Path

import integer_network as oracle
import numpy as np
import pytest
import torch
from quant_networks import images, networks, traced

import tersor
from tersor.ir import Graph
from tersor.ir.ops.quant import Rounded
from tersor.passes import Precision

NETWORKS = networks()
CALIBRATION = [images()]


def sqnr(expected: torch.Tensor, got: torch.Tensor) -> float:
    return 10 * math.log10(float(expected.square().sum() / (got - expected).square().sum()))


@pytest.fixture(scope="module", params=list(NETWORKS))
def pair(request: pytest.FixtureRequest) -> tuple[str, Graph, Graph]:
    """A network and its integer form."""
    graph = traced(NETWORKS[request.param])
    return request.param, graph, tersor.transform(graph, "int8", calibration=CALIBRATION)


def test_equals_the_loops(pair: tuple[str, Graph, Graph]) -> None:
    _, _, small = pair
    x = images(2, seed=5)
    (expected,) = oracle.run(small.at(2), x.numpy())
    np.testing.assert_array_equal(small(x.numpy()), expected)


def test_is_near_the_float_network(pair: tuple[str, Graph, Graph]) -> None:
    name, graph, small = pair
    x = images(16, seed=7)
    assert sqnr(graph(x), small(x)) > 25, name


def test_runs_on_integers_alone(pair: tuple[str, Graph, Graph]) -> None:
    _, _, small = pair
    precision = Precision.of(small)
    assert precision.islands == []
    assert precision.macs("int8") > 0 and precision.macs("float") == 0
    names = [op.name for op in small.ops]
    assert names.count("quant.quantize") == 1
    assert names.count("quant.dequantize") == 1


def test_is_the_same_from_a_file_and_at_any_batch(pair: tuple[str, Graph, Graph], tmp_path: Path) -> None:
    _, _, small = pair
    small.save(tmp_path / "net.tersor")
    loaded = tersor.load(tmp_path / "net.tersor").verify()
    assert str(loaded) == str(small)
    x = images(3, seed=9)
    torch.testing.assert_close(torch.cat([loaded(x[i : i + 1]) for i in range(3)]), small(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["residual", "excite", "classifier"])
def test_fixed_rounding(name: str) -> None:
    graph = traced(NETWORKS[name])
    small = tersor.transform(graph, "default,quantize,to-integer{rounding=fixed},canonicalize", calibration=CALIBRATION)
    x = images(2, seed=5)
    (expected,) = oracle.run(small.at(2), x.numpy())
    np.testing.assert_array_equal(small(x.numpy()), expected)
    assert sqnr(graph(x), small(x)) > 25
    assert all(op.rounding == "fixed" for op in small if isinstance(op, Rounded))


@pytest.mark.parametrize("name", ["chain", "concat", "transposed"])
@pytest.mark.parametrize("weights", ["pairs", "s7"])
def test_weights_for_maddubs(name: str, weights: str) -> None:
    """Two products of adjacent inputs fit i16 whatever the activations are."""
    graph = traced(NETWORKS[name])
    small = tersor.transform(graph, f"default,quantize{{weights={weights}}},to-integer", calibration=CALIBRATION)
    seen = 0
    for op in small:
        if op.name in ("quant.conv2d", "quant.conv_transpose2d"):
            w = np.asarray(op.w.op.array, np.int64)
            if op.name == "quant.conv_transpose2d":
                c, o, *kernel = w.shape
                w = w.reshape(op.groups, c // op.groups, o, *kernel).swapaxes(1, 2).reshape(-1, c // op.groups, *kernel)
            a, b = w[:, 0::2][:, : w.shape[1] // 2], w[:, 1::2]
            seen += a.size
            for extreme in (np.maximum, np.minimum):
                assert np.abs(255 * (extreme(a, 0) + extreme(b, 0))).max(initial=0) <= 2**15
    assert seen
    assert sqnr(graph(images(8, 3)), small(images(8, 3))) > 22
