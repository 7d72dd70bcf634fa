"""Constants are merged and folded only where their type holds the result: networks at the edges of a type's range, against eager torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pass_cases import c, graph_of, names
from torch import nn as torch_nn

import tersor
from tersor.ir import Const, Graph, Tensor, Value
from tersor.ir import ops as nn
from tersor.passes.folding.affine import held, representable

EDGES = torch.tensor([[0.0, -0.0, 1.0, -3.0, 1e-20, 1e-38, 1e30, -3e37, 3e38, float("inf"), float("nan")]])


class Fn(torch_nn.Module):
    def __init__(self, f: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.f = f

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.f(x)


def unchanged(module: torch_nn.Module, x: torch.Tensor, sums: bool = True) -> Graph:
    """The default passes keep what eager torch gives, infinities and NaN too; sums, relative to the largest. Returns their graph."""
    module = module.eval()
    small = tersor.transform(tersor.trace(module, (x,)), "default")
    with torch.no_grad():
        right = module(x)
    assert not torch.isnan(right).all() and right.any()
    atol = 1e-6 * float(right[torch.isfinite(right)].abs().max()) if sums else 1e-37
    np.testing.assert_allclose(small(x).numpy(), right.numpy(), rtol=1e-5, atol=atol)
    return small


# -- merges ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "left"),
    [
        (lambda x: x * 1e30 * 1e30, 2),
        (lambda x: x * 1e-30 * 1e-30, 2),
        (lambda x: x * 1e-30 * 1e-30 * 1e30 * 1e30, 4),
        (lambda x: x * 1e30 * 1e-30, 2),
        (lambda x: x * 1e-30 * 1e30, 2),
        (lambda x: x / 1e-20 / 1e-20, 2),
        (lambda x: x * 1e20 / 1e-20, 2),
        (lambda x: x / 1e30 / 1e30, 2),
        (lambda x: x + 3e38 + 3e38, 2),
        (lambda x: x + 12582912.0 - 12582912.0, 2),
        (lambda x: (x + 1e10) + -1e10, 2),
        # these merge: neither step loses what the other would keep
        (lambda x: x * 1e10 * 1e10, 1),
        (lambda x: x * 0.1 * 3.0, 1),
        (lambda x: x * 1e-10 * 1e-10, 1),
        (lambda x: x / 4.0 / 2.0, 1),
        (lambda x: x + 1.0 + 2.0, 1),
    ],
)
def test_chains_of_constants(f: Callable[[torch.Tensor], torch.Tensor], left: int) -> None:
    small = unchanged(Fn(f), EDGES, sums=False)
    assert sum(op.name in ("nn.mul", "nn.add", "nn.sub", "nn.div") for op in small) == left


@pytest.mark.parametrize(("elem", "dtype", "factor"), [("f16", "float16", 300.0), ("bf16", None, 1e30), ("f64", "float64", 1e200)])
def test_the_range_is_that_of_the_type(elem: str, dtype: str | None, factor: float) -> None:
    import ml_dtypes

    def build(x: Value) -> Any:
        k = Const(np.asarray(factor, dtype or ml_dtypes.bfloat16)).out
        return nn.Mul(nn.Mul(x, k), k)

    graph = graph_of(build, Tensor((2, 3), elem))
    assert names(tersor.transform(graph, "simplify")) == ["mul", "mul"]
    assert representable(np.float64(factor), elem) and not representable(np.float64(factor) * 1e150, elem)


# -- folds -------------------------------------------------------------------------------------


def normed(layer: Any, weights: float, gamma: float, bias: float = 0.0, var: float = 1.0) -> torch_nn.Module:
    norm = torch_nn.BatchNorm2d(4).eval()
    with torch.no_grad():
        layer.weight *= weights
        norm.weight.fill_(gamma)
        norm.bias.fill_(bias)
        norm.running_var.fill_(var)  # type: ignore[union-attr, operator]
    return torch_nn.Sequential(layer, norm)


def conv() -> torch_nn.Module:
    torch.manual_seed(0)
    return torch_nn.Conv2d(3, 4, 3, bias=False)


def transposed() -> torch_nn.Module:
    torch.manual_seed(0)
    return torch_nn.ConvTranspose2d(3, 4, 3, 2, groups=1, bias=False)


@pytest.mark.parametrize("layer", [conv, transposed])
@pytest.mark.parametrize(
    ("weights", "gamma", "size"),
    [(1e20, 1e25, 1e-10), (1e-20, 1e-25, 1e20), (1e25, 1e20, 1e-30), (1e-30, 1e-15, 1e15)],
)
def test_scales_beyond_the_range_of_the_weights_stay(layer: Callable[[], Any], weights: float, gamma: float, size: float) -> None:
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * size
    small = unchanged(normed(layer(), weights, gamma), x)
    assert len(names(small)) > 1


@pytest.mark.parametrize("layer", [conv, transposed])
@pytest.mark.parametrize(("before", "behind", "size"), [(1e30, 1e30, 1e-35), (1e-25, 1e-25, 1e20), (1e20, 1e20, 1e-10)])
def test_products_around_a_layer_stay_in_its_range(layer: Callable[[], Any], before: float, behind: float, size: float) -> None:
    module = layer()
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * size
    unchanged(Fn(lambda x: module(x * before) * behind), x)


def test_scales_within_the_range_fold() -> None:
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    for weights, gamma in ((1e15, 1e15), (1e-15, 1e-15), (1e30, 1e-30), (1.0, 0.0)):
        assert names(unchanged(normed(conv(), weights, gamma, 1.0), x)) == ["conv2d"]


def test_channels_that_training_has_emptied_fold() -> None:
    """Weights and scale so small that their product is no normal number, next to a bias that hides it."""
    module: Any = normed(conv(), 1.0, 1.0, 1e-3)
    with torch.no_grad():
        module[0].weight[1] *= 1e-30
        module[1].weight[1] = 1e-15
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert names(unchanged(module, x)) == ["conv2d"]


def test_a_norm_alone_stays_where_its_scale_has_no_digits() -> None:
    norm = torch_nn.BatchNorm2d(3).eval()
    with torch.no_grad():
        norm.weight.fill_(1e-37)
        norm.running_var.fill_(1e8)  # type: ignore[union-attr, operator]
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 1e37
    assert names(unchanged(norm, x)) == ["batch_norm"]


def test_rounding_by_a_large_shift_stays() -> None:
    """conv(x) + 3 * 2^22 - 3 * 2^22 rounds to whole numbers."""
    layer = torch_nn.Conv2d(3, 4, 1)
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 4
    small = unchanged(Fn(lambda x: layer(x) + 12582912.0 - 12582912.0), x)
    assert torch.equal(small(x), small(x).round())


def test_held_by_channel() -> None:
    tiny = np.array([[1.0, 1e-41], [1e-41, 1e-42]])
    assert held(tiny[:1], "f32")
    assert not held(tiny, "f32")
    assert held(tiny, "f32", np.array([0.0, 1e-3]))
    assert not held(np.array([[1e39]]), "f32")
    assert held(np.array([[1e39]]), "f64")
    assert held(np.zeros((2, 0)), "f32")
    assert c(1).type.elem == "f32"
