"""image_input: bytes in, the same logits out; with the means inside a convolution or without; in integers from the first byte on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tersor
from tersor.ir import TersorError
from tersor.ir.ops import Cast, Mul

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Two(nn.Module):
    """An input that a convolution reads, and something else."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * x.mean((1, 2, 3), keepdim=True)


def network(padding: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, stride=2, padding=padding, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1), nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)).eval()


def pictures(count: int = 2, size: int = 18) -> np.ndarray:
    """u8 (N, H, W, 3)"""
    smooth = F.interpolate(torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(count)), size=size, mode="bilinear")
    return (smooth * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def normalized(x: np.ndarray, mean: Any = MEAN, std: Any = STD) -> torch.Tensor:
    planes = torch.from_numpy(x).permute(0, 3, 1, 2).double() / 255
    return (planes - torch.tensor(mean).double().reshape(-1, 1, 1)) / torch.tensor(std).double().reshape(-1, 1, 1)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_the_same_logits(padding: int, layout: Any) -> None:
    """Also at the border, where a zero of the normalized image is no byte."""
    module, x = network(padding), pictures()
    graph = tersor.image_input(tersor.trace(module, (torch.zeros(1, 3, 18, 18),)), MEAN, STD, layout=layout)
    assert not graph.find(Mul) and graph.inputs[0].type.elem == "u8"
    with torch.no_grad():
        expected = module.double()(normalized(x))
    given = x if layout == "nhwc" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    for y in (graph(given), tersor.compile(graph, batch=[2])(given)):
        np.testing.assert_allclose(y, expected, atol=2e-5 * float(expected.abs().max()))


def test_an_input_that_is_read_twice_is_scaled_and_shifted() -> None:
    module, x = Two().eval(), pictures()
    graph = tersor.image_input(tersor.trace(module, (torch.zeros(1, 3, 18, 18),)), MEAN, STD)
    with torch.no_grad():
        expected = module.double()(normalized(x))
    np.testing.assert_allclose(graph(x), expected, atol=2e-5 * float(expected.abs().max()))


def test_integers_from_the_first_byte_on() -> None:
    """int8 rounds no image: the only floats are the logits. No worse than int8 of normalized images."""
    module, x, few = network(1), pictures(16), pictures(24)
    plain = tersor.trace(module, (torch.zeros(1, 3, 18, 18),))
    graph = tersor.image_input(plain, MEAN, STD)
    small = tersor.transform(graph, "int8", calibration=[few])
    assert not small.find(Cast) and not small.find("quant.quantize")
    exe = tersor.compile(small, require="int8", batch=[16])
    np.testing.assert_array_equal(exe(x), small(x))
    before = tersor.transform(plain, "int8", calibration=[normalized(few).float()])
    with torch.no_grad():
        expected = module.double()(normalized(x)).numpy()
    noise = [float(np.square(y - expected).sum()) for y in (small(x), before(normalized(x).float()).numpy())]
    assert noise[0] < 2 * noise[1] and noise[0] < 1e-3 * float(np.square(expected).sum())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": (0.5,), "std": STD}, "mean must hold 3 finite numbers"),
        ({"mean": MEAN, "std": (0.2, 0.0, 0.2)}, "std must be above 0"),
        ({"mean": MEAN, "std": STD, "input": "image"}, "one f32 input of rank 4 named 'image'"),
        ({"mean": MEAN, "std": STD, "layout": "chw"}, "layout must be nhwc or nchw"),
    ],
)
def test_what_makes_no_sense(arguments: dict[str, Any], message: str) -> None:
    graph = tersor.trace(network(1), (torch.zeros(1, 3, 18, 18),))
    with pytest.raises(TersorError, match=message):
        tersor.image_input(graph, **arguments)
