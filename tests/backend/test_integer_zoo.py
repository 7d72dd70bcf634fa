"""Published networks in int8 from a file, equal bit for bit to numpy loops over int64 that know nothing of Tersor's operators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from integer_zoo import NETWORKS, expected, images, integer

import tersor
from tersor import TersorError
from tersor.bench import more_models
from tersor.passes import Precision

#: Operators of a compiled network with floats: images are rounded, logits get their scale. No network here has another one.
BOUNDARY = {"tile.rescale", "tile.to_float"}
#: What moves the numbers of images or logits.
MOVES = {"tile.pack", "tile.unpack", "nn.reshape"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_interpreter_equals_the_loops(name: str) -> None:
    x, y = expected(name)
    np.testing.assert_array_equal(integer(name)(x), y)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("target", ["cpu", "cpu:x86-64-v3", "cpu:x86-64-v2"])
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_the_loops(name: str, target: str, threads: int, tmp_path: Path) -> None:
    """One and three images, by a model that was saved and loaded."""
    x, y = expected(name)
    tersor.compile(integer(name), target=target, threads=threads, batch=[1, 3], require="int8").save(tmp_path / "net.tso")
    model = tersor.load_compiled(tmp_path / "net.tso")
    assert set(model.report.macs) == {"int8"}
    floats = model.report.precision["f32"]
    assert set(floats) <= BOUNDARY | MOVES and all(floats[op] == 1 for op in BOUNDARY), floats
    np.testing.assert_array_equal(model(x), y)
    for i in range(3):
        np.testing.assert_array_equal(model(x[i : i + 1]), y[i : i + 1])


@pytest.mark.slow
def test_what_stays_float_is_named() -> None:
    """A U-Net that resizes bilinearly between its convolutions."""
    torch.manual_seed(0)
    graph = tersor.trace(more_models.UNet(8, 2, 2).eval(), (images("unet", 1, 0),))
    small = tersor.transform(graph, "int8", calibration=[images("unet", 4, 1)])
    islands = Precision.of(small).islands
    # a relu in front of it reads what its convolution dequantizes
    assert {row.op for row in islands} - {"nn.relu"} == {"nn.upsample"}
    with pytest.raises(TersorError, match=rf"require='int8': {islands[0].op} \[.*is float"):
        tersor.compile(small, require="int8")
    model = tersor.compile(small)
    assert model.report.macs == {"int8": small.macs()}
