"""fold-affine, fold-pad and simplify against eager torch in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pass_cases import Identity, body, c, check_identity, error64, graph_of, names, refusal

from tersor.ir import Const, Tensor, Value
from tersor.ir import ops as nn
from tersor.ir.rewrite import Rewrite, Trace
from tersor.passes import transform
from tersor.passes.cleanup import simplify as si
from tersor.passes.folding import fold_affine as fa
from tersor.passes.folding import fold_pad as fp

rng = np.random.default_rng(7)


def array(*shape: int) -> np.ndarray:
    return rng.uniform(0.5, 2, shape).astype(np.float32) * rng.choice([-1, 1], shape).astype(np.float32)


W, B, TW, LW, LB, K, S = array(6, 2, 3, 3), array(6), array(4, 3, 3, 3), array(5, 6), array(5), array(6, 1, 1), array(1, 6, 1, 1)
K4, S4 = array(4, 1, 1), array(1, 4, 1, 1)


def t(a: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(a).double()


def k(a: np.ndarray) -> Value:
    return Const(a).out


def conv(x: Any, bias: bool = True, pad: int = 0) -> nn.Conv2d:
    return nn.Conv2d(x, k(W), k(B) if bias else None, padding=(pad,) * 4, groups=2)


def conv_t(x: torch.Tensor, bias: bool = True, pad: int = 0) -> torch.Tensor:
    return F.conv2d(x, t(W), t(B) if bias else None, padding=pad, groups=2)


def deconv(x: Any) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(x, k(TW), stride=(2, 1), groups=2)


def deconv_t(x: torch.Tensor) -> torch.Tensor:
    return F.conv_transpose2d(x, t(TW), stride=(2, 1), groups=2)


IMAGE, FLAT = (1, 4, 6, 5), (1, 3, 6)
FOLDED: list[tuple[Callable[..., Any], Callable[..., torch.Tensor], tuple[int, ...], list[str]]] = [
    (lambda x: nn.Mul(conv(x), k(K)), lambda x: conv_t(x) * t(K), IMAGE, ["conv2d"]),
    (lambda x: nn.Mul(k(K), conv(x, False)), lambda x: conv_t(x, False) * t(K), IMAGE, ["conv2d"]),
    (lambda x: nn.Mul(conv(x), c(-1.5)), lambda x: conv_t(x) * -1.5, IMAGE, ["conv2d"]),
    (lambda x: nn.Add(conv(x, False), k(S)), lambda x: conv_t(x, False) + t(S), IMAGE, ["conv2d"]),
    (lambda x: nn.Sub(conv(x), k(S)), lambda x: conv_t(x) - t(S), IMAGE, ["conv2d"]),
    (lambda x: nn.Sub(k(S), conv(x)), lambda x: t(S) - conv_t(x), IMAGE, ["conv2d"]),
    (lambda x: nn.Div(conv(x), k(S)), lambda x: conv_t(x) / t(S), IMAGE, ["conv2d"]),
    (lambda x: nn.Neg(conv(x)), lambda x: -conv_t(x), IMAGE, ["conv2d"]),
    (lambda x: nn.Add(nn.Mul(conv(x, True, 1), k(K)), k(S)), lambda x: conv_t(x, True, 1) * t(K) + t(S), IMAGE, ["conv2d"]),
    (lambda x: nn.Add(nn.Mul(deconv(x), k(K)), k(S)), lambda x: deconv_t(x) * t(K) + t(S), IMAGE, ["conv_transpose2d"]),
    (lambda x: conv(nn.Mul(x, k(K4)), pad=1), lambda x: conv_t(x * t(K4), pad=1), IMAGE, ["conv2d"]),
    (lambda x: conv(nn.Div(nn.Sub(x, k(S4)), k(K4)), False), lambda x: conv_t((x - t(S4)) / t(K4), False), IMAGE, ["conv2d"]),
    (lambda x: conv(nn.Sub(c(1), x)), lambda x: conv_t(1 - x), IMAGE, ["conv2d"]),
    (lambda x: deconv(nn.Mul(x, k(K4))), lambda x: deconv_t(x * t(K4)), IMAGE, ["conv_transpose2d"]),
    (lambda x: conv(nn.Add(x, k(S4)), pad=1), lambda x: conv_t(x + t(S4), pad=1), IMAGE, ["add", "conv2d"]),
    (lambda x: deconv(nn.Add(x, k(S4))), lambda x: deconv_t(x + t(S4)), IMAGE, ["add", "conv_transpose2d"]),
    (
        lambda x: nn.Add(nn.Mul(nn.Linear(nn.Sub(nn.Mul(x, k(array6)), c(2)), k(LW)), k(LB)), k(LB)),
        lambda x: F.linear(x * t(array6) - 2, t(LW)) * t(LB) + t(LB),
        FLAT,
        ["linear"],
    ),
]
array6 = array(6)


@pytest.mark.parametrize(("build", "eager", "shape", "left"), FOLDED)
def test_affine_folds(build: Callable[..., Any], eager: Callable[..., torch.Tensor], shape: tuple[int, ...], left: list[str]) -> None:
    graph = graph_of(build, shape)
    after = transform(graph, "fold-affine", check=True)
    assert names(after) == left
    for batch in (1, 3):
        assert error64(eager, after.at(batch), [torch.randn(batch, *shape[1:])]) < 1e-6


def test_text(golden: Callable[[str, str], None]) -> None:
    def build(x: Value) -> Any:
        y = nn.Relu(nn.Add(nn.Mul(conv(x), k(K)), k(S)))
        return nn.AvgPool2d(nn.Pad(y, (0, 0, 0, 0, 1, 0, 0, 1)), (2, 2), (2, 2))

    graph = graph_of(build, (1, 4, 6, 6))
    golden("passes/fold_affine.mlir", f"{body(graph)}\n// ->\n{body(transform(graph, 'fold-affine,fold-pad'))}\n")


def read_twice(x: Any) -> list[Any]:
    y = conv(x)
    return [nn.Mul(y, k(K)), y]


def scaled_twice(x: Any) -> list[Any]:
    y = nn.Mul(x, k(K4))
    return [conv(y), y]


def weight_from_input(x: Any) -> Any:
    w = nn.Reshape(nn.Slice(nn.Slice(nn.Slice(x, 3, 0, 1), 2, 0, 1), 0, 0, 1), (4, 1, 1, 1))
    return nn.Mul(nn.Conv2d(x, w, groups=4), k(K4))


@pytest.mark.parametrize(
    ("pattern", "build", "reason"),
    [
        (fa.fold_affine, read_twice, "other readers"),
        (fa.fold_affine_forward, scaled_twice, "other readers"),
        (fa.fold_affine, weight_from_input, "not constant"),
        (fa.fold_affine, lambda x: nn.Mul(conv(x), k(array(3, 3))), "neither one number nor one per channel"),
        (fa.fold_affine, lambda x: nn.Mul(conv(x), k(array(3))), "neither one number nor one per channel"),
        (fa.fold_affine, lambda x: nn.Mul(conv(x), k(array(3, 1, 6, 1, 1))), "changes the shape"),
        (fa.fold_affine, lambda x: nn.Mul(conv(x), conv(nn.Neg(x))), ""),
        (fa.fold_affine, lambda x: nn.Div(c(1), conv(x)), ""),
        (fa.fold_affine, lambda x: nn.Mul(nn.Relu(x), c(2)), ""),
        (fa.fold_affine, lambda x: nn.Div(conv(x), c(0)), "cannot hold"),
        (fa.fold_affine_forward, lambda x: conv(nn.Add(x, k(S4)), pad=1), "pads with zeros"),
        (fa.fold_affine_forward, lambda x: deconv(nn.Add(x, k(S4))), "sums fewer terms"),
        (fa.fold_affine_forward, lambda x: conv(nn.Div(c(1), x)), ""),
        (fa.fold_affine_forward, lambda x: conv(nn.Mul(nn.Mean(x, (1,), True), k(array(1, 4, 1, 1)))), "changes the shape"),
        (fp.pad_into_conv, lambda x: conv(nn.Pad(x, (0,) * 7 + (1,), value=1.0)), "constant 1.0, not by zeros"),
        (fp.pad_into_conv, lambda x: conv(nn.Pad(x, (0,) * 7 + (1,), "reflect")), "reflect"),
        (fp.pad_into_conv, lambda x: conv(nn.Pad(x, (0,) * 7 + (-1,))), "crops"),
        (fp.pad_into_conv, lambda x: nn.Conv2d(nn.Pad(x, (0, 0, 1, 1, 0, 0, 0, 0)), k(array(2, 6, 1, 1))), "batch or channels"),
        (fp.pad_into_avg_pool, lambda x: nn.AvgPool2d(nn.Pad(x, (0,) * 7 + (1,)), (2, 2), (1, 1), (0, 0, 0, 1)), "pads already"),
        (fp.pad_into_avg_pool, lambda x: nn.AvgPool2d(nn.Pad(x, (0,) * 7 + (1,)), (2, 2), (2, 2), ceil_mode=True), "rounds its size up"),
        (fp.pad_into_avg_pool, lambda x: nn.AvgPool2d(nn.Pad(x, (0,) * 7 + (2,)), (2, 2), (2, 2)), "padding alone"),
        (fp.pad_into_avg_pool, lambda x: nn.AvgPool2d(nn.Pad(x, (0,) * 7 + (1,), value=1.0), (2, 2), (2, 2)), "not by zeros"),
    ],
)
def test_refused(pattern: Rewrite, build: Callable[..., Any], reason: str) -> None:
    got = refusal(pattern, build, (2, 4, 5, 5))
    assert reason in got
    assert bool(reason) == bool(got)


def test_integers_are_not_folded() -> None:
    why = Trace()
    graph = graph_of(lambda x: nn.Neg(nn.Add(x, c(1, dtype="int32"))), Tensor((2, 3), "i32"))
    assert transform(graph, "fold-affine", why=why).report[1].rewrites == {}


# -- pads --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "eager", "left"),
    [
        (lambda x: conv(nn.Pad(x, (0, 0, 0, 0, 1, 2, 3, 0)), pad=1), lambda x: conv_t(F.pad(x, (3, 0, 1, 2)), pad=1), ["conv2d"]),
        (
            lambda x: nn.AvgPool2d(nn.Pad(x, (0, 0, 0, 0, 1, 0, 0, 1)), (2, 2), (2, 1)),
            lambda x: F.avg_pool2d(F.pad(x, (0, 1, 1, 0)), 2, (2, 1)),
            ["avg_pool2d"],
        ),
        (
            lambda x: nn.AvgPool2d(nn.Pad(x, (0, 0, 0, 0, 1, 0, 0, 1)), (2, 2), (2, 1), count_include_pad=False),
            lambda x: F.avg_pool2d(F.pad(x, (0, 1, 1, 0)), 2, (2, 1), count_include_pad=False),
            ["avg_pool2d"],
        ),
        (
            lambda x: nn.AvgPool2d(nn.Pad(x, (0, 0, 0, 0, 1, 0, 0, 1)), (2, 2), (2, 1), divisor=3),
            lambda x: F.avg_pool2d(F.pad(x, (0, 1, 1, 0)), 2, (2, 1), divisor_override=3),
            ["avg_pool2d"],
        ),
    ],
)
def test_pads_fold(build: Callable[..., Any], eager: Callable[..., torch.Tensor], left: list[str]) -> None:
    after = transform(graph_of(build, IMAGE), "fold-pad", check=True)
    assert names(after) == left
    for batch in (1, 3):
        assert error64(eager, after.at(batch), [torch.randn(batch, *IMAGE[1:])]) < 1e-12


# -- simplify ----------------------------------------------------------------------------------


def clip6(x: Any) -> nn.Clip:
    return nn.Clip(nn.Add(x, c(3)), 0.0, 6.0)


SIMPLER = [
    Identity(si.add_any_zero, lambda x: nn.Add(x, c(0)), lambda x: x + 0, [], exact=False),
    Identity(si.merge_constants, lambda x: nn.Add(nn.Add(x, c(1)), c(2, shape=(5,))), lambda x: x + 3, ["add"], exact=False),
    Identity(si.merge_constants, lambda x: nn.Mul(nn.Mul(x, c(0.1)), c(3)), lambda x: x * 0.3, ["mul"], exact=False),
    Identity(si.small_power, lambda x: nn.Pow(x, c(2)), lambda x: x.square(), ["mul"], exact=False),
    Identity(si.small_power, lambda x: nn.Pow(x, c(0.5)), lambda x: x.sqrt(), ["sqrt"], exact=False),
    Identity(si.small_power, lambda x: nn.Pow(x, c(-0.5)), lambda x: x.rsqrt(), ["rsqrt"], exact=False),
    Identity(si.divide_by_constant, lambda x: nn.Div(x, c(3, 5, 7, 9, 11)), lambda x: x / torch.tensor([3, 5, 7, 9, 11]), ["mul"], exact=False),
    Identity(si.hard_sigmoid, lambda x: nn.Div(clip6(x), c(6)), F.hardsigmoid, ["hard_sigmoid"], exact=False),
    Identity(si.hard_sigmoid, lambda x: nn.Mul(clip6(x), c(1 / 6)), F.hardsigmoid, ["hard_sigmoid"], exact=False),
    Identity(si.hard_swish, lambda x: nn.Mul(nn.HardSigmoid(x), x), F.hardswish, ["hard_swish"], exact=False),
    Identity(si.hard_swish, lambda x: nn.Div(nn.Mul(x, clip6(x)), c(6)), F.hardswish, ["hard_swish"], exact=False),
]


@pytest.mark.parametrize("case", SIMPLER, ids=lambda case: case.pattern.name)
def test_simpler(case: Identity) -> None:
    check_identity(case)


def test_simplify_text(golden: Callable[[str, str], None]) -> None:
    golden("passes/simplify.mlir", "\n".join(check_identity(case) for case in SIMPLER))


def sum_read_twice(x: Any) -> list[Any]:
    y = nn.Add(x, c(1))
    return [nn.Add(y, c(2)), y]


@pytest.mark.parametrize(
    ("pattern", "build", "reason"),
    [
        (si.add_any_zero, lambda x: nn.Add(x, c(0, shape=(2, 2, 3, 4, 5))), ""),
        (si.add_any_zero, lambda x: nn.Add(x, c(0, 0, 0, 0, 1)), ""),
        (si.merge_constants, lambda x: nn.Add(nn.Mul(x, c(1)), c(2)), ""),
        (si.merge_constants, lambda x: nn.Add(nn.Add(x, x), c(2)), ""),
        (si.merge_constants, lambda x: nn.Add(nn.Add(c(1), c(2)), c(3)), ""),
        (si.merge_constants, sum_read_twice, "other readers"),
        (si.merge_constants, lambda x: nn.Add(nn.Add(x, k(array(4, 1))), k(array(5))), "larger than both"),
        (si.small_power, lambda x: nn.Pow(x, c(3)), ""),
        (si.small_power, lambda x: nn.Pow(x, c(2, shape=(2, 2, 3, 4, 5))), ""),
        (si.divide_by_constant, lambda x: nn.Div(x, c(0)), "not a normal number"),
        (si.divide_by_constant, lambda x: nn.Div(x, c(3e38)), "not a normal number"),
        (si.divide_by_constant, lambda x: nn.Div(c(1), x), ""),
        (si.hard_sigmoid, lambda x: nn.Div(nn.Clip(nn.Add(x, c(3)), 0.0, 5.0), c(6)), ""),
        (si.hard_sigmoid, lambda x: nn.Div(nn.Clip(nn.Add(x, c(2)), 0.0, 6.0), c(6)), ""),
        (si.hard_sigmoid, lambda x: nn.Div(clip6(x), c(5)), ""),
        (si.hard_sigmoid, lambda x: nn.Mul(clip6(x), c(6)), ""),
        (si.hard_swish, lambda x: nn.Mul(nn.HardSigmoid(x), nn.Neg(x)), ""),
        (si.hard_swish, lambda x: nn.Div(nn.Mul(nn.Neg(x), clip6(x)), c(6)), ""),
        (si.hard_swish, lambda x: nn.Div(nn.Mul(x, clip6(x)), c(7)), ""),
    ],
)
def test_not_simpler(pattern: Rewrite, build: Callable[..., Any], reason: str) -> None:
    got = refusal(pattern, build)
    assert reason in got
    assert bool(reason) == bool(got)


def test_the_default_preset_folds_a_normalized_input() -> None:
    """(x/255 - mean) / std in front of an unpadded convolution becomes weights; behind a padded one only its scale does."""
    mean, std = array(3, 1, 1), np.abs(array(3, 1, 1))

    def normalized(x: Value) -> nn.Div:
        return nn.Div(nn.Sub(nn.Div(x, c(255)), k(mean)), k(std))

    w = array(4, 3, 3, 3)
    plain = transform(graph_of(lambda x: nn.Conv2d(normalized(x), k(w)), (1, 3, 8, 8)), "default", check=True)
    assert names(plain) == ["conv2d"]
    assert error64(lambda x: F.conv2d((x / 255 - t(mean)) / t(std), t(w)), plain, [torch.rand(1, 3, 8, 8) * 255]) < 1e-6
    padded = transform(graph_of(lambda x: nn.Conv2d(normalized(x), k(w), padding=(1, 1, 1, 1)), (1, 3, 8, 8)), "default", check=True)
    assert names(padded) == ["mul", "sub", "conv2d"]
    assert math.isfinite(padded.report.rows[-2].error or 0.0)
