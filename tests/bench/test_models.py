"""The networks of bench/: multiply-accumulates of the published ones, seeded weights, activations of a sane scale."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tersor.bench.models import GMACS, SEVEN, build
from tersor.bench.more_models import MORE


def gmacs(name: str) -> float:
    """Counted by torch at 224x224 without computing anything."""
    with torch.device("meta"):
        module = (SEVEN | MORE)[name]().eval()
        image = torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(image)
    return float(counter.get_total_flops()) / 2e9


@pytest.mark.parametrize("name", SEVEN)
def test_multiply_accumulates_are_the_published_ones(name: str) -> None:
    assert gmacs(name) == pytest.approx(GMACS[name], rel=0.01)


#: As reported by the papers, in 10^9 (ConvNeXt: 4.5, EfficientNet-B0: 0.39, MobileNetV3: 0.219, DenseNet-121: 2.87, RegNetY-400MF: 0.40).
PUBLISHED = {"densenet121": 2.87, "efficientnet_b0": 0.39, "convnext_tiny": 4.5, "mobilenet_v3_large": 0.219, "regnet_y_400mf": 0.40}


@pytest.mark.parametrize("name", PUBLISHED)
def test_further_networks_are_of_the_published_size(name: str) -> None:
    assert gmacs(name) == pytest.approx(PUBLISHED[name], rel=0.03)


def test_networks_of_odd_geometry_are_what_they_say() -> None:
    with torch.device("meta"):
        dilated, odd = (MORE[name]() for name in ("dilated_resnet18", "odd_resnet18"))
        assert dilated.get_submodule("features")(torch.empty(1, 3, 224, 224)).shape == (1, 512, 28, 28)
    assert {m.dilation for m in dilated.modules() if isinstance(m, torch.nn.Conv2d)} == {(1, 1), (2, 2), (4, 4)}
    assert all(m.weight.shape[0] % 2 for m in odd.modules() if isinstance(m, torch.nn.Conv2d))


def test_weights_depend_on_the_seed_only() -> None:
    first, again, other = build("shufflenetv2", 3), build("shufflenetv2", 3), build("shufflenetv2", 4)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values()))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_built_networks_are_in_evaluation_mode_and_keep_the_scale_of_activations() -> None:
    module = build("mobilenet_v1")
    assert not any(m.training for m in module.modules())
    with torch.no_grad():
        std = float(module(torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))).std())
    assert 0.1 < std < 10


def test_unknown_network() -> None:
    with pytest.raises(ValueError, match=r"unknown network 'resnet19'; known: resnet18, resnet50"):
        build("resnet19")
