"""raise: written-out operators against the named ones of torch in float64, and look-alikes that must stay."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pass_cases import c, error64, graph_of, names

from tersor.ir import Const
from tersor.ir import ops as nn
from tersor.passes import transform
from tersor.passes.cleanup.raise_ops import Raise

SHAPE = (2, 6, 4, 5)
GAMMA, BETA = (np.random.default_rng(i).uniform(0.5, 2, 20).astype(np.float32) for i in (0, 1))
R = math.sqrt(0.5)


def rows(a: np.ndarray) -> Any:
    return Const(a[:20].reshape(4, 5)).out


def channels(a: np.ndarray) -> Any:
    return Const(a[:6].reshape(6, 1, 1)).out


def tanh_argument(x: Any, cube: Any) -> Any:
    return nn.Mul(nn.Add(x, nn.Mul(cube, c(0.044715))), c(math.sqrt(2 / math.pi)))


def normalized(x: Any, axes: tuple[int, ...] = (2, 3), power: bool = True, divide: bool = True, eps: float = 1e-3) -> Any:
    centered = nn.Sub(x, nn.Mean(x, axes, True))
    again = nn.Sub(x, nn.Mean(x, axes, True))
    square = nn.Pow(again, c(2.0)) if power else nn.Mul(centered, centered)
    inner = nn.Add(nn.Mean(square, axes, True), c(eps))
    return nn.Div(centered, nn.Sqrt(inner)) if divide else nn.Mul(nn.Rsqrt(inner), centered)


def grouped(x: Any) -> Any:
    ones, zeros = c(*[1.0] * 3), c(*[0.0] * 3)
    return nn.Reshape(nn.GroupNorm(nn.Reshape(x, (-1, 3, 40)), ones, zeros, groups=3, eps=1e-3), (-1, 6, 4, 5))


def gelu(x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x)


def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x, approximate="tanh")


def layer(x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, (4, 5), eps=1e-3)


def layer_affine(x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, (4, 5), torch.from_numpy(GAMMA).double().reshape(4, 5), torch.from_numpy(BETA).double().reshape(4, 5), 1e-3)


RAISED: dict[str, tuple[Callable[..., Any], Callable[..., torch.Tensor], str]] = {
    "gelu, halves last": (lambda x: nn.Mul(nn.Mul(x, nn.Add(nn.Erf(nn.Div(x, c(math.sqrt(2)))), c(1.0))), c(0.5)), gelu, "gelu"),
    "gelu, halves first": (lambda x: nn.Mul(nn.Mul(c(0.5), x), nn.Add(c(1.0), nn.Erf(nn.Mul(x, c(R))))), gelu, "gelu"),
    "gelu, halves inside": (lambda x: nn.Mul(x, nn.Mul(nn.Add(nn.Erf(nn.Mul(c(R), x)), c(1.0)), c(0.5))), gelu, "gelu"),
    "gelu by division": (lambda x: nn.Div(nn.Mul(x, nn.Add(nn.Erf(nn.Mul(x, c(R))), c(1.0))), c(2.0)), gelu, "gelu"),
    "gelu tanh, power": (
        lambda x: nn.Mul(nn.Mul(x, c(0.5)), nn.Add(nn.Tanh(tanh_argument(x, nn.Pow(x, c(3.0)))), c(1.0))),
        gelu_tanh,
        "gelu",
    ),
    "gelu tanh, products": (
        lambda x: nn.Mul(nn.Mul(x, nn.Add(nn.Tanh(tanh_argument(x, nn.Mul(nn.Mul(x, x), x))), c(1.0))), c(0.5)),
        gelu_tanh,
        "gelu",
    ),
    "layer norm": (normalized, layer, "layer_norm"),
    "layer norm by rsqrt": (lambda x: normalized(x, power=False, divide=False), layer, "layer_norm"),
    "layer norm with scale and shift": (lambda x: nn.Add(nn.Mul(rows(GAMMA), normalized(x)), rows(BETA)), layer_affine, "layer_norm"),
    "group norm": (grouped, lambda x: F.group_norm(x, 3, eps=1e-3), "group_norm"),
    "group norm with scale and shift": (
        lambda x: nn.Add(nn.Mul(grouped(x), channels(GAMMA)), channels(BETA)),
        lambda x: F.group_norm(x, 3, torch.from_numpy(GAMMA[:6]).double(), torch.from_numpy(BETA[:6]).double(), 1e-3),
        "group_norm",
    ),
}


@pytest.mark.parametrize("name", RAISED)
def test_named(name: str) -> None:
    build, eager, left = RAISED[name]
    graph = graph_of(build, SHAPE)
    raised = transform(graph, [Raise()])
    assert names(raised) == [left]
    x = torch.randn(SHAPE)
    assert error64(eager, graph, [x]) < 1e-6 and error64(eager, raised, [x]) < 1e-6
    assert names(transform(graph, "default")) == [left]


def two(x: Any, y: Any) -> Any:
    return nn.Mul(nn.Mul(x, c(0.5)), nn.Add(nn.Erf(nn.Mul(y, c(R))), c(1.0)))


KEPT: dict[str, tuple[Callable[..., Any], int]] = {
    "erf of another value": (two, 2),
    "another factor": (lambda x: nn.Mul(nn.Mul(x, c(0.25)), nn.Add(nn.Erf(nn.Mul(x, c(R))), c(1.0))), 1),
    "another slope": (lambda x: nn.Mul(nn.Mul(x, c(0.5)), nn.Add(nn.Erf(nn.Mul(x, c(0.7))), c(1.0))), 1),
    "minus one": (lambda x: nn.Mul(nn.Mul(x, c(0.5)), nn.Add(nn.Erf(nn.Mul(x, c(R))), c(-1.0))), 1),
    "another cube": (lambda x: nn.Mul(nn.Mul(x, c(0.5)), nn.Add(nn.Tanh(tanh_argument(x, nn.Pow(x, c(2.0)))), c(1.0))), 1),
    "norm of inner axes": (lambda x: normalized(x, (1, 2)), 1),
    "another square": (lambda x: nn.Div(nn.Sub(x, nn.Mean(x, (3,), True)), nn.Sqrt(nn.Add(nn.Mean(nn.Mul(x, x), (3,), True), c(1e-3)))), 1),
    "eps below zero": (lambda x: normalized(x, eps=-1e-3), 1),
    "an instance norm with a scale": (
        lambda x: nn.Reshape(nn.GroupNorm(nn.Reshape(x, (-1, 3, 40)), c(1.0, 2.0, 1.0), groups=3), (-1, 6, 4, 5)),
        1,
    ),
    "groups across examples": (lambda x: nn.Reshape(nn.GroupNorm(nn.Reshape(x, (1, 12, 20)), groups=12), SHAPE), 1),
}


@pytest.mark.parametrize("name", KEPT)
def test_look_alikes_stay(name: str) -> None:
    build, inputs = KEPT[name]
    graph = graph_of(build, *[SHAPE] * inputs, batched=name != "groups across examples")
    assert sorted(names(transform(graph, [Raise()]))) == sorted(names(graph))


def test_a_norm_that_others_read_keeps_its_own_result() -> None:
    def build(x: Any) -> list[Any]:
        norm = normalized(x).out
        return [nn.Mul(norm, rows(GAMMA)), nn.Exp(norm)]

    assert names(transform(graph_of(build, SHAPE), [Raise()])) == ["layer_norm", "mul", "exp"]
