"""Transposed convolutions under pruning: filters of zeros go first and cost nothing, patches are what the layer multiplies, refits repair."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tersor
from tersor.ir import Const, Graph, Value
from tersor.ir.ops import ConvTranspose2d
from tersor.passes.coupling import Coupling, explain
from tersor.passes.prune.spaces import Choice, spaces_of
from tersor.passes.prune.strength import filter_norms, strengths
from tersor.passes.reconstruct.rows import array_of_weights, patches, sample, weights_of

X = torch.randn(12, 4, 6, 6, generator=torch.Generator().manual_seed(1))
ZEROS = [1, 2, 5, 6]


def emptied(layer: Any, zeros: list[int]) -> Any:
    """The layer with filters of zeros, and no bias there."""
    with torch.no_grad():
        if isinstance(layer, nn.ConvTranspose2d):
            per_group, rows = layer.out_channels // layer.groups, layer.in_channels // layer.groups
            for o in zeros:
                group, i = divmod(o, per_group)
                layer.weight[group * rows : (group + 1) * rows, i] = 0
        else:
            layer.weight[zeros] = 0
        if layer.bias is not None:
            layer.bias[zeros] = 0
    return layer


def up(a: int, b: int, groups: int = 1, bias: bool = True) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(a, b, 4, 2, 1, groups=groups, bias=bias)


class UNet(nn.Module):
    """A decoder joined with what its encoder had, in front of a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.out = emptied(nn.Conv2d(4, 8, 3, 2, 1), ZEROS), emptied(up(8, 8), [0, 3, 4, 7]), up(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.down(x))
        return self.out(torch.cat([F.relu(self.up(y)), x], 1))  # type: ignore[no-any-return]


class Gated(nn.Module):
    """Channels times a gate that is made of their means: one that is zero stays zero."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.gate, self.out = emptied(up(4, 8), ZEROS), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 3, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.up(x))
        return self.out(y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True))))  # type: ignore[no-any-return]


def chain(*layers: nn.Module) -> nn.Module:
    """Layers, the last of them `out`."""
    module = nn.Sequential()
    for i, layer in enumerate(layers):
        module.add_module("out" if i == len(layers) - 1 else str(i), layer)
    return module


def uneven(layer: Any) -> Any:
    """Depthwise filters of very unlike norm, large where what comes in is zero."""
    with torch.no_grad():
        layer.weight[ZEROS] *= 50
    return layer


MODELS: dict[str, Callable[[], nn.Module]] = {
    "decoder": lambda: chain(emptied(up(4, 8), ZEROS), nn.ReLU(), up(8, 3)),
    "in front of a depthwise one": lambda: chain(
        emptied(nn.Conv2d(4, 8, 3, 1, 1), ZEROS), nn.ReLU(), uneven(up(8, 8, 8)), nn.ReLU(), nn.Conv2d(8, 3, 3)
    ),
    "depthwise": lambda: chain(nn.Conv2d(4, 8, 3, 1, 1), nn.ReLU(), emptied(up(8, 8, 8), ZEROS), nn.ReLU(), nn.Conv2d(8, 3, 3)),
    "grouped": lambda: chain(emptied(up(4, 8, 2), ZEROS), nn.ReLU(), nn.Conv2d(8, 3, 3)),
    "in front of a grouped one": lambda: chain(emptied(up(4, 8), ZEROS), nn.ReLU(), up(8, 4, 2)),
    "U-Net": UNet,
    "gated": Gated,
}
METHODS = ["method=l1 reconstruct=false", "method=l1", "method=lasso", "method=obs"]


@cache
def traced(name: str) -> tuple[Graph, np.ndarray]:
    torch.manual_seed(0)
    module = MODELS[name]().eval()
    with torch.no_grad():
        return tersor.trace(module, (X,)), module(X).numpy()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_zero_filters_go_first_and_cost_nothing(name: str, method: str) -> None:
    graph, right = traced(name)
    small = tersor.transform(graph, f'prune-channels{{ratio=0.5 per_layer=uniform sample_inputs=false exclude=["out"] {method}}}', calibration=[X])
    assert small.macs() < 0.75 * graph.macs()
    assert np.abs(small(X).numpy() - right).max() < 3e-3 * np.abs(right).max()


@pytest.mark.parametrize("name", ["decoder", "U-Net"])
def test_a_budget_is_spent_on_zero_filters(name: str) -> None:
    graph, right = traced(name)
    small = tersor.transform(graph, 'prune-channels{macs=0.6 exclude=["out"]}', calibration=[X])
    assert small.macs() <= 0.6 * graph.macs()
    assert np.abs(small(X).numpy() - right).max() < 3e-3 * np.abs(right).max()


@pytest.mark.parametrize("layer", [lambda: emptied(up(4, 8, bias=False), ZEROS), lambda: emptied(nn.Conv2d(4, 8, 3, bias=False), ZEROS)])
def test_bn_gamma_takes_constant_channels_first(layer: Callable[[], nn.Module]) -> None:
    """Whatever the gammas of the channels whose filters are zero: they hold one number, which goes into the next bias."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8).eval()
    norm.weight.data[ZEROS] = 9.0
    module = chain(layer(), norm, nn.ReLU(), nn.Conv2d(8, 3, 3)).eval()
    graph = tersor.trace(module, (X,))
    small = tersor.transform(graph, "prune-channels{ratio=0.5 per_layer=uniform method=bn-gamma reconstruct=false}")
    with torch.no_grad():
        torch.testing.assert_close(small(X), module(X), atol=1e-5, rtol=1e-4)


def test_norms_of_filters_by_output_channel() -> None:
    layer = up(6, 4, 2)
    graph = tersor.trace(layer.eval(), (torch.zeros(1, 6, 3, 3),))
    (op,) = graph.find(ConvTranspose2d)
    assert isinstance(op, ConvTranspose2d)
    w = layer.weight.detach().abs().double().numpy()
    expected = [w[:3, 0].sum(), w[:3, 1].sum(), w[3:, 0].sum(), w[3:, 1].sum()]
    np.testing.assert_allclose(filter_norms(op), expected, rtol=1e-6)


def test_a_constant_of_a_bias_is_followed_to_the_gate() -> None:
    """relu(bias) * gate(x) varies, though the filters are zero: such a channel does not count as one that costs nothing."""
    torch.manual_seed(0)
    model = Gated().eval()
    with torch.no_grad():
        model.up.bias[1] = 1.0
    coupling = Coupling(tersor.trace(model, (X,)))
    (space,) = [s for s in spaces_of(coupling, Choice()) if s.producers[0].loc.path == "up"]
    free = space.sets[strengths(coupling, space) == 0]
    labels = coupling.sets(space.producers[0].out, 1)
    assert np.flatnonzero(np.isin(labels, free)).tolist() == [c for c in ZEROS if c != 1]


def test_depthwise_with_a_multiplier_counts_all_its_channels() -> None:
    module = chain(nn.Conv2d(4, 8, 1), nn.ReLU(), up(8, 16, 8), nn.ReLU(), nn.Conv2d(16, 3, 1)).eval()
    found = explain(tersor.trace(module, (X,)))
    assert [(e.channels, e.prunable, e.sets) for e in found[:2]] == [(8, 8, 8), (16, 16, 8)]


# -- patches -----------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_patches_times_weights_are_responses(data: st.DataObject) -> None:
    pair = lambda low, high: data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))  # noqa: E731
    kernel, stride, dilation = pair(1, 4), pair(1, 3), pair(1, 2)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel)]
    # beyond (r + 4) / 2 the result of 5 rows would be empty
    padding = tuple(data.draw(st.integers(0, min(r, (r + 4) // 2))) for r in reach)
    extra = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation))
    groups = data.draw(st.sampled_from([1, 2]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, w, b = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((2, 4, 5, 6), (4, 3, *kernel), (3 * groups,)))
    graph = Graph()
    value: Value = graph.add_input(tersor.ir.Tensor((2, 4, 5, 6), "f64"), "x")
    op = ConvTranspose2d(value, Const(w.numpy()), Const(b.numpy()), stride, padding, extra, dilation, groups)
    y = F.conv_transpose2d(x, w, b, stride, padding, extra, groups, dilation)
    image, pixel = sample(rng, 2, y.shape[2] * y.shape[3], 20)
    parts = [p @ m for p, m in zip(patches(op, x, image, pixel), weights_of(op, w.numpy()), strict=True)]
    np.testing.assert_allclose(np.concatenate(parts, 1) + b.numpy(), y.flatten(2).numpy()[image, :, pixel], atol=1e-12)
    np.testing.assert_array_equal(array_of_weights(op, weights_of(op, w.numpy()), w.shape), w.numpy())


def test_what_lies_outside_is_not_multiplied() -> None:
    """A NaN next to a patch does not spread into it."""
    x = torch.zeros(1, 4, 6, 6)
    x[0, 0, 0, 0] = float("nan")
    (op,) = tersor.trace(up(4, 3).eval(), (x,)).find(ConvTranspose2d)
    assert isinstance(op, ConvTranspose2d)
    (rows,) = patches(op, x, np.zeros(144, np.int64), np.arange(144))
    assert np.isnan(rows).any(axis=1).reshape(12, 12)[:3, :3].all() and np.isnan(rows).any(axis=1).sum() == 9


# -- refits ------------------------------------------------------------------------------------


def test_a_transposed_convolution_is_refitted() -> None:
    """Channels that say nearly the same: the refit finds what the others can give, for each phase of the stride."""
    torch.manual_seed(0)
    module = chain(nn.Conv2d(4, 8, 3, 1, 1), nn.ReLU(), up(8, 3)).eval()
    with torch.no_grad():
        module[0].weight[4:] = module[0].weight[:4] * 1.5  # type: ignore[index]
        module[0].bias[4:] = module[0].bias[:4] * 1.5  # type: ignore[index]
        right = module(X).numpy()
    graph = tersor.trace(module, (X,))
    options = 'ratio=0.5 per_layer=uniform exclude=["out"]'
    got = {m: tersor.transform(graph, f"prune-channels{{{options} {m}}}", calibration=[X])(X).numpy() for m in ("method=obs", "method=lasso")}
    for y in got.values():
        assert np.abs(y - right).max() < 1e-2 * np.abs(right).max()
